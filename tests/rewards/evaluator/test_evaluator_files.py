"""Weights of the evaluator: every layout gives the same network, a TMR is refused by name and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motions.skeleton.normalization import Normalizer
from rewards.evaluator.checkpoints import EvaluatorFileError, load_evaluator
from rewards.tmr.checkpoints import load_tmr, save_tmr
from rewards.tmr.components import TMRCheckpointError
from tests.toys.small_evaluator import small_evaluator, states_of, write_evaluator
from tests.toys.small_tmr import small_tmr

States = dict[str, dict[str, torch.Tensor]]


def three_files(folder: Path, states: States) -> Path:
    (folder / "three").mkdir()
    torch.save(states["text_encoder"], folder / "three" / "text_encoder.pth")
    torch.save({"state_dict": states["motion_encoder"]}, folder / "three" / "motion_encoder.tar")
    torch.save({"movement_encoder": states["movement_encoder"]}, folder / "three" / "movement_encoder.pt")
    return folder / "three"


def one_file(change: Callable[[States], Any]) -> Callable[[Path, States], Path]:
    def write(folder: Path, states: States) -> Path:
        torch.save(change(states), folder / "weights.pth")
        return folder / "weights.pth"

    return write


LAYOUTS: dict[str, Callable[[Path, States], Path]] = {
    "names": one_file(lambda states: states | {"epoch": 1}),
    "state dicts": one_file(lambda states: {f"{name}_state_dict": state for name, state in states.items()}),
    "dotted": one_file(
        lambda states: {"model": {f"{name}.{k}": v for name, state in states.items() for k, v in state.items()}}
    ),
    "three files": three_files,
    "folder": lambda folder, states: folder / "text_mot_match",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_network(layout: str, tmp_path: Path) -> None:
    write_evaluator(tmp_path)
    expected = small_evaluator()
    loaded = load_evaluator(LAYOUTS[layout](tmp_path, states_of(expected)), tmp_path)
    x, lengths = torch.ones(1, 12, 263), torch.tensor([12])
    torch.testing.assert_close(loaded.evaluator.encode_motion(x, lengths), expected.encode_motion(x, lengths))
    assert "text_encoder 19/19, motion_encoder 17/17, movement_encoder 6/6 tensors matched" in str(loaded)
    assert not loaded.evaluator.training


def test_a_tmr_is_no_evaluator_and_an_evaluator_no_tmr(tmp_path: Path) -> None:
    write_evaluator(tmp_path)
    save_tmr(tmp_path / "tmr", small_tmr(with_decoder=True))
    with pytest.raises(EvaluatorFileError, match=r"is a TMR encoder: this is a TMR.*--reward_model_type tmr"):
        load_evaluator(tmp_path / "tmr", tmp_path)
    parts = {name: dict(small_tmr().get_submodule(name).state_dict()) for name in ("text_encoder", "motion_encoder")}
    torch.save(parts | {"movement_encoder": parts["motion_encoder"]}, tmp_path / "finest.tar")
    with pytest.raises(EvaluatorFileError, match="this is a TMR, whatever the file is called"):
        load_evaluator(tmp_path / "finest.tar", tmp_path)
    np.save(tmp_path / "mean.npy", np.zeros(263))
    with pytest.raises(TMRCheckpointError, match=r"Guo et al\. evaluator .*--reward_model_type mdm --evaluator_path"):
        load_tmr(tmp_path / "text_mot_match" / "model" / "finest.tar")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    write_evaluator(tmp_path)
    states = states_of(small_evaluator())
    cases: list[tuple[Any, str]] = [
        ({k: v for k, v in states.items() if k != "movement_encoder"}, "no movement_encoder; found"),
        (states | {"text_encoder": states["motion_encoder"]}, "text_encoder is a Guo et al. evaluator motion encoder"),
        (
            states | {"motion_encoder": states["motion_encoder"] | {"x": torch.zeros(1)}},
            r"17 of 17 .*unexpected \['x'\]",
        ),
        (
            states | {"text_encoder": {**states["text_encoder"], "hidden": torch.zeros(2, 1, 3)}},
            r"other shape \['hidden",
        ),
        (
            states | {"text_encoder": {**states["text_encoder"], "hidden": torch.full((2, 1, 8), torch.nan)}},
            "not finite",
        ),
        ({"conv.weight": torch.zeros(1)}, "is a unknown state dict"),
    ]
    for content, message in cases:
        torch.save(content, tmp_path / "broken.tar")
        with pytest.raises(EvaluatorFileError, match=message):
            load_evaluator(tmp_path / "broken.tar", tmp_path)
    with pytest.raises(EvaluatorFileError, match="no such file"):
        load_evaluator(tmp_path / "absent.tar", tmp_path)
    good = tmp_path / "text_mot_match"
    with pytest.raises(ValueError, match=r"evaluator_stats_path .*no kit_mean\.npy and kit_std\.npy or mean"):
        load_evaluator(good, tmp_path, "kit")
    Normalizer(np.zeros(251), np.ones(251)).save(tmp_path)
    np.save(tmp_path / "t2m_mean.npy", np.zeros(251))
    with pytest.raises(ValueError, match=r"t2m_mean\.npy: shape \(251,\), expected \(263,\)"):
        load_evaluator(good, tmp_path)
