"""The controller on `LocalRuntime`: learning, order, resuming, rewards that fail, memory."""

from __future__ import annotations

import functools
import gc
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.records.checkpoints import RunDirectoryError
from cluster.run.learner_handle import RunFailed
from cluster.runtime.local import LocalRuntime
from cluster.runtime.protocol import ActorLost, Call, StartError
from cluster.runtime.stopping import Stopped, handled
from rollouts.messages import GroupMotions, PolicyVersion, RolloutRequest
from tests.toys.running import cluster_toys as toys
from tests.toys.running.cluster_runs import ToyRun, final_state, lines, results_of, toy_algorithm

pytestmark = pytest.mark.slow


def test_a_run_learns_and_records_every_step(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run", num_steps=8) as controller:
        result = controller.run()
    assert (result.step, result.policy_version) == (8, 8)
    records = lines(tmp_path / "run/metrics.jsonl")
    updates = [record for record in records if "reward/total" in record]
    evaluations = [record for record in records if "evaluation/total" in record]
    assert [record["step"] for record in updates] == list(range(1, 9))
    assert [record["step"] for record in evaluations] == [0, 2, 4, 6, 8]
    assert evaluations[-1]["evaluation/total"] > evaluations[0]["evaluation/total"] + 0.3
    first = evaluations[0]
    assert first["evaluation/total_low"] <= first["evaluation/total"] <= first["evaluation/total_high"]
    expected = {"reward/near", "reward/small", "policy/grad_norm", "advantage/zero_variance_share", "seconds/rollout"}
    assert expected <= set(updates[0])
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["step_000000006", "step_000000008"]


def test_evaluations_and_checkpoints_are_timed_at_their_step(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run", num_steps=5, eval_every=2, save_interval=3) as controller:
        controller.run()
    records = lines(tmp_path / "run/metrics.jsonl")
    timed = {name: [r["step"] for r in records if f"seconds/{name}" in r] for name in ("evaluation", "checkpoint")}
    assert timed == {"evaluation": [0, 2, 4, 5], "checkpoint": [3, 5]}
    assert all("evaluation/total" in record for record in records if "seconds/evaluation" in record)
    assert all("seconds/update" in record for record in records if "reward/total" in record)


def test_evaluations_keep_every_sample_and_repeat_prompts_and_seeds(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run", num_steps=2) as controller:
        controller.run()
    first, second = lines(tmp_path / "run/evaluations.jsonl")
    assert first["prompts"] == second["prompts"] == ["prompt 0", "prompt 1"]
    assert len(first["total"]) == 2 and len(first["terms"][1]["near"]) == toys.GROUP_SIZE
    assert first["total"] != second["total"]


def test_stopped_and_resumed_is_uninterrupted(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "whole") as controller:
        controller.run()
    with ToyRun(tmp_path / "parts", num_steps=3, save_interval=1) as controller:
        assert controller.run().step == 3
    with ToyRun(tmp_path / "parts", resume=True) as controller:
        assert controller.step == 3
        controller.run()
    assert final_state(tmp_path / "whole") == final_state(tmp_path / "parts")


class _Interrupt(toys.ToyBatches):
    """Ctrl-C when the requests of a step are made."""

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        if step == 3:
            raise KeyboardInterrupt
        return super().requests(step, policy_version)


class _Asked(toys.ToyBatches):
    """SIGTERM when the requests of a step or of an evaluation are made."""

    def __init__(self, step: int | None = None, version: int | None = None) -> None:
        super().__init__()
        self.step, self.version = step, version

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().requests(step, policy_version)

    def evaluation(self, policy_version: int) -> list[RolloutRequest]:
        if policy_version == self.version:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().evaluation(policy_version)


@pytest.mark.parametrize(("asked", "saved"), [(_Asked(step=3), 3), (_Asked(version=2), 2), (_Asked(version=5), 5)])
def test_a_run_that_is_asked_to_end_saves_its_last_step_and_goes_on_to_the_same_bits(
    tmp_path: Path, asked: _Asked, saved: int
) -> None:
    """In rollouts, in an evaluation before the checkpoint is due, and in the last evaluation."""
    with ToyRun(tmp_path / "whole", save_interval=4) as controller:
        controller.run()
    run = ToyRun(tmp_path / "parts", algorithm=toy_algorithm(batches=asked), save_interval=4)
    with pytest.raises(Stopped) as stopped, handled(), run as controller:
        controller.run()
    assert stopped.value.status == 128 + signal.SIGTERM
    assert json.loads((tmp_path / "parts/manifest.json").read_text())["step"] == saved
    with ToyRun(tmp_path / "parts", resume=True, save_interval=4) as controller:
        assert controller.step == saved
        controller.run()
    assert final_state(tmp_path / "whole") == final_state(tmp_path / "parts")
    assert lines(tmp_path / "parts/evaluations.jsonl") == lines(tmp_path / "whole/evaluations.jsonl")


def test_a_run_that_is_asked_to_end_before_its_first_step_saves_nothing(tmp_path: Path) -> None:
    run = ToyRun(tmp_path / "run", algorithm=toy_algorithm(batches=_Asked(step=0)))
    with pytest.raises(Stopped), handled(), run as controller:
        controller.run()
    assert not (tmp_path / "run/manifest.json").exists()


def test_interrupted_between_checkpoints_leaves_no_trace(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "whole") as controller:
        controller.run()
    algorithm = toy_algorithm(batches=_Interrupt())
    with pytest.raises(KeyboardInterrupt), ToyRun(tmp_path / "cut", algorithm=algorithm) as controller:
        controller.run()
    assert results_of(tmp_path / "cut")[-1]["step"] == 3
    with ToyRun(tmp_path / "cut", resume=True) as controller:
        # Checkpoints come every two steps: the third one is made again.
        assert controller.step == 2
        controller.run()
    assert final_state(tmp_path / "whole") == final_state(tmp_path / "cut")
    assert results_of(tmp_path / "whole") == results_of(tmp_path / "cut")
    assert lines(tmp_path / "whole/evaluations.jsonl") == lines(tmp_path / "cut/evaluations.jsonl")


def test_resuming_before_the_first_checkpoint_and_after_the_last_step(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run", resume=True, num_steps=5) as controller:
        controller.run()
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    with ToyRun(tmp_path / "run", resume=True, num_steps=5) as controller:
        result = controller.run()
    assert (result.step, result.evaluation) == (5, {})
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before
    (tmp_path / "run/manifest.json").unlink()
    for folder in ("checkpoints", "best"):
        shutil.rmtree(tmp_path / "run" / folder)
    with ToyRun(tmp_path / "run", resume=True, num_steps=5) as controller:
        assert controller.step == 0
        controller.run()
    assert results_of(tmp_path / "run")[0]["step"] == 0


def failing(folder: Path, scorer: object, **changes: object) -> None:
    """A whole run with one misbehaving reward."""
    with ToyRun(folder, toys.toy_roles(near=scorer), algorithm=toy_algorithm(**changes)) as controller:
        controller.run()


def test_a_reward_that_raises_stops_the_run_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"after 0 steps: reward near of the evaluation.*prompt 1.*simulator exploded"):
        failing(tmp_path / "run", toys.RaisingScorer)


def test_a_reward_that_is_not_finite_stops_the_run_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"'near', prompt 'prompt 1', sample 2"):
        failing(tmp_path / "run", toys.NaNScorer)


def test_values_are_isolated_as_on_ray(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="read-only"):
        failing(tmp_path / "run", toys.WritingScorer)


def test_a_role_that_cannot_be_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"reward:near could not be built: ValueError: tmr.pt: expected a motion"):
        failing(tmp_path / "run", toys.broken)


class _WithoutPromptOne(toys.ToyBatches):
    """The batches without the prompt that fails."""

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        return [request for request in super().requests(step, policy_version) if request.prompt_index != 1]


class _OnlyPromptOne(toys.ToyBatches):
    """The prompt that fails."""

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        return [toys.make_request(step, 1, policy_version)]


@pytest.mark.parametrize("scorer", [toys.RaisingScorer, toys.NaNScorer])
def test_a_bad_reward_drops_its_group_and_is_counted(tmp_path: Path, scorer: type) -> None:
    failing(tmp_path / "drop", scorer, on_reward_error="drop_group")
    failing(tmp_path / "without", toys.NearScorer, batches=_WithoutPromptOne())
    assert final_state(tmp_path / "drop") == final_state(tmp_path / "without")
    updates = [line for line in lines(tmp_path / "drop/metrics.jsonl") if "reward/total" in line]
    assert all(line["cluster/dropped_groups"] == 1 for line in updates)


def test_dropping_all_groups_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="all 1 groups were dropped"):
        failing(tmp_path / "run", toys.RaisingScorer, batches=_OnlyPromptOne(), on_reward_error="drop_group")


