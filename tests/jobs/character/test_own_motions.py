"""Motions of somebody's own in jobs.deepmimic, sft, trpo and world_model: figures and a page before the training."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.settings import DeepMimicSettings
from jobs import deepmimic, sft, trpo, world_model
from jobs.character import own_motions
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.sft import SFTConfig
from jobs.configs.trpo import TRPOJobConfig
from jobs.configs.world_model import WorldModelJobConfig
from motions.base.errors import UserError
from motions.humanoid.mocap import load_clip
from motions.humanoid.retarget import retarget
from motions.settings import Settings
from tests.toys.characters.cloning_toys import SMALL_RUN

pytestmark = pytest.mark.slow

CLONING: dict[str, Any] = {**SMALL_RUN, "dagger_rounds": 0, "epochs": 1}
TRPO: dict[str, Any] = {"num_timesteps": 64, "num_envs": 4, "steps_per_batch": 64}
MODEL: dict[str, Any] = {
    **{"num_timesteps": 64, "num_envs": 4, "rollout_steps": 64, "warmup_iterations": 1, "model_hidden_size": 8},
    **{"model_warmup_updates": 1, "model_updates": 1, "policy_updates": 1, "imagined_steps": 2, "eval_episodes": 1},
    **{"model_window": 3, "model_batch_size": 8, "imagined_starts": 8, "hidden_size": 8, "num_layers": 1},
}
JOBS: dict[str, tuple[type[Settings], Callable[[Any], None], Callable[[Any], None], dict[str, Any]]] = {
    "deepmimic": (
        *(DeepMimicConfig, deepmimic.run, deepmimic.plan),
        CLONING | TRPO | {"video_s": 0, "critic_warmup_batches": 0, "eval_push_forces": ()},
    ),
    "sft": (SFTConfig, sft.run, sft.plan, CLONING | {"evaluate": False}),
    "trpo": (TRPOJobConfig, trpo.run, trpo.plan, TRPO),
    "world_model": (WorldModelJobConfig, world_model.run, world_model.plan, MODEL),
}


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    path = tmp_path / "mine.npy"
    np.save(path, retarget(load_clip("walk").pose(torch.arange(25) / 20.0)).numpy().astype(np.float32))
    return path


@pytest.mark.parametrize("job", JOBS)
def test_a_motion_of_ones_own_is_shown_and_then_trained_on(
    job: str, walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, run, plan, options = JOBS[job]
    folder = tmp_path / "run"
    config = kind.of({**options, "motion": str(walk), "save_dir": folder, "runtime": "local"})
    plan(config)
    planned = capsys.readouterr().out
    assert "mine.npy: 1.20 s, 25 key frames" in planned and "feet slide" in planned
    assert not folder.exists()
    run(config)
    shown = capsys.readouterr().out
    assert "open loop: on its feet for" in shown and shown.count("25 key frames") == 1
    page = (folder / own_motions.PAGE).read_text()
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert len(data["skeletons"]) == 2 and len(data["comparisons"][0]["motions"]) == 2
    assert "25 key frames<br>" in page and "open loop" in page
    assert len(list(folder.rglob(own_motions.PAGE))) == 1
    assert list(folder.rglob("controller.safetensors"))


def test_built_in_clips_have_no_page(tmp_path: Path) -> None:
    own_motions.show_own_motions(DeepMimicSettings(motion=("walk", "run")), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("job", JOBS)
def test_what_is_no_motion_is_refused_before_the_folder_exists(job: str, tmp_path: Path) -> None:
    kind, run, _, options = JOBS[job]
    (tmp_path / "mine.bvh").write_text("no motion")
    for motion, message in ((str(tmp_path / "mine.bvh"), r"mine\.bvh"), ("wlk", "unknown clip 'wlk'")):
        config = kind.of({**options, "motion": motion, "save_dir": tmp_path / "run", "runtime": "local"})
        with pytest.raises(UserError, match=message):
            run(config)
        assert not (tmp_path / "run").exists()
