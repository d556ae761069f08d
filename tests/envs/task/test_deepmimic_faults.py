"""Faults of yelongshen/DeepMimic_mujoco, each with a test that would have caught it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from envs.body.joint_coordinates import COORDINATES
from envs.body.mujoco_import import mujoco
from envs.body.mujoco_model import build_humanoid
from envs.body.state import KinematicsReader
from envs.mujoco.vector_environment import make_vector_env
from envs.settings import DeepMimicSettings, HumanoidSettings
from envs.task.imitation_task import EpisodeStarts, ImitationTask
from envs.task.reference import ReferenceMotion
from learners.trpo.gae import advantages_and_returns
from learners.trpo.learner import TRPOLearner
from learners.trpo.settings import TRPOSettings
from motions.humanoid.mocap import load_clip
from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig, load_controller, save_controller
from rollouts.control.environments import make_control_env
from rollouts.control.vector_sampler import VectorSampler, spaces_of
from rollouts.gaussians import action_kl
from tests.toys.characters.control_toys import HORIZON, ReachVectorEnv

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


# 4. Cloning normalised without the clamp that inference used; the clone's file had no statistics.


def test_fault_04_cloning_and_acting_normalise_alike(tmp_path: Path) -> None:
    from learners.cloning.learner import CloningLearner, cloning_loss
    from learners.cloning.settings import CloningSettings
    from rollouts.control.actor_critic import load_controller, save_controller
    from tests.toys.characters.cloning_toys import controller, linear_data

    data = linear_data(300)
    learner = CloningLearner(controller(), CloningSettings(epochs=2), seed=0)
    learner.observe(data)
    learner.fit(data, 0)
    clone = learner.controller
    assert int(clone.statistics.count) == 300
    # Far outside the data, training sees what acting sees: an observation that is clamped at 5.
    far = torch.full((1, 4), 1e6)
    edge = (clone.statistics.mean + 5.0 * clone.statistics.variance.sqrt()).float()[None]
    mean, log_std = clone.distribution(far)
    assert torch.allclose(mean, clone.act(far)) and torch.allclose(mean, clone.act(2 * edge), atol=1e-5)
    loss = [
        cloning_loss(clone.distribution(o)[0], log_std, torch.zeros(1, 2), torch.ones(1)).loss for o in (far, 2 * edge)
    ]
    assert torch.allclose(loss[0], loss[1])
    save_controller(tmp_path, clone, {})
    loaded = load_controller(tmp_path).controller
    assert int(loaded.statistics.count) == 300 and torch.equal(loaded.act(far), clone.act(far))


# 7. Training reset to the upright pose, the reference ran from a random frame; the clone was evaluated on the clip.


def test_fault_07_cloning_training_and_evaluation_start_on_the_clip() -> None:
    from envs.mujoco.vector_environment import make_vector_env
    from envs.settings import DeepMimicSettings
    from rollouts.imitation.experts import root_of

    env = make_vector_env(DeepMimicSettings(), 32, seed=0)
    for options in (None, {"phase": np.arange(32) / 32}):
        env.reset(seed=1, options=options)
        reference = env.task.reference.target(env.task.clip, env.task.time, env.task.origin)
        assert np.abs(env.coordinates() - reference.coordinates).max() < 1e-6
        assert np.abs(root_of(env).root_position - reference.root_position).max() < 0.05
        assert np.ptp(env.task.phase) > 0.8


def test_fault_07_the_target_phase_is_observed() -> None:
    from envs.mujoco.vector_environment import make_vector_env
    from envs.settings import DeepMimicSettings

    env = make_vector_env(DeepMimicSettings(), 2, seed=0)
    blocks = env.observation_schema["observation"]
    assert {"phase", "targets"} <= set(blocks)
    env.reset(options={"phase": np.array([0.1, 0.4])})
    state = env.state()
    for name in ("qpos", "qvel"):
        state[name][1] = state[name][0]  # the same body at another time of the reference
    env.set_state(state)
    first, second = env.observe()
    assert np.abs(first - second).max() > 0.1


# 10. Labels clipped at 1 while the actuator took .5; gains in gear units; damping against the wanted motion.


@pytest.mark.parametrize("mode", ["absolute", "residual"])
def test_fault_10_a_label_is_what_the_actuators_get(mode: str) -> None:
    from envs.mujoco.vector_environment import make_vector_env
    from envs.settings import DAMPING_RATIO, DeepMimicSettings

    for clip in ("walk", "run", "dance_a"):
        env = make_vector_env(DeepMimicSettings.model_validate({"motion": (clip,), "action_mode": mode}), 16, seed=0)
        env.reset(options={"phase": np.arange(16) / 16})
        task = env.task
        aim = task.reference.target(task.clip, task.time + task.control_s, task.origin)
        label = env.expert_action()
        assert np.abs(label).max() < env.settings.action_bound
        executed = task.targets(label, env.coordinates())
        wanted = aim.coordinates + DAMPING_RATIO * aim.rates
        assert np.abs((executed - wanted + np.pi) % (2 * np.pi) - np.pi).max() < 1e-5
        # Feed-forward leads the motion.
        assert (DAMPING_RATIO * aim.rates * aim.rates >= 0).all()


# 13. Refinement paired the state after a step with the action before it; `gradient` could not run.


def test_fault_13_feedback_blames_the_label_that_acted() -> None:
    """The error after the step from phase t corrects the label of phase t, not that of a neighbour."""
    from envs.mujoco.vector_environment import make_vector_env
    from envs.settings import DeepMimicSettings
    from rollouts.imitation.refinement import phase_grid, refine
    from rollouts.imitation.settings import DemonstrationSettings

    task = DeepMimicSettings(velocity_feedforward=False)
    settings = DemonstrationSettings(refine_actions=True, refine_iterations=1, refine_horizon=1, refine_rate=1.0)
    table = refine(task, settings, seed=0)[0].table
    env = make_vector_env(task.model_copy(update={"early_termination": False}), len(table.offsets))
    phases, _ = phase_grid(env)
    env.reset(seed=0, options={"phase": phases})
    env.step(env.expert_action())
    after = env.task.reference.target(env.task.clip, env.task.time, env.task.origin).coordinates - env.coordinates()
    overlap = [float((table.offsets * np.roll(after, shift, axis=0)).sum()) for shift in (-1, 0, 1)]
    assert int(np.argmax(overlap)) == 1


def test_fault_13_demonstrations_pair_a_state_with_its_own_label() -> None:
    from tests.toys.characters.cloning_toys import collected

    data, _ = collected(noise_std=0.3)
    # The toy's expert labels a state with the time that the state shows.
    assert np.array_equal(data.actions[:, 0], data.observations[:, 2])


@pytest.mark.parametrize("method", ["feedback", "gradient", "mpc", "invdyn"])
def test_fault_13_every_documented_method_runs(method: str) -> None:
    from envs.settings import DeepMimicSettings
    from rollouts.imitation.refinement import refine
    from rollouts.imitation.settings import DemonstrationSettings

    settings = DemonstrationSettings.model_validate(
        {"refine_method": method, "refine_iterations": 1, "refine_samples": 2, "refine_horizon": 1}
    )
    result = refine(DeepMimicSettings(motion=("walk",), control_hz=10), settings, seed=0)[0]
    assert np.isfinite(result.table.offsets).all() and result.figures["reward_after"] > 0


# 16. A debug print at every update; metrics named but never filled.


def test_fault_16_cloning_prints_nothing_and_its_metrics_live(capsys: pytest.CaptureFixture[str]) -> None:
    from learners.cloning.learner import CloningLearner
    from learners.cloning.settings import CloningSettings
    from tests.toys.characters.cloning_toys import controller, linear_data

    records: list[dict[str, float]] = []
    learner = CloningLearner(controller(), CloningSettings(epochs=10), seed=0)
    learner.observe(linear_data(300))
    learner.fit(linear_data(300), 0, records.append)
    assert capsys.readouterr().out == ""
    for name in records[0]:
        values = [record[name] for record in records]
        assert np.isfinite(values).all() and len(set(values)) > 1, name


# 17. Claims without logs.


def shipped_controllers() -> list[Path]:
    return sorted(path.parent for path in (ROOT / "docs" / "results").glob("deepmimic_*/controller.safetensors"))


@pytest.mark.parametrize("folder", shipped_controllers(), ids=lambda folder: folder.name)
def test_fault_17_a_shipped_result_is_what_its_controller_does(folder: Path) -> None:
    """The stored evaluation is of this very file: its first two seconds are played again."""
    from envs.settings import DeepMimicSettings
    from rewards.evaluation.character import controller_policy, imitation_episodes
    from rollouts.control.actor_critic import load_controller

    loaded = load_controller(folder)
    evaluation: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    assert (folder / "controller.safetensors").stat().st_size < 3e6
    text = (folder / "README.md").read_text()
    assert "python -m jobs." in text and "min" in text
    saved = loaded.extra.get("task") or {}
    task = DeepMimicSettings.model_validate({**saved, "motion": (evaluation["motion"],), "motion_weights": None})
    episodes = imitation_episodes(
        task.model_copy(update={"push_force": 0.0}),
        controller_policy(loaded.controller),
        np.array(evaluation["phases"]),
        60,
    )
    stored = np.array(evaluation["policies"]["trained"]["episodes"]["survival_s"])
    # Other processors round otherwise and a fall is chaotic: single episodes may differ, their mean may not.
    assert episodes.mean()["survival_s"] == pytest.approx(np.minimum(stored, 2.0).mean(), rel=0.15)
    early = evaluation["policies"]["trained"]["mean"]["joint_error_1s"]
    assert episodes.mean()["joint_error_1s"] == pytest.approx(early, rel=0.1)


# 1 to 5, 14 to 16: TRPO.


def small_controller() -> ActorCritic:
    return ActorCritic(ActorCriticConfig(3, 1, (16,), initial_log_std=-0.5, output_gain=1.0), seed=1)


def test_fault_01_the_divergence_is_between_two_policies() -> None:
    """The KL compared the new policy with itself: always 0, and the line search limited nothing."""
    network = small_controller()
    sampler = VectorSampler(ReachVectorEnv(8), seed=0)
    rollout = sampler.collect(network, 40, 0)
    metrics = TRPOLearner(network, TRPOSettings(max_kl=0.01), seed=0).update([rollout])
    assert 1e-3 < metrics["policy/kl"] <= 0.01
    with torch.no_grad():
        mean, log_std = network.distribution(torch.from_numpy(rollout.observations))
        apart = action_kl(torch.from_numpy(rollout.means), torch.from_numpy(rollout.log_std), mean, log_std)
    assert float(apart[torch.from_numpy(rollout.valid)].mean()) == pytest.approx(metrics["policy/kl"], rel=1e-3)


def test_fault_02_a_fall_cuts_the_advantage_of_its_own_step_and_of_no_other() -> None:
    """It masked with the flag of the step after."""
    rewards, values = np.ones((4, 1)), np.full((4, 1), 10.0)
    fall = np.array([[False], [True], [False], [False]])
    never = np.zeros_like(fall)
    advantages, _ = advantages_and_returns(rewards, values, values, fall, never, gamma=1.0, gae_lambda=1.0)
    assert advantages[1, 0] == 1.0 - 10.0, "nothing is worth anything behind the fall"
    assert advantages[0, 0] == 1.0 + advantages[1, 0], "the step before reaches up to the fall"
    assert advantages[3, 0] == 1.0, "the batch ends, the episode does not: the last state keeps its value"
    assert advantages[2, 0] == 2.0


def test_fault_03_the_running_variance_is_the_variance() -> None:
    """Its variance was biased low and could be negative; a floor hid it."""
    rng = np.random.default_rng(0)
    batches = [rng.normal(5.0, 3.0, size=(size, 3)) for size in (1, 7, 200, 50)]
    network = small_controller()
    for batch in batches:
        network.update_statistics(batch)
    everything = np.concatenate(batches)
    np.testing.assert_allclose(network.statistics.variance.numpy(), everything.var(0), rtol=1e-10)
    np.testing.assert_allclose(network.statistics.mean.numpy(), everything.mean(0), rtol=1e-10)


def test_fault_04_trpo_training_and_use_normalise_alike_and_the_file_knows_how(tmp_path: Path) -> None:
    """Its clone was trained without the clamp of its use, and published without statistics."""
    network = small_controller()
    network.update_statistics(np.random.default_rng(0).normal(size=(500, 3)))
    save_controller(tmp_path, network, {})
    loaded = load_controller(tmp_path).controller
    assert float(loaded.statistics.count) == 500
    far = torch.full((1, 3), 1e4)
    clamped = loaded.statistics(far)
    assert clamped.tolist() == [[5.0, 5.0, 5.0]]
    with torch.no_grad():
        trained_on, _ = network.distribution(far)
    assert torch.equal(loaded.act(far), trained_on)
    torch.testing.assert_close(trained_on, network.policy(clamped))


def test_fault_05_statistics_do_not_change_between_the_check_and_the_next_rollout() -> None:
    """It updated its normaliser after the step, so another policy acted than the one that was checked."""
    network = small_controller()
    learner = TRPOLearner(network, TRPOSettings(), seed=0)
    sampler = VectorSampler(ReachVectorEnv(8), seed=0)
    for iteration in range(3):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        rollout = sampler.collect(network, 40, iteration)
        for name, value in network.state_dict().items():
            assert torch.equal(value, before[name]), f"sampling changed {name}"
        metrics = learner.update([rollout])
        with torch.no_grad():
            mean, log_std = network.distribution(torch.from_numpy(rollout.observations))
            old = torch.from_numpy(rollout.means), torch.from_numpy(rollout.log_std)
            apart = action_kl(*old, mean, log_std)[torch.from_numpy(rollout.valid)].mean()
        assert float(network.statistics.count) > float(before["statistics.count"])
        assert float(apart) == pytest.approx(metrics["policy/kl"], rel=1e-3)


def test_fault_14_every_option_of_trpo_does_something() -> None:
    """It had options that nothing read, and guessed the network's depth."""
    base = {"steps_per_batch": 160, "max_kl": 0.03, "critic_epochs": 2, "critic_batch_size": 32, "cg_iters": 4}
    changes = {
        **{"max_kl": 0.003, "cg_iters": 1, "cg_residual": 1.0, "cg_damping": 1.0, "fisher_subsample": 4},
        **{"line_search_steps": 1, "line_search_shrink": 0.1, "kl_tolerance": 3.0, "gamma": 0.5, "gae_lambda": 0.1},
        **{"advantage_limit": 0.3, "policy_entcoeff": 0.5, "train_log_std": False, "critic_learning_rate": 0.1},
        **{"critic_epochs": 1, "critic_batch_size": 160, "critic_warmup_batches": 1, "standardize_returns": False},
        **{"normalizer_steps": 1, "clone_kl_weight": 5.0, "cloning_weight": 5.0, "fisher_product": "double_backward"},
        **{"clone_kl_decay": 0.01, "cloning_decay": 0.01, "steps_per_batch": 320},
    }
    assert changes.keys() == TRPOSettings.model_fields.keys()

    def end(options: dict[str, object]) -> torch.Tensor:
        settings = TRPOSettings.model_validate({**base, **options})
        network = small_controller()
        learner = TRPOLearner(network, settings, seed=0)
        sampler = VectorSampler(ReachVectorEnv(8), seed=2, record_expert=True)
        for iteration in range(3):
            learner.update([sampler.collect(network, settings.steps_per_batch // 8, iteration)])
        return torch.cat([value.double().reshape(-1) for value in network.state_dict().values()])

    around: dict[str, dict[str, object]] = {
        "clone_kl_decay": {"clone_kl_weight": 5.0},
        "cloning_decay": {"cloning_weight": 5.0},
        # The line search matters where the full step fails: one for a KL of 2 leaves the limit, and the distance from
        # the clone costs more than it gains.
        **{name: {"max_kl": 2.0} for name in ("line_search_steps", "kl_tolerance")},
        "line_search_shrink": {"max_kl": 2.0, "clone_kl_weight": 5.0},
    }
    plain = end({})
    for name, value in changes.items():
        context = around.get(name, {})
        reference = end(context) if context else plain
        assert not torch.equal(end({**context, name: value}), reference), f"{name} changes nothing"


def test_fault_15_time_limits_are_truncation_and_environments_are_batched() -> None:
    """Its one environment never said that a limit ended an episode, so the limit looked like a fall."""
    env = make_control_env("kinetune/DeepMimic-v0", 3, {"max_episode_s": 0.2})
    rollout = VectorSampler(env, seed=0).collect(ActorCritic(ActorCriticConfig(*spaces_of(env), (8,))), 30, 0)
    env.close()
    assert rollout.truncated.any()
    assert not (rollout.truncated & rollout.terminated).any()
    toy = VectorSampler(ReachVectorEnv(4), seed=0).collect(small_controller(), HORIZON + 2, 0)
    ended = [tuple(index) for index in toy.end_indices[toy.truncated[tuple(toy.end_indices.T)]]]
    assert ended
    learner = TRPOLearner(small_controller(), TRPOSettings(gamma=0.9, gae_lambda=0.0), seed=0)
    with torch.no_grad():
        values, advantages, _ = learner.advantages(toy)
    for t, n in ended:
        reached = toy.end_observations[[tuple(index) == (t, n) for index in toy.end_indices]]
        with torch.no_grad():
            beyond = float(learner.controller.value(torch.from_numpy(reached)))
        assert beyond != 0.0
        assert advantages[t, n] == pytest.approx(toy.rewards[t, n] + 0.9 * beyond - values[t, n], abs=1e-5)


def test_fault_16_trpo_updates_are_silent_and_every_metric_lives(capsys: pytest.CaptureFixture[str]) -> None:
    """It printed at every update and named metrics that it never filled."""
    network = small_controller()
    learner = TRPOLearner(network, TRPOSettings(critic_epochs=2), seed=0)
    sampler = VectorSampler(ReachVectorEnv(8), seed=0)
    history = [learner.update([sampler.collect(network, 40, iteration)]) for iteration in range(4)]
    assert capsys.readouterr() == ("", "")
    for name in history[0]:
        values = [metrics[name] for metrics in history]
        assert all(math.isfinite(value) for value in values), name
        # A step that is taken in full, with statistics that move all the way, is what a healthy run shows.
        constant = {"policy/step_fraction": 1.0, "statistics/blend": 1.0, "cg/iterations": 10.0}
        assert len(set(values)) > 1 or values[0] == constant.get(name), f"{name} is dead"


# 6. Reference velocities: sign reversed, angular velocity where Euler rates belong, frames mixed, first frame zero.


@pytest.mark.parametrize("joints", ["hinge", "ball"])
def test_fault_06_reference_velocities_are_the_derivative_of_the_poses(joints: str) -> None:
    """The engine's own difference of key frames (root turn in the root's frame, Euler rates) is the velocity."""
    settings = DeepMimicSettings.model_validate({"motion": "dance_a", "joints": joints})
    key_times = load_clip("dance_a").times.numpy()
    reference = ReferenceMotion(settings, table_hz=4 * (len(key_times) - 1) / key_times[-1])  # key frames are samples
    model = build_humanoid(settings)
    qpos, velocity = reference.start(np.zeros(len(key_times), dtype=np.int64), key_times - 1e-12)
    qpos[:, 2] = 1.0  # all lifted alike
    difference = np.zeros(model.nv)
    for row in range(8, len(key_times) - 8):  # clear of the blended seam
        step = key_times[row + 1] - key_times[row]
        mujoco.mj_differentiatePos(model, difference, step, qpos[row], qpos[row + 1])
        ours, wanted = np.delete(difference, 2), np.delete(velocity[row], 2)
        # Euler rates are those of the angular velocity now; the angles' difference is taken over the frame.
        assert np.abs(ours - wanted).mean() < (1e-4 if joints == "ball" else 0.1 * np.abs(wanted).mean() + 0.1)
        assert np.corrcoef(ours, wanted)[0, 1] > 0.97
    assert np.abs(velocity[0]).max() > 0.5


# 7. Training started upright at a random frame, evaluation on the clip; the phase could not be observed.


def test_fault_07_episodes_start_on_the_clip_at_the_phase_that_is_observed() -> None:
    env = make_vector_env(DeepMimicSettings(), 16, seed=0)
    observations, infos = env.reset()
    assert infos["phase"].std() > 0.1
    qpos, _ = env.task.reference.start(env.task.clip, infos["phase"] * env.task.reference.durations[0])
    np.testing.assert_allclose(env.state()["qpos"], qpos, atol=1e-9)
    blocks = list(env.observation_schema["observation"])
    first = sum(env.observation_schema["observation"][name] for name in blocks[: blocks.index("phase")])
    angle = np.arctan2(observations[:, first + 1], observations[:, first])
    np.testing.assert_allclose(angle % math.tau / math.tau, infos["phase"], atol=1e-5)


# 8. No phase and no root in the observation, no root and no velocity in the reward: standing still was the optimum.


def test_fault_08_standing_still_is_worth_little_and_can_be_seen() -> None:
    assert {"root", "phase"} < set(DeepMimicSettings().observation_blocks)
    env = make_vector_env(DeepMimicSettings(early_termination=False), 10, seed=0)
    env.reset(options={"phase": np.arange(10) / 10})
    moving = np.mean([env.step(env.expert_action())[1].mean() for _ in range(10)])
    env.reset(options={"phase": np.arange(10) / 10})
    state = env.state()
    # Every character stands as the clip does at phase 0, without any velocity.
    state["qpos"][:] = env.task.reference.start(env.task.clip, np.zeros(10))[0]
    state["qvel"][:] = 0.0
    env.set_state(state)
    _, standing, _, _, infos = env.step(env.expert_action())
    assert standing.mean() < 0.7 * moving
    for term in ("velocity", "root", "com"):
        assert infos[f"reward_{term}"].mean() < 0.9


# 9. The clip's own timing was ignored: one physics step per stored frame, whatever it lasts.


@pytest.mark.parametrize("motion", ["walk", "dance_a", "spin"])
@pytest.mark.parametrize("control_hz", [30, 60])
def test_fault_09_a_clip_plays_in_its_own_time(motion: str, control_hz: int) -> None:
    """Frames of .033, .017 and .042 s: a second of environment is a second of clip."""
    env = make_vector_env(
        DeepMimicSettings(motion=(motion,), control_hz=control_hz, early_termination=False), 1, seed=0
    )
    env.reset(options={"phase": 0.0})
    for _ in range(control_hz):
        env.step(env.expert_action())
    assert env.task.time[0] == pytest.approx(1.0)
    assert env.task.phase[0] == pytest.approx(1.0 / load_clip(motion).duration % 1.0)


@pytest.mark.parametrize(("control_hz", "physics_hz"), [(30, 240), (60, 240), (30, 480)])
def test_fault_09_an_action_is_simulated_for_as_long_as_the_clip_moves_on(control_hz: int, physics_hz: int) -> None:
    """In free fall the centre of mass gains 9.81 m/s in a second, whatever the joints do."""
    env = make_vector_env(
        DeepMimicSettings(control_hz=control_hz, physics_hz=physics_hz, early_termination=False), 2, seed=0
    )
    env.reset(options={"phase": [0.0, 0.5]})
    state = env.state()
    state["qpos"][:, 2] += 10.0
    state["qvel"][:] = 0.0
    env.set_state(state)
    start = env.task.time.copy()
    for _ in range(control_hz // 3):
        env.step(env.expert_action())
    state = env.state()
    velocity = KinematicsReader(env.settings, "velocity", with_bodies=False).read(state["qpos"], state["qvel"]).com
    np.testing.assert_allclose(velocity[:, 2] / -9.81, 1 / 3, rtol=1e-3)
    np.testing.assert_allclose(env.task.time - start, 1 / 3)


# 10. Labels were clipped at twice what the actuators could do; the damping term opposed the wanted motion.


def test_fault_10_actions_are_targets_within_bounds_and_damping_follows_the_motion() -> None:
    for mode in ("residual", "absolute"):
        env = make_vector_env(DeepMimicSettings.model_validate({"action_mode": mode}), 20, seed=0)
        env.reset(options={"phase": np.arange(20) / 20})
        assert isinstance(env.single_action_space, Box)
        bound = env.single_action_space.high[0]
        assert np.abs(env.expert_action()).max() < bound  # nothing of a label is lost
        assert build_humanoid(env.settings).actuator_ctrllimited.sum() == 0
    # With feed-forward the damper is asked to follow: it is the target's distance that grows along the velocity.
    task = ImitationTask(DeepMimicSettings(), 1)
    task.start(np.zeros(1, dtype=np.int64), [np.random.default_rng(0)], EpisodeStarts(np.array([0.4])))
    target = task.reference.target(task.clip, task.time + task.lookahead_s, task.origin)
    ahead = task.targets(np.zeros((1, 28)), target.coordinates) - target.coordinates
    np.testing.assert_allclose(ahead, 0.1 * target.rates, atol=1e-9)
    model = build_humanoid(HumanoidSettings())
    np.testing.assert_allclose(model.dof_damping[6:], 0.1 * model.actuator_gainprm[:, 0])


# 11. Euler angles without branch handling, and differences of 2 pi that counted as error.


def test_fault_11_rotations_are_compared_by_angle() -> None:
    """Another Euler triple of the same pose, whole turns away, is no error and gets the same targets."""
    env = make_vector_env(DeepMimicSettings(early_termination=False), 2, seed=0)
    env.reset(options={"phase": [0.3, 0.3]})
    state = env.state()
    hip = 7 + COORDINATES.index("left_hip_x")
    a, b, c = state["qpos"][0, hip : hip + 3]
    state["qpos"][1, hip : hip + 3] = (a + math.pi, math.pi - b - math.tau, c - math.pi)
    state["qpos"][1, 7 + COORDINATES.index("neck_x")] += math.tau
    state["qvel"][:] = 0.0
    reader = KinematicsReader(env.settings, "velocity", with_bodies=False)
    mine = reader.read(state["qpos"], state["qvel"])
    packed = env.task.reference.compared(env.task.clip, env.task.time, env.task.origin)
    errors = env.task.reward.compare(mine.packed, packed)[0]
    np.testing.assert_allclose(errors[1], errors[0], atol=1e-9)
    state["qpos"][1, hip : hip + 3] = (a + math.tau, b, c - 2 * math.tau)
    env.set_state(state)
    _, rewards, *_ = env.step(np.zeros((2, 28)))
    assert rewards[1] == pytest.approx(rewards[0], abs=1e-6)


# 12. The reward was read at the frame just left.


def test_fault_12_the_reward_is_that_of_the_new_time() -> None:
    env = make_vector_env(DeepMimicSettings(root_sync=False, early_termination=False), 8, seed=0)
    env.reset(options={"phase": np.arange(8) / 8})
    before = env.task.time
    _, rewards, _, _, infos = env.step(env.expert_action())
    task, state = env.task, env.state()
    mine = KinematicsReader(env.settings, "velocity", with_bodies=False).read(state["qpos"], state["qvel"])

    def reward(times: np.ndarray) -> np.ndarray:
        packed = task.reference.compared(task.clip, times, task.origin)
        return task.reward.total(task.reward.terms(task.reward.compare(mine.packed, packed)[0]))

    np.testing.assert_allclose(rewards, reward(before + 1 / 30), atol=1e-12)
    assert (rewards > reward(before) + 0.004).all()
    np.testing.assert_allclose(infos["phase"], (before + 1 / 30) / task.reference.durations[0] % 1.0)


# 15. Truncation was never flagged; one environment at a time.


def test_fault_15_limits_are_truncation_and_falls_are_termination() -> None:
    env = make_vector_env(DeepMimicSettings(max_episode_s=0.5), 6, seed=0)
    env.reset()
    for step in range(15):
        _, rewards, terminated, truncated, _ = env.step(env.expert_action())
        assert not (terminated & truncated).any()
        assert truncated[~terminated].all() == (step == 14)
        assert truncated.sum() >= (3 if step == 14 else 0)
        assert (rewards[truncated] > 0.0).all()  # bootstrapped: the last step's reward counts, and is no fall's
