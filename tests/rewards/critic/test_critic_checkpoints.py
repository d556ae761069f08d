"""Critics on disk: every shape of file gives the same network, every other file is refused by what it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.critic.checkpoints import CONFIG, WEIGHTS, CriticCheckpointError, load_critic, save_critic
from rewards.critic.network import MotionCritic
from tests.toys.small_critic import SMALL, small_critic

State = dict[str, torch.Tensor]


def score(critic: MotionCritic) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        return critic(torch.randn(2, 8, 25, 3, generator=generator))


def under_module(state: State) -> State:
    return {f"module.{name}": value for name, value in state.items()}


SHAPES: dict[str, Callable[[State], Mapping[str, Any]]] = {
    "published": lambda state: {
        "epoch": 7,
        "model_state_dict": under_module(state),
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "best_accuracy": 0.85,
        "loss": 0.4,
    },
    "bare": lambda state: state,
    "bare_module": under_module,
    "state_dict": lambda state: {"state_dict": state},
    "model": lambda state: {"model": under_module(state)},
    "pp_motion": lambda state: {"model_state_dict": under_module(state | {"phys_mlp.fc1.weight": torch.ones(2, 2)})},
    "half": lambda state: {name: value.half() for name, value in state.items()},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_file_gives_the_same_critic(shape: str, tmp_path: Path) -> None:
    critic = small_critic()
    torch.save(SHAPES[shape](dict(critic.state_dict())), tmp_path / "critic.pth")
    loaded = load_critic(tmp_path / "critic.pth", num_heads=4)
    assert loaded.critic.config == SMALL and not loaded.critic.training and loaded.typical_score is None
    assert loaded.ignored == (("phys_mlp.fc1.weight",) if shape == "pp_motion" else ())
    torch.testing.assert_close(score(loaded.critic), score(critic), atol=5e-3 if shape == "half" else 0, rtol=0)
    assert {value.dtype for value in loaded.critic.state_dict().values()} == {torch.float32}


def test_heads_are_eight_unless_said(tmp_path: Path) -> None:
    torch.save(small_critic().state_dict(), tmp_path / "critic.pth")
    assert load_critic(tmp_path / "critic.pth").critic.config.num_heads == 8
    assert not torch.equal(score(load_critic(tmp_path / "critic.pth").critic), score(small_critic()))
    with pytest.raises(CriticCheckpointError, match="its width 16 is no multiple of 5 attention heads"):
        load_critic(tmp_path / "critic.pth", num_heads=5)


def test_a_saved_critic_is_loaded_from_its_folder_and_read_by_data_parallel(tmp_path: Path) -> None:
    critic = small_critic()
    save_critic(tmp_path, critic, typical_score=1.5, provenance={"command": "it"})
    loaded = load_critic(tmp_path)
    assert torch.equal(score(loaded.critic), score(critic)) and loaded.typical_score == 1.5
    assert json.loads((tmp_path / CONFIG).read_text())["provenance"] == {"command": "it"}
    content = torch.load(tmp_path / WEIGHTS, weights_only=True)
    torch.nn.DataParallel(MotionCritic(SMALL)).load_state_dict(content["model_state_dict"])
    save_critic(tmp_path / "half", critic, dtype="float16")
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.7 * (tmp_path / WEIGHTS).stat().st_size


def without(name: str) -> Callable[[State], Mapping[str, Any]]:
    return lambda state: {key: value for key, value in state.items() if key != name}


WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing": (without("mlp.fc2.bias"), r"of \d+ tensors match; missing \['mlp.fc2.bias'\]"),
    "unexpected": (lambda state: state | {"dstran.more": torch.ones(1)}, r"unexpected \['dstran.more'\]"),
    "unsized": (without("dstran.pos_embed"), "no tensor dstran.pos_embed of 3 dimensions"),
    "other_size": (
        lambda state: state | {"mlp.fc1.weight": torch.ones(16, 7)},
        r"mlp.fc1.weight \(16, 7\) instead of \(16, 200\)",
    ),
    "other_rows": (lambda state: state | {"dstran.pos_embed": torch.ones(1, 17, 16)}, "for 17 rows"),
    "not_finite": (
        lambda state: state | {"mlp.fc2.bias": torch.tensor([torch.nan])},
        "mlp.fc2.bias has values that are not finite",
    ),
    "no_tensor": (lambda state: state | {"dstran.norm.bias": 3}, "dstran.norm.bias is a int, expected a tensor"),
    "tmr": (
        lambda state: {"tokens": torch.ones(2, 4), "seqTransEncoder.layers.0.norm1.bias": torch.ones(4)},
        "is a TMR encoder; a critic has tensors mlp",
    ),
    "list": (lambda state: [1, 2], "holds a list, expected a dict of tensors"),
    "objects": (lambda state: {"model": MotionCritic(SMALL)}, "holds Python objects"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_anything_else_is_refused_by_what_it_is(kind: str, tmp_path: Path) -> None:
    make, message = WRONG[kind]
    torch.save(make(dict(small_critic().state_dict())), tmp_path / "critic.pth")
    with pytest.raises(CriticCheckpointError, match=message) as raised:
        load_critic(tmp_path / "critic.pth", num_heads=4)
    assert str(tmp_path / "critic.pth") in str(raised.value) and "\n" not in str(raised.value)


def test_files_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CriticCheckpointError, match="no such file"):
        load_critic(tmp_path / "absent.pth")
    (tmp_path / "page.pth").write_text("<html>quota exceeded</html>")
    with pytest.raises(CriticCheckpointError, match="web page"):
        load_critic(tmp_path / "page.pth")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "holds a list"),
        ('{"num_heads": "4"}', "num_heads is '4'"),
        ('{"num_heads": 4, "typical_score": NaN}', "typical_score is nan"),
    ],
)
def test_a_broken_config_is_one_clear_error(text: str, message: str, tmp_path: Path) -> None:
    save_critic(tmp_path, small_critic())
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(CriticCheckpointError, match=message):
        load_critic(tmp_path)
