"""PyBullet behind the vector interface of the jobs: schema, expert and states as MuJoCo has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from envs.bullet.vector_environment import DeepMimicBulletVectorEnv
from jobs import trpo
from jobs.configs.trpo import OWN_ENVIRONMENTS, TRPOJobConfig
from learners.cloning.rounds import new_clone
from learners.cloning.settings import CloningSettings
from rollouts.control.actor_critic import load_controller, save_controller
from rollouts.control.environments import make_control_env, observation_schema
from rollouts.control.vector_sampler import VectorSampler

WALK: dict[str, Any] = {"motion": "walk"}


def made(name: str, num_envs: int) -> VectorEnv:
    return make_control_env(OWN_ENVIRONMENTS[name], num_envs, WALK)


def test_a_controller_of_one_engine_loads_in_the_other_and_acts(tmp_path: Path) -> None:
    bullet, mujoco = made("DeepMimicBullet", 2), made("DeepMimic", 2)
    schema = observation_schema(mujoco)
    assert observation_schema(bullet) == schema
    save_controller(tmp_path / "mujoco", new_clone(CloningSettings(), schema), schema)
    controller = load_controller(tmp_path / "mujoco", observation_schema(bullet)).controller
    rollout = VectorSampler(bullet, seed=0, record_expert=True).collect(controller, 3, 0)
    assert rollout.expert_actions is not None and rollout.expert_actions.shape == (3, 2, 28)
    assert (rollout.rewards > 0.5).all()
    save_controller(tmp_path / "bullet", controller, observation_schema(bullet))
    load_controller(tmp_path / "bullet", schema)
    for env in (bullet, mujoco):
        env.close()


def test_the_job_plays_a_mujoco_controller_in_bullet(tmp_path: Path) -> None:
    schema = observation_schema(made("DeepMimic", 1))
    save_controller(tmp_path, new_clone(CloningSettings(), schema), schema)
    options = {"task": "evaluate", "env_id": "DeepMimicBullet", "save_dir": tmp_path, "motion": "walk"}
    trpo.run(TRPOJobConfig.of(options | {"num_eval_episodes": 2, "max_episode_steps": 5}))
    assert json.loads((tmp_path / "evaluation.json").read_text())["length_mean"] == 5


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_restored_batch_goes_on_to_the_same_bits(mode: AutoresetMode) -> None:
    env = DeepMimicBulletVectorEnv(2, motion="walk", max_episode_s=0.2, autoreset_mode=mode)
    env.reset(seed=4)
    generator = np.random.default_rng(0)
    noise = generator.normal(0.0, 0.2, (14, 2, 28)).astype(np.float32)
    for action in noise[:6]:  # in NEXT_STEP mode both rows have ended here
        env.step(action)
    state = env.state()
    other = DeepMimicBulletVectorEnv(2, motion="walk", max_episode_s=0.2, autoreset_mode=mode)
    other.reset(seed=9)
    other.set_state(state)
    for action in noise[6:]:
        ours, theirs = env.step(action), other.step(action)
        for mine, its in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(mine, its)
    with pytest.raises(ValueError, match="of 2 rows; legal: 1"):
        DeepMimicBulletVectorEnv(1, motion="walk").set_state(state)
    env.close()
    other.close()


def test_a_sampler_in_bullet_is_restorable() -> None:
    env = made("DeepMimicBullet", 2)
    controller = new_clone(CloningSettings(), observation_schema(env))
    sampler = VectorSampler(env, seed=0)
    assert sampler.restorable
    sampler.collect(controller, 2, 0)
    state = sampler.state()
    first = sampler.collect(controller, 3, 1)
    sampler.load(state)
    again = sampler.collect(controller, 3, 1)
    assert torch.equal(torch.from_numpy(first.observations), torch.from_numpy(again.observations))
    env.close()
