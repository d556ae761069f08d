"""PhysicsSSM: identity at the start, what it depends on, its gate, its files, and those of the public project."""

from __future__ import annotations

import json
import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from learners.optimizer import undecayed_names
from motions.base.errors import UserError
from motions.data.dataset import load_dataset
from motions.humanoid.physics_state import CHANNELS, StateStatistics
from motions.skeleton.features import recover_joints
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT
from rollouts.refining.checkpoints import RefinerCheckpointError, load_refiner, save_refiner
from rollouts.refining.network import RefinerConfig, RefinerNetwork
from rollouts.refining.projection import planted_features
from rollouts.refining.public_files import load_public_network
from rollouts.refining.refiner import Refiner

FRAMES = 24
SMALL = RefinerConfig(HUMANML3D.num_features, d_model=16, d_state=4, n_layers=1)
FORMS = [
    SMALL,
    replace(SMALL, constraints="projected"),
    replace(SMALL, gate="concat"),
    replace(SMALL, gate="none"),
    replace(SMALL, ssm_decay="shared", bidirectional=False),
]


@pytest.fixture(scope="module")
def clips() -> Tensor:
    """Two motions of the built-in data, [2, 24, 263]."""
    items = [item for item in load_dataset("builtin").items("train") if item.num_frames >= FRAMES][:60:30]
    return torch.stack([torch.from_numpy(item.features[:FRAMES].copy()) for item in items])


def refiner_of(config: RefinerConfig, clips: Tensor, *, trained: bool = True) -> Refiner:
    """A refiner; a trained one has other weights in its last layer."""
    network = RefinerNetwork(config, seed=1)
    if trained:
        nn.init.normal_(network.get_parameter("decoder.2.weight"), std=0.1, generator=torch.Generator().manual_seed(0))
    statistics = StateStatistics.fit([clip.numpy() for clip in clips], HUMANML3D)
    return Refiner(network.eval(), load_dataset("builtin").normalizer, statistics, HUMANML3D)


def refined(refiner: Refiner, motions: Tensor, lengths: tuple[int, ...] = (FRAMES, FRAMES)) -> np.ndarray:
    return refiner.refine(motions.numpy(), np.array(lengths))


@pytest.mark.parametrize("config", FORMS, ids=lambda config: f"{config.gate}-{config.constraints}-{config.ssm_decay}")
def test_an_untrained_refiner_changes_nothing_and_every_form_can_learn(config: RefinerConfig, clips: Tensor) -> None:
    new = refiner_of(config, clips, trained=False)
    np.testing.assert_allclose(refined(new, clips), clips.numpy(), rtol=0, atol=1e-5)
    mask = torch.ones(2, FRAMES, dtype=torch.bool)
    trained = refiner_of(config, clips)
    out = trained(trained.prepare(clips, mask))
    out.motion.square().mean().backward()
    without = [name for name, value in trained.network.named_parameters() if value.grad is None]
    assert not without, "every weight takes part"
    assert (out.gate is not None) == (config.gate == "sigmoid")


@pytest.mark.parametrize("config", FORMS[:2], ids=["state", "projected"])
def test_padding_and_neighbours_change_no_motion(config: RefinerConfig, clips: Tensor) -> None:
    refiner = refiner_of(config, clips)
    alone = refined(refiner, clips[1:, :15], (15,))
    padded = clips.clone()
    padded[1, 15:] = 7.0
    together = refined(refiner, padded, (FRAMES, 15))
    np.testing.assert_allclose(together[1, :15], alone[0], rtol=0, atol=2e-5)
    assert np.array_equal(together[1, 15:], padded[1, 15:].numpy()), "what lies beyond the motion stays"


