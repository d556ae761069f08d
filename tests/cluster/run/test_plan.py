"""The plan: arithmetic of a step, and what a cluster lacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cluster.run import step_metrics
from cluster.run.efficiency import Efficiency, efficiency_of
from cluster.run.plan import FLOAT_BYTES, PROCESS_MB, Plan, Workload
from cluster.run.roles import is_learner
from cluster.runtime.protocol import Call, CallStats, StartError
from cluster.settings import ClusterSettings
from rollouts.messages import GroupMotions, Trajectory
from tests.toys.running.cluster_toys import toy_roles

LOAD = Workload(
    num_prompts=8,
    group_size=16,
    trained_steps=2,
    denoising_steps=10,
    guided=True,
    max_frames=120,
    num_features=263,
    text_elements=384,
    model_parameters=600_000,
    trainable_parameters=50_000,
    num_epochs=2,
    groups_per_optimizer_step=3,
    micro_batch_size=32,
    num_eval_groups=12,
)
ENOUGH = {"CPU": 64.0, "GPU": 8.0, "memory": 1e12, "object_store_memory": 1e12}


def plan(**settings: float) -> Plan:
    return Plan(tuple(toy_roles(ClusterSettings.model_validate(settings))), LOAD)


def test_batch_algebra() -> None:
    assert LOAD.samples == 128 and LOAD.pairs == 256
    # 8 groups in windows of 3: three optimizer steps an epoch.
    assert LOAD.optimizer_steps == 6
    # A window of 3 groups has 3 * 16 * 2 = 96 pairs.
    assert LOAD.micro_batches == 3
    # Four noised states of each final motion in place of two recorded steps.
    final = replace(LOAD, trained_steps=0, noise_draws=4)
    assert final.pairs == 512 and final.micro_batches == 6


def test_message_sizes_are_those_of_the_messages() -> None:
    shape = (LOAD.group_size, LOAD.max_frames, LOAD.num_features)
    features = np.zeros(shape, np.float32)
    lengths = np.zeros(LOAD.group_size, np.int64)
    assert LOAD.motion_bytes == features.nbytes + lengths.nbytes
    states = np.zeros((LOAD.trained_steps, *shape), np.float32)
    log_probs = np.zeros((LOAD.trained_steps, LOAD.group_size), np.float32)
    text = np.zeros((1, LOAD.text_elements), np.float32)
    assert LOAD.trajectory_bytes == 2 * states.nbytes + log_probs.nbytes + text.nbytes
    final = replace(LOAD, trained_steps=0, noise_draws=4)
    assert final.trajectory_bytes == features.nbytes + text.nbytes
    # A field added to a message has to be counted here too.
    assert len(GroupMotions.__dataclass_fields__) == 5 and len(Trajectory.__dataclass_fields__) == 9


def test_a_large_cluster_has_room() -> None:
    plan().check(ENOUGH)
    assert plan().lines(ENOUGH)[-1] == "cluster: has room for this"


def test_missing_cpus_are_counted_and_attributed() -> None:
    crowded = plan(num_rollout_actors=4, cpus_per_rollout_actor=2, cpus_per_reward_actor=1, cpus_per_learner=1)
    assert crowded.num_cpus == 11
    with pytest.raises(StartError, match=r"9 CPU missing: 11 needed \(4 x 2 for rollout, 1 x 1 for reward:near"):
        crowded.check({**ENOUGH, "CPU": 2.0})
    crowded.check({**ENOUGH, "CPU": 11.0})


def test_missing_gpus() -> None:
    shared = plan(num_rollout_actors=2, gpus_per_rollout_actor=0.25, gpus_per_learner=0.5)
    shared.check({**ENOUGH, "GPU": 1.0})
    with pytest.raises(StartError, match=r"1 GPU missing: 1 needed \(2 x 0.25 for rollout, 1 x 0.5 for learner\), 0"):
        shared.check({**ENOUGH, "GPU": 0.0})


def test_missing_memory_and_object_store() -> None:
    store = LOAD.step_bytes
    assert store > LOAD.num_prompts * (LOAD.motion_bytes + LOAD.trajectory_bytes)
    with pytest.raises(StartError, match=r"1\.0 MB object store missing"):
        plan().check({**ENOUGH, "object_store_memory": store - 1e6})
    with pytest.raises(StartError, match=r"memory \(estimated\) missing"):
        plan().check({**ENOUGH, "memory": 1e9})


def test_thirds_of_a_card_add_up() -> None:
    plan(num_rollout_actors=3, gpus_per_rollout_actor=0.3333).check({**ENOUGH, "GPU": 1.0})


def test_the_printed_plan_says_it_all() -> None:
    text = "\n".join(plan(num_rollout_actors=3).lines())
    for part in ("3 x rollout", "8 prompts x 16 samples = 128 motions", "2560 network evaluations", "256 pairs"):
        assert part in text
    assert "6 optimizer step(s) of up to 3 micro-batches of 32 pairs" in text
    assert "trajectory" in text and "8.1 MB" in text


def test_several_learners_share_an_update() -> None:
    one, two = plan(), plan(num_learners=2)
    assert [role.name for role in two.roles if is_learner(role)] == ["learner", "learner:1"]
    assert two.num_cpus - one.num_cpus == 0.5
    of_a_learner = PROCESS_MB * 10**6 + FLOAT_BYTES * (LOAD.model_parameters + 3 * LOAD.trainable_parameters)
    assert two.memory_bytes - one.memory_bytes == of_a_learner
    assert not any("learners" in line for line in one.lines())
    assert [line.split()[:3] for line in two.lines() if "x learner" in line] == [["2", "x", "learner"]]
    assert "  2 learners share the micro-batches of each optimizer step" in two.lines()
    assert "of each optimizer step, and 1 of them have none" in "\n".join(plan(num_learners=4).lines())
    assert step_metrics.at_start(two).keys() == step_metrics.at_start(one).keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_learners": 2, "runtime": "local"}, "num_learners is 2 and runtime local"),
        ({"num_learners": 2, "gpus_per_learner": 0.5}, "gpus_per_learner is 0.5 and num_learners 2"),
        ({"num_learners": 0}, "num_learners"),
    ],
)
def test_several_learners_need_processes_and_cards_of_their_own(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClusterSettings.model_validate(options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ray_address", "somewhere"),
        ("ray_address", "ray://10.0.0.1:10001"),
        ("gpus_per_learner", 1.5),
        ("num_rollout_actors", 0),
        ("call_timeout_s", 0),
        ("runtime", "slurm"),
    ],
)
def test_settings_refuse_what_cannot_be(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        ClusterSettings.model_validate({option: value})


def test_rollouts_made_ahead_take_room_in_the_object_store() -> None:
    ahead = replace(LOAD, staleness=1)
    groups = LOAD.num_prompts * (LOAD.motion_bytes + LOAD.trajectory_bytes)
    assert ahead.step_bytes - LOAD.step_bytes == groups + LOAD.version_bytes
    assert any("staleness 1" in line for line in Plan(plan().roles, ahead).lines())


def test_what_is_known_before_the_first_step() -> None:
    shown = step_metrics.at_start(plan())
    assert shown["bytes/motions"] == LOAD.num_prompts * LOAD.motion_bytes > 0
    assert shown["cluster/rollout_mfu"] == shown["cluster/update_mfu"] == 0
    assert shown["cluster/queue_rollout"] == shown["cluster/queue_near"] == 0
    assert shown["seconds/queue_rollout"] == shown["cluster/restarts"] == shown["cluster/staleness"] == 0
    assert not any(name.startswith(("reward/", "policy/", "evaluation/")) for name in shown)


def test_time_in_the_queue_is_counted_from_when_a_call_could_have_run() -> None:
    def call(role: str, submitted: float, started: float, seconds: float) -> Call:
        stats = CallStats(f"{role}-0", role, 0.0, seconds, 1)
        finished = started + seconds
        return Call(role, "run", (), role, 1, state="done", stats=stats, submitted_at=submitted, finished_at=finished)

    rollouts = [call("rollout", 0.0, 1.0, 2.0), call("rollout", 0.0, 3.0, 2.0)]
    scores = [call("reward:tmr", 0.0, 3.5, 1.0), call("reward:tmr", 0.0, 6.0, 1.0)]
    found = step_metrics.queues((rollout, [score]) for rollout, score in zip(rollouts, scores, strict=True))
    assert found == {
        "seconds/queue_rollout": 2.0,
        "seconds/queue_tmr": 0.75,
        "cluster/queue_rollout": 2,
        "cluster/queue_tmr": 1,
    }


def test_those_that_wait_at_once_are_counted() -> None:
    assert step_metrics.most_at_once([]) == step_metrics.most_at_once([(1.0, 1.0)]) == 0
    assert step_metrics.most_at_once([(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]) == 1
    assert step_metrics.most_at_once([(0.0, 5.0), (1.0, 2.0), (1.5, 3.0), (4.0, 6.0)]) == 3


def test_the_work_of_the_network_is_compared_with_the_speed_of_the_processor() -> None:
    # 128 motions of 120 frames, 10 guided steps; two epochs of 256 guided pairs.
    assert LOAD.rollout_flops == 2 * 600_000 * 120 * 128 * 10 * 2
    assert LOAD.update_flops == 6 * 600_000 * 120 * 256 * 2 * 2
    stats = CallStats("rollout-0", "rollout", 0.0, 0.5, 1)
    calls = [Call("rollout", "run", (), "rollout", 2, state="done", stats=stats) for _ in range(LOAD.num_prompts)]
    other = Call("reward:tmr", "score", (), "reward", 1, state="done", stats=stats)
    found = Efficiency(LOAD, 1e12).of_step([*calls, other], update_seconds=2.0)
    assert found["cluster/rollout_mfu"] == pytest.approx(LOAD.rollout_flops / 4.0 / 1e12)
    assert found["cluster/update_mfu"] == pytest.approx(LOAD.update_flops / 2.0 / 1e12)
    # Half of the groups are half of the work of both.
    half = Efficiency(LOAD, 1e12).of_step(calls[:4], update_seconds=2.0)
    shared = Efficiency(LOAD, 1e12, num_learners=2).of_step([*calls, other], update_seconds=2.0)
    assert shared["cluster/update_mfu"] == found["cluster/update_mfu"] / 2
    assert shared["cluster/rollout_mfu"] == found["cluster/rollout_mfu"]
    assert half["cluster/rollout_mfu"] == pytest.approx(found["cluster/rollout_mfu"])
    assert half["cluster/update_mfu"] == pytest.approx(found["cluster/update_mfu"] / 2)


def test_the_speed_of_the_processor_is_given_or_measured() -> None:
    assert efficiency_of(LOAD, 989.0, 1, 1.0).peak == 989e12
    assert 1e8 < efficiency_of(LOAD, None, 1, 0.0).peak < 1e14
