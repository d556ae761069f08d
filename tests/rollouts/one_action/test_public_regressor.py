"""The public project's checkpoint: its names, its numbers, and what its file may hold."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from motions.base.errors import UserError
from rollouts.checkpoints.public_motion_ssm import load_public_motion_ssm

WIDTH, STATES, LAYERS, FEATURES, FRAMES, RANK = 32, 4, 2, 251, 20, 2
VOCAB = {"<PAD>": 0, "<UNK>": 1, "<BOS>": 2, "<EOS>": 3, "walk": 4, "forward": 5}
PROJECT = "src.modules.m4_motion_generator.train"


def public_state() -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of the public files."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int, scale: float = 0.2) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    state = {
        "text_encoder.word_embed.weight": drawn(len(VOCAB), WIDTH),
        "text_encoder.pos_embed.weight": drawn(64, WIDTH),
        "condition_proj.weight": drawn(WIDTH, WIDTH),
        "condition_proj.bias": drawn(WIDTH),
        "pos_embed.weight": drawn(FRAMES, WIDTH),
        "decoder.length_head.weight": drawn(1, WIDTH),
        "decoder.length_head.bias": drawn(1),
        "decoder.output_proj.0.weight": drawn(WIDTH, WIDTH),
        "decoder.output_proj.0.bias": drawn(WIDTH),
        "decoder.output_proj.2.weight": drawn(FEATURES, WIDTH),
        "decoder.output_proj.2.bias": drawn(FEATURES),
    }
    encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(WIDTH, 4, batch_first=True), 2)
    state |= {f"text_encoder.encoder.{name}": drawn(*value.shape) for name, value in encoder.state_dict().items()}
    inner = 2 * WIDTH
    for number in range(LAYERS):
        state |= {
            f"norms.{number}.weight": 1.0 + drawn(WIDTH),
            f"norms.{number}.bias": drawn(WIDTH),
            f"layers.{number}.in_proj.weight": drawn(2 * inner, WIDTH),
            f"layers.{number}.conv1d.weight": drawn(inner, 1, 4),
            f"layers.{number}.conv1d.bias": drawn(inner),
            f"layers.{number}.A_log": torch.arange(1.0, STATES + 1).log(),
            f"layers.{number}.D": 1.0 + drawn(inner),
            f"layers.{number}.x_proj.weight": drawn(RANK + 2 * STATES, inner),
            f"layers.{number}.dt_proj.weight": drawn(inner, RANK),
            f"layers.{number}.dt_proj.bias": drawn(inner),
            f"layers.{number}.out_proj.weight": drawn(WIDTH, inner),
        }
    return state


def mamba(x: Tensor, state: dict[str, Tensor], path: str) -> Tensor:
    """A layer of Mamba-1 with one rate for each state, frame by frame."""
    u, gate = F.linear(x, state[f"{path}.in_proj.weight"]).chunk(2, dim=1)
    conv = F.conv1d(
        u.t()[None], state[f"{path}.conv1d.weight"], state[f"{path}.conv1d.bias"], padding=3, groups=u.shape[1]
    )
    u = F.silu(conv[0, :, : len(x)].t())
    raw, b, c = F.linear(u, state[f"{path}.x_proj.weight"]).split([RANK, STATES, STATES], dim=1)
    delta = F.softplus(F.linear(raw, state[f"{path}.dt_proj.weight"], state[f"{path}.dt_proj.bias"]))
    rates, hidden, rows = -state[f"{path}.A_log"].exp(), torch.zeros(u.shape[1], STATES), []
    for frame in range(len(x)):
        decay = (delta[frame, :, None] * rates).exp()
        hidden = decay * hidden + (delta[frame] * u[frame])[:, None] * b[frame]
        rows.append((hidden * c[frame]).sum(dim=1) + state[f"{path}.D"] * u[frame])
    return F.linear(torch.stack(rows) * F.silu(gate), state[f"{path}.out_proj.weight"])


@pytest.fixture
def project() -> Iterator[type]:
    """The project's class of options, which exists while a file is written, and not when it is read."""
    parts = PROJECT.split(".")
    names = [".".join(parts[: count + 1]) for count in range(len(parts))]
    sys.modules.update({name: ModuleType(name) for name in names})

    @dataclass
    class TrainingConfig:
        d_model: int = WIDTH

    TrainingConfig.__module__, TrainingConfig.__qualname__ = PROJECT, "TrainingConfig"
    sys.modules[PROJECT].TrainingConfig = TrainingConfig  # type: ignore[attr-defined]
    try:
        yield TrainingConfig
    finally:
        for name in names:
            sys.modules.pop(name, None)


def written(path: Path, options: type, **changes: Any) -> Path:
    contents = {"epoch": 3, "model_state_dict": public_state(), "vocab": VOCAB, "config": options(), "val_loss": 0.4}
    torch.save(contents | changes, path)
    del sys.modules[PROJECT]
    return path


def test_computes_what_the_public_network_computes(tmp_path: Path, project: type) -> None:
    network, words = load_public_motion_ssm(written(tmp_path / "best_model.pt", project))
    state = public_state()
    numbers = words.tokenize("Walk forward now")
    assert numbers[:6] == [2, 4, 5, 1, 3, 0]
    assert len(numbers) == 64
    with torch.no_grad():
        text = network.encode_text(torch.from_numpy(words.tokens(numbers))[None])
        x = text + state["pos_embed.weight"][:15]
        for number in range(LAYERS):
            normed = F.layer_norm(x, (WIDTH,), state[f"norms.{number}.weight"], state[f"norms.{number}.bias"])
            x = x + mamba(normed, state, f"layers.{number}")
        hidden = F.silu(F.linear(x, state["decoder.output_proj.0.weight"], state["decoder.output_proj.0.bias"]))
        expected = F.linear(hidden, state["decoder.output_proj.2.weight"], state["decoder.output_proj.2.bias"])
        made = network.decode(torch.zeros(1, 1, 0), text, 15)[0]
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
        share = torch.sigmoid(F.linear(text, state["decoder.length_head.weight"], state["decoder.length_head.bias"]))
        assert math.isclose(float(network.log_seconds(text).exp()), float(share) * FRAMES / 12.5, rel_tol=1e-4)


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": Evil()}, "no checkpoint of a TextToMotionSSM"),
        ({"vocab": ["walk"]}, "vocab is a list"),
        ({"vocab": {"walk": 99}}, "vocab numbers up to 99, of 6 embeddings"),
        ({"model_state_dict": {"weight": torch.zeros(1)}}, "there is no tensor text_encoder.word_embed.weight"),
    ],
)
def test_files_of_another_kind(
    tmp_path: Path, project: type, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=message):
        load_public_motion_ssm(written(tmp_path / "best_model.pt", project, **changes))
    assert "run" not in capsys.readouterr().out