def test_the_gate_chooses_between_scan_and_constraints(clips: Tensor) -> None:
    """A gate that is forced open leaves the scan alone; a closed one, the constraints."""
    mask = torch.ones(2, FRAMES, dtype=torch.bool)
    for config in FORMS[:2]:
        refiner = refiner_of(config, clips)
        physics = refiner.network.physics_ssm
        given = refiner.prepare(clips, mask)
        outputs = {}
        for name, bias in (("scan", 50.0), ("constraints", -50.0)):
            nn.init.zeros_(physics.physics_gate.weight)
            nn.init.constant_(physics.physics_gate.bias, bias)
            before = refiner(given).motion
            nn.init.constant_(physics.constraint_proj.bias, bias)
            outputs[name] = float((refiner(given).motion - before).detach().abs().max())
        assert outputs["scan"] == 0.0 and outputs["constraints"] > 0.01


def test_the_physics_state_is_that_of_the_motion_that_is_refined(clips: Tensor) -> None:
    """A sunk motion has a sunk state: nothing else is handed in."""
    refiner = refiner_of(SMALL, clips)
    mask = torch.ones(2, FRAMES, dtype=torch.bool)
    sunk = clips.clone()
    sunk[..., 3] -= 0.1
    height = CHANNELS.index("root_height")
    moved = refiner.prepare(sunk, mask).state[..., height] - refiner.prepare(clips, mask).state[..., height]
    np.testing.assert_allclose(moved, -0.1 / refiner.statistics.std[height], rtol=1e-3)


def test_planting_puts_a_motion_on_the_floor_and_stops_its_feet(clips: Tensor) -> None:
    mask = torch.ones(2, FRAMES, dtype=torch.bool)
    lifted = clips.clone()
    lifted[..., 3] += 0.08
    lifted[..., 5:67:3] += 0.08
    joints = recover_joints(planted_features(lifted, HUMANML3D, mask), HUMANML3D)
    lowest = joints[..., 1].amin(dim=2)
    assert float(lowest.min()) > -0.01 and float(lowest.amin(dim=1).max()) < 0.03
    with pytest.raises(UserError, match=r"constraints is projected.*the data's is kit: legal for it is state"):
        planted_features(torch.zeros(1, 5, KIT.num_features), KIT, mask[:1, :5])


def test_rates_and_norms_do_not_decay() -> None:
    names = undecayed_names(RefinerNetwork(SMALL))
    assert {"physics_ssm.norm.weight", "physics_ssm.ssm.scans.0.A_log", "motion_ssm.layers.0.norm.bias"} <= names


@pytest.mark.parametrize("config", FORMS, ids=lambda config: f"{config.gate}-{config.constraints}-{config.ssm_decay}")
def test_a_folder_holds_all_of_a_refiner(config: RefinerConfig, clips: Tensor, tmp_path: Path) -> None:
    refiner = refiner_of(config, clips)
    save_refiner(tmp_path, refiner, provenance={"seed": 3})
    again = load_refiner(tmp_path)
    assert again.network.config == config and again.skeleton == HUMANML3D
    assert np.array_equal(refined(again, clips), refined(refiner, clips))
    document = json.loads((tmp_path / "config.json").read_text())
    assert document["physics_state"]["channel_names"] == list(CHANNELS) and document["provenance"] == {"seed": 3}
    save_refiner(tmp_path / "half", refiner, dtype="float16")
    assert load_file(tmp_path / "half" / "physics_ssm.safetensors")["decoder.0.weight"].dtype == torch.float16
    with pytest.raises(UserError, match="the refiner is of skeleton humanml3d, the motions are of kit"):
        again.require_skeleton(KIT, "the motions are")


def changed(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**document, **changes}))