def test_a_flaky_reward_is_asked_again(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "steady") as controller:
        controller.run()
    roles = toys.toy_roles(near=functools.partial(toys.FlakyScorer, tmp_path / "flag"))
    with ToyRun(tmp_path / "flaky", roles) as controller:
        controller.run()
        assert controller.runtime.counters.retries == 1
    assert final_state(tmp_path / "steady") == final_state(tmp_path / "flaky")


def test_steps_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run", num_steps=20, eval_every=0, save_interval=20) as controller:
        controller.run()
        gc.collect()
        # Three groups of three calls, the update and the evaluation's: what one step needs, not twenty.
        assert sum(isinstance(thing, Call) for thing in gc.get_objects()) < 30


def test_judge_scores_any_request_and_gives_the_motions(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run") as controller:
        version = controller.runtime.put(controller.final_policy())
        [group] = controller.judge([toys.make_request(99, 0, 0, evaluate=True)], version)
        motions = controller.motions(group)
    assert motions.features.shape == (toys.GROUP_SIZE, toys.NUM_FRAMES, toys.NUM_FEATURES)
    assert group.rewards.total.shape == (toys.GROUP_SIZE,)


def test_the_last_evaluation_is_kept_and_is_what_judge_would_say(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run") as controller:
        assert controller.final_groups == []
        controller.run()
        final = controller.final_policy()
        requests = toys.ToyBatches().evaluation(final.number)
        again = controller.judge(requests, controller.runtime.put(final))
        assert len(controller.final_groups) == len(again) > 0
        for kept, judged in zip(controller.final_groups, again, strict=True):
            assert kept.rewards.total.tolist() == judged.rewards.total.tolist()
            assert np.array_equal(controller.motions(kept).features, controller.motions(judged).features)
    with ToyRun(tmp_path / "run", resume=True) as controller:
        controller.run()
        assert controller.final_groups == []  # they were made in another process


class _LosingRuntime(LocalRuntime):
    """The learner dies in the first calls of some method, as on Ray; later ones succeed."""

    def __init__(self, deaths: dict[str, int]) -> None:
        super().__init__()
        self.deaths = dict(deaths)

    def submit(self, role: str, method: str, *args: Any, num_outputs: int = 1, label: str = "") -> Call:
        if self.deaths.get(method, 0) == 0:
            return super().submit(role, method, *args, num_outputs=num_outputs, label=label)
        self.deaths[method] -= 1
        call = Call(role, method, args, label, num_outputs)
        call.failure, call.state = ActorLost(f"learner-0 was lost in {label}"), "failed"
        return call


def test_a_learner_that_dies_at_the_start_or_the_end_is_built_again(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "whole") as controller:
        controller.run()
        whole = controller.final_policy()
    with ToyRun(tmp_path / "new", runtime=functools.partial(_LosingRuntime, {"publish": 2}), num_steps=3) as controller:
        controller.run()
    with ToyRun(tmp_path / "new", runtime=functools.partial(_LosingRuntime, {"load": 1}), resume=True) as controller:
        assert controller.step == 3
        controller.run()
        assert isinstance(controller.runtime, _LosingRuntime)
        controller.runtime.deaths["evaluation"] = 1
        final = controller.final_policy()
    assert final_state(tmp_path / "whole") == final_state(tmp_path / "new")
    assert final.number == whole.number
    assert final.weights["centre"].tolist() == whole.weights["centre"].tolist()


def test_a_learner_that_keeps_dying_at_the_start_or_the_end_fails_the_run(tmp_path: Path) -> None:
    lost = ToyRun(tmp_path / "start", runtime=functools.partial(_LosingRuntime, {"publish": 9}))
    with pytest.raises(RunFailed, match="after 0 steps: the learner died 3 times here: learner-0 was lost in"), lost:
        pass
    with ToyRun(tmp_path / "run", runtime=functools.partial(_LosingRuntime, {}), num_steps=2) as controller:
        controller.run()
        assert isinstance(controller.runtime, _LosingRuntime)
        controller.runtime.deaths["evaluation"] = 9
        with pytest.raises(RunFailed, match="after 2 steps: the learner died 3 times here: learner-0 was lost in"):
            controller.final_policy()
    late = ToyRun(tmp_path / "run", runtime=functools.partial(_LosingRuntime, {"load": 9}), num_steps=4, resume=True)
    with pytest.raises(RunFailed, match="after 2 steps: the learner died 3 times here: learner-0 was lost in"), late:
        pass


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run", num_steps=2) as controller:
        controller.run()
    manifest = tmp_path / "run/manifest.json"
    manifest.write_text(manifest.read_text().replace('"policy_version": 2', '"policy_version": 9'))
    again = ToyRun(tmp_path / "run", num_steps=4, resume=True)
    with pytest.raises(RunFailed, match="policy version 2, the manifest says 9"), again:
        pass


def test_other_options_are_refused_at_resume(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run", num_steps=2) as controller:
        controller.run()
    changed = {"num_steps": 4, "resume": True, "learning_rate": 3.0}
    refused = ToyRun(tmp_path / "run", **changed)
    with pytest.raises(RunDirectoryError, match=r"learning_rate was 2.0, is 3.0.*--allow_changed"), refused:
        pass
    with ToyRun(tmp_path / "run", allow_changed=("learning_rate",), **changed) as controller:
        controller.run()
    assert (tmp_path / "run/config_until_step_000000002.yaml").is_file()


def test_the_export_gets_the_evaluated_weights(tmp_path: Path) -> None:
    def export(version: PolicyVersion, folder: Path) -> None:
        (folder / "centre.txt").write_text(f"{version.number} {version.weights['centre'].tolist()}")

    with ToyRun(tmp_path / "run", num_steps=2, algorithm=toy_algorithm(export=export)) as controller:
        controller.run()
    exported = (tmp_path / "run/checkpoints/step_000000002/centre.txt").read_text()
    assert exported == f"2 {final_state(tmp_path / 'run')['centre']}"


def test_after_an_evaluation_the_job_is_told(tmp_path: Path) -> None:
    told: list[int] = []
    with ToyRun(tmp_path / "run", algorithm=toy_algorithm(after_evaluation=told.append)) as controller:
        controller.run()
    assert told == [0, 2, 4, 5]


def test_an_evaluation_may_end_the_run_and_it_can_go_on(tmp_path: Path) -> None:
    def ends(step: int) -> bool:
        return step == 2

    with ToyRun(tmp_path / "run", algorithm=toy_algorithm(after_evaluation=ends)) as controller:
        assert controller.run().step == 2
        assert controller.final_policy().number == 2
    with ToyRun(tmp_path / "run", resume=True) as controller:
        assert controller.run().step == 5
    with ToyRun(tmp_path / "whole") as controller:
        controller.run()
    assert final_state(tmp_path / "run") == final_state(tmp_path / "whole")


def test_evaluations_record_what_is_measured_beside_rewards(tmp_path: Path) -> None:
    def beside(motions: GroupMotions) -> dict[str, np.ndarray]:
        return {"height": np.full(len(motions.lengths), 2.0)}

    with ToyRun(tmp_path / "run", num_steps=2, algorithm=toy_algorithm(beside_rewards=beside)) as controller:
        controller.run()
    evaluations = [json.loads(line) for line in (tmp_path / "run/evaluations.jsonl").read_text().splitlines()]
    assert all(term["height"] == [2.0] * toys.GROUP_SIZE for term in evaluations[-1]["terms"])
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["evaluation/height"] for line in lines if "evaluation/total" in line] == [2.0, 2.0]
    assert not any("reward/height" in line for line in lines)


def test_motions_that_no_policy_made_have_rewards_too(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run") as controller:
        version = controller.runtime.put(controller.final_policy())
        [group] = controller.judge([toys.make_request(99, 0, 0, evaluate=True)], version)
        [mixed] = controller.score([controller.motions(group)], "some motions")
    assert mixed is not None
    assert mixed.total.tolist() == group.rewards.total.tolist()


def test_the_trace_has_every_call(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run", num_steps=2, trace=True) as controller:
        controller.run()
    events = json.loads((tmp_path / "run/trace.json").read_text())["traceEvents"]
    assert sum(event["tid"] == "rollout" for event in events) == 3 * 2 + 2 * 2
    assert all(event["dur"] >= 0 and event["ph"] == "X" for event in events)
