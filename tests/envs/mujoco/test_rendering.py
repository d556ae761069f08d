"""Pictures through gymnasium's own ways: `make`, `make_vec`, videos; and a `MUJOCO_GL` that cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import VectorEnv

from envs import RecordVideo

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
IDS = ("kinetune/DeepMimic-v0", "kinetune/DeepMimicBullet-v0")


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_knows_the_render_modes(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(env_id, render_mode="rgb_array", motion="walk")
        rows: VectorEnv = gymnasium.make_vec(env_id, num_envs=2, render_mode="rgb_array", motion="walk")
    assert env.unwrapped.metadata["render_modes"] == ["rgb_array"]
    assert type(env.unwrapped).metadata["render_modes"] == ["rgb_array"]
    env.reset(seed=1)
    rows.reset(seed=0)
    pictures = rows.render()
    assert pictures is not None and len(pictures) == 2
    assert np.array_equal(np.asarray(pictures[1]), np.asarray(env.render()))
    assert not np.array_equal(np.asarray(pictures[0]), np.asarray(pictures[1]))
    env.close()
    rows.close()


@pytest.mark.parametrize("env_id", IDS)
def test_unknown_render_modes_are_refused(env_id: str) -> None:
    plain: VectorEnv = gymnasium.make_vec(env_id, num_envs=1, motion="walk")
    plain.close()
    with pytest.raises(ValueError, match="render_mode is 'human'; legal: null, rgb_array"):
        gymnasium.make_vec(env_id, num_envs=1, render_mode="human", motion="walk")


def test_an_episode_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    made = gymnasium.make("kinetune/DeepMimic-v0", render_mode="rgb_array", motion="walk", max_episode_s=0.2)
    env = RecordVideo(made, str(tmp_path / "videos"), episode_trigger=lambda _: True)
    env.reset(seed=0)
    ended = False
    while not ended:
        _, _, terminated, truncated, _ = env.step(np.zeros(28, np.float32))
        ended = terminated or truncated
    env.close()
    (video,) = (tmp_path / "videos").iterdir()
    assert video.read_bytes()[4:8] == b"ftyp"


def test_a_library_that_mujoco_does_not_know_is_named_in_one_line() -> None:
    words = ("-m", "jobs.deepmimic", "--task", "evaluate", "--motion", "walk", "--dry_run")
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=os.environ | {"MUJOCO_GL": "vulkan"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: MUJOCO_GL is 'vulkan', with which MuJoCo does not start: ")
    assert done.stderr.count("\n") == 1 and "unset it, or use egl or osmesa" in done.stderr