def test_what_is_no_refiner_is_named(clips: Tensor, tmp_path: Path) -> None:
    with pytest.raises(RefinerCheckpointError, match=r"no folder with config\.json"):
        load_refiner(tmp_path)
    refiner = refiner_of(SMALL, clips)
    save_refiner(tmp_path, refiner)
    whole = (tmp_path / "config.json").read_text()
    network = json.loads(whole)["network"]
    for changes, message in (
        ({"kind": "motion_ssm"}, "kind is 'motion_ssm', expected 'physics_ssm'"),
        ({"skeleton": "kit"}, "num_features is 263, skeleton kit has 251"),
        ({"network": {**network, "gate": "open"}}, "gate is 'open'"),
        ({"network": {**network, "d_model": -1}}, "d_model is -1, expected a number above 0"),
        ({"network": {**network, "d_model": 24}}, r"other shape .*encoder.0.bias \(16,\) instead of \(24,\)'"),
        ({"network": {}}, "network is not an object of num_features"),
        ({"physics_state": None}, "no statistics of the physics state"),
    ):
        changed(tmp_path, **changes)
        with pytest.raises(UserError, match=message):
            load_refiner(tmp_path)
        (tmp_path / "config.json").write_text(whole)
    Normalizer(np.zeros(251), np.ones(251)).save(tmp_path)
    with pytest.raises(UserError, match=r"Mean\.npy: shape \(251,\), expected \(263,\)"):
        load_refiner(tmp_path)
    refiner.normalizer.save(tmp_path)
    (tmp_path / "physics_ssm.safetensors").write_bytes(b"<html></html>")
    with pytest.raises(RefinerCheckpointError, match="web page"):
        load_refiner(tmp_path)


class PhysicsTrainingConfig:
    """Stands for the public project's class, in whose name its files pickle their configuration."""


def public_state(width: int = 16, states: int = 3, layers: int = 2) -> dict[str, dict[str, Tensor]]:
    """Random weights under the public names, for 251 features."""
    generator = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=generator)

    inner, rank = 2 * width, max(width // 16, 1)

    def layer(name: str) -> dict[str, Tensor]:
        return {
            f"{name}.in_proj.weight": normal(2 * inner, width),
            f"{name}.conv1d.weight": normal(inner, 1, 4),
            f"{name}.conv1d.bias": normal(inner),
            f"{name}.A_log": normal(states),
            f"{name}.D": normal(inner),
            f"{name}.x_proj.weight": normal(rank + 2 * states, inner),
            f"{name}.dt_proj.weight": normal(inner, rank),
            f"{name}.dt_proj.bias": normal(inner),
            f"{name}.out_proj.weight": normal(width, inner),
        }

    def linear(name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(outputs, inputs), f"{name}.bias": normal(outputs)}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(width), f"{name}.bias": normal(width)}

    motion = linear("output_proj", width, width)
    for place in range(layers):
        motion |= layer(f"layers.{place}") | norm(f"norms.{place}")
    projector = linear("encoder.0", 251, width) | linear("encoder.2", width, width)
    projector |= linear("decoder.0", width, width) | linear("decoder.2", width, 251)
    physics = layer("ssm") | norm("norm") | linear("physics_encoder.0", 64, width)
    physics |= linear("physics_encoder.2", width, width) | linear("constraint_proj", 64, width)
    physics |= linear("physics_gate.0", 2 * width, width)
    return {"projector_state_dict": projector, "motion_ssm_state_dict": motion, "physics_ssm_state_dict": physics}


def mamba(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """One layer [T, d] by its formula, frame by frame, with rates shared by all channels."""
    weight = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    u, z = (x @ weight["in_proj.weight"].T).chunk(2, dim=1)
    inner, states = u.shape[1], len(weight["A_log"])
    u = F.silu(F.conv1d(F.pad(u.T[None], (3, 0)), weight["conv1d.weight"], weight["conv1d.bias"], groups=inner)[0].T)
    rank = weight["dt_proj.weight"].shape[1]
    delta, b, c = (u @ weight["x_proj.weight"].T).split([rank, states, states], dim=1)
    delta = F.softplus(delta @ weight["dt_proj.weight"].T + weight["dt_proj.bias"])
    h, outputs = torch.zeros(inner, states), []
    for t in range(len(x)):
        h = torch.exp(-delta[t, :, None] * weight["A_log"].exp()) * h + (delta[t] * u[t])[:, None] * b[t]
        outputs.append(h @ c[t] + weight["D"] * u[t])
    return (torch.stack(outputs) * F.silu(z)) @ weight["out_proj.weight"].T


def public_output(parts: dict[str, dict[str, Tensor]], x: Tensor, p: Tensor) -> Tensor:
    """What the public project's network makes of x [T, 251] and p [T, 64], by its formulas."""
    projector, motion, physics = parts.values()

    def linear(state: dict[str, Tensor], name: str, values: Tensor) -> Tensor:
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(state: dict[str, Tensor], name: str, values: Tensor) -> Tensor:
        return F.layer_norm(values, values.shape[1:], state[f"{name}.weight"], state[f"{name}.bias"])

    f = linear(projector, "encoder.2", F.silu(linear(projector, "encoder.0", x)))
    for place in range(2):
        f = f + mamba(motion, f"layers.{place}", norm(motion, f"norms.{place}", f))
    f = linear(motion, "output_proj", f)
    s = mamba(physics, "ssm", norm(physics, "norm", f))
    e = linear(physics, "physics_encoder.2", F.silu(linear(physics, "physics_encoder.0", p)))
    gate = torch.sigmoid(linear(physics, "physics_gate.0", torch.cat((s, e), dim=1)))
    o = gate * s + (1.0 - gate) * linear(physics, "constraint_proj", p)
    return linear(projector, "decoder.2", F.silu(linear(projector, "decoder.0", f + o)))


def write_public(path: Path, parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """A file as the public project saves it: with its configuration pickled under a module that is not here."""
    module = types.ModuleType("src.modules.physics_trainer")
    monkeypatch.setattr(PhysicsTrainingConfig, "__module__", module.__name__)
    monkeypatch.setattr(module, "PhysicsTrainingConfig", PhysicsTrainingConfig, raising=False)
    for name in ("src", "src.modules", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    stated = PhysicsTrainingConfig()
    vars(stated).update(values)
    torch.save({"epoch": 3, "global_step": 9, **parts, "val_loss": 0.04, "config": stated}, path)
    for name in ("src", "src.modules", module.__name__):
        monkeypatch.delitem(sys.modules, name)


def test_a_public_checkpoint_computes_what_its_formulas_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, parts = tmp_path / "best_model.pt", public_state()
    write_public(path, parts, monkeypatch, d_model=16, d_state=3, n_layers=2)
    network = load_public_network(path, KIT)
    assert not network.config.residual and network.config.ssm_decay == "shared"
    generator = torch.Generator().manual_seed(5)
    x, p = torch.randn(9, 251, generator=generator), torch.randn(9, 64, generator=generator)
    torch.testing.assert_close(network(x[None], p[None], None).motion[0], public_output(parts, x, p))


class Dangerous:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code of the file ran",)


def test_public_checkpoints_of_another_kind_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, parts = tmp_path / "best_model.pt", public_state()
    with pytest.raises(RefinerCheckpointError, match="no such file"):
        load_public_network(path, KIT)
    write_public(path, parts, monkeypatch, d_model=256)
    with pytest.raises(RefinerCheckpointError, match="its configuration says d_model 256, its weights have 16"):
        load_public_network(path, KIT)
    write_public(path, parts, monkeypatch)
    with pytest.raises(RefinerCheckpointError, match="251 numbers a frame; skeleton humanml3d has 263"):
        load_public_network(path, HUMANML3D)
    torch.save({**parts, "config": Dangerous()}, path)
    with pytest.raises(RefinerCheckpointError, match="holds Python objects beside tensors"):
        load_public_network(path, KIT)
    torch.save({"model_state_dict": {}, "vocab": {}}, path)
    with pytest.raises(RefinerCheckpointError, match=r"it holds \['model_state_dict', 'vocab'\], expected projector"):
        load_public_network(path, KIT)
    path.write_bytes(pickle.dumps({"clips": [Dangerous()]}))
    with pytest.raises(RefinerCheckpointError, match="no torch file, or damaged"):
        load_public_network(path, KIT)
    assert "code of the file ran" not in capsys.readouterr().out
