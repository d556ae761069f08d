"""TMR weights on disk: every accepted form gives the same network, every other file is refused by what it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motions.base.atomic import WriteError
from motions.skeleton.features import FeatureLayout
from motions.skeleton.normalization import Normalizer
from rewards.tmr import checkpoints as tmr_checkpoints
from rewards.tmr.checkpoints import load_tmr, save_tmr
from rewards.tmr.components import COMPONENTS, TMRCheckpointError, describe_state
from rewards.tmr.network import TMR, TMRConfig

CONFIG = TMRConfig(num_features=12, text_dim=6, latent_dim=8, ff_size=16, num_layers=2, num_heads=2, fps=20.0)
NUM_TENSORS = 3 + 2 * 12


def small_tmr(seed: int = 0) -> TMR:
    torch.manual_seed(seed)
    normalizer = Normalizer(np.linspace(-1, 1, 12), np.linspace(0.5, 2, 12))
    return TMR(CONFIG, normalizer, "minilm", text_encoder_fingerprint="abc", with_decoder=True).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tmr(tmp_path / "tmr", small_tmr())
    return tmp_path / "tmr"


def states(tmr: TMR) -> dict[str, dict[str, torch.Tensor]]:
    return {name: dict(tmr.get_submodule(name).state_dict()) for name in COMPONENTS}


def embed(tmr: TMR) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(2, 9, 12, generator=generator)
    tokens = torch.randn(2, 4, 6, generator=generator)
    lengths = torch.tensor([9, 4])
    with torch.no_grad():
        motion = tmr.encode_motion(features, lengths).mu
        return torch.cat([motion, tmr.encode_text(tokens, torch.tensor([4, 3])).mu])


def test_round_trip_is_exact(folder: Path) -> None:
    original, loaded = small_tmr(), load_tmr(folder, with_decoder=True)
    assert torch.equal(embed(loaded.tmr), embed(original))
    assert loaded.tmr.config == CONFIG
    assert (loaded.tmr.text_encoder_name, loaded.tmr.text_encoder_fingerprint) == ("minilm", "abc")
    assert not loaded.tmr.training
    assert loaded.report.matched == {"text_encoder": 27, "motion_encoder": 27, "motion_decoder": 38}
    assert "27/27" in str(loaded.report) and "0 missing" in str(loaded.report)
    decoded = loaded.tmr.decode(torch.ones(1, 8), torch.tensor([5]))
    assert torch.equal(decoded, original.decode(torch.ones(1, 8), torch.tensor([5])))


def test_layout_is_the_originals(folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    weights = {f"last_weights/{name}.pt" for name in COMPONENTS}
    assert names == weights | {"stats/mean.pt", "stats/std.pt", "config.json"}
    config = json.loads((folder / "config.json").read_text())
    assert config["data"]["text_to_token_emb"]["modelname"] == "minilm"
    assert config["data"]["motion_loader"] == {
        "fps": 20.0,
        "nfeats": 12,
        "normalizer": {"base_dir": "stats", "eps": 1e-12},
    }
    assert config["model"]["motion_encoder"]["num_heads"] == 2
    state = torch.load(folder / "last_weights" / "motion_encoder.pt", weights_only=True)
    assert set(state) == set(small_tmr().motion_encoder.state_dict())


def test_half_precision_without_decoder_is_a_quarter_of_the_size(tmp_path: Path) -> None:
    save_tmr(tmp_path / "full", small_tmr())
    save_tmr(tmp_path / "half", small_tmr(), dtype="float16", with_decoder=False, provenance={"seed": 3})
    assert not (tmp_path / "half" / "last_weights" / "motion_decoder.pt").exists()
    state = torch.load(tmp_path / "half" / "last_weights" / "text_encoder.pt", weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.float16}
    loaded = load_tmr(tmp_path / "half").tmr
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(embed(loaded), embed(small_tmr()), atol=2e-2, rtol=0)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["provenance"] == {"seed": 3}
    with pytest.raises(TMRCheckpointError, match="no motion_decoder"):
        load_tmr(tmp_path / "half", with_decoder=True)


def test_saving_without_room_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "last_weights" / "text_encoder.pt").read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tmr_checkpoints.torch, "save", full_disk)
    with pytest.raises(WriteError, match="No space left"):
        save_tmr(folder, small_tmr(1))
    assert (folder / "last_weights" / "text_encoder.pt").read_bytes() == before


SINGLE_FILES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "components": lambda parts: parts,
    "guide names": lambda parts: {
        "text_encoder": parts["text_encoder"],
        "motion_encoder": parts["motion_encoder"],
        "movement_encoder": parts["motion_decoder"],
        "epoch": 3,
    },
    "state_dict suffix": lambda parts: {f"{name}_state_dict": part for name, part in parts.items()},
    "dotted under model": lambda parts: {"model": dotted(parts)},
    "lightning": lambda parts: {
        "state_dict": dotted(parts) | {"text_to_token_emb.dummy": torch.zeros(1)},
        "epoch": 1,
        "pytorch-lightning_version": "2.0",
        "optimizer_states": [],
    },
    "components without decoder": lambda parts: {name: parts[name] for name in COMPONENTS[:2]},
}


def dotted(parts: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


@pytest.mark.parametrize("form", SINGLE_FILES)
def test_single_files(form: str, folder: Path) -> None:
    path = folder / "tmr.ckpt"
    torch.save(SINGLE_FILES[form](states(small_tmr())), path)
    loaded = load_tmr(path)
    assert torch.equal(embed(loaded.tmr), embed(small_tmr()))
    ignored = {"lightning": ("text_to_token_emb.dummy",), "guide names": ("epoch",)}.get(form, ())
    assert loaded.report.ignored == ignored


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "component", "suffix"])
def test_three_files(wrapper: str | None, folder: Path) -> None:
    files = {}
    for name, state in states(small_tmr(2)).items():
        key = {"component": name, "suffix": f"{name}_state_dict"}.get(wrapper or "", wrapper)
        if wrapper == "component" and name == "motion_decoder":
            key = "movement_encoder"
        files[name] = folder / f"{name}.pth"
        torch.save({key: state} if key else state, files[name])
    loaded = load_tmr(**files, stats=folder / "stats", with_decoder=True)
    assert torch.equal(embed(loaded.tmr), embed(small_tmr(2)))


def test_last_weights_folder_and_statistics_beside_it(folder: Path, tmp_path: Path) -> None:
    assert torch.equal(embed(load_tmr(folder / "last_weights").tmr), embed(small_tmr()))
    stats = tmp_path / "elsewhere"
    shutil.move(folder / "stats", stats)
    with pytest.raises(TMRCheckpointError, match=r"no mean\.pt and std\.pt"):
        load_tmr(folder)
    assert torch.equal(embed(load_tmr(folder, stats=stats).tmr), embed(small_tmr()))


def test_genuine_layout_without_config_uses_published_heads_and_text_encoder(tmp_path: Path, parity_dir: Path) -> None:
    fixture = torch.load(parity_dir / "tmr.pt", weights_only=True)
    (tmp_path / "last_weights").mkdir()
    for name, state in fixture["state_dicts"].items():
        torch.save(state, tmp_path / "last_weights" / f"{name}.pt")
    torch.save(torch.zeros(263), tmp_path / "mean.pt")
    torch.save(torch.ones(263), tmp_path / "std.pt")
    tmr = load_tmr(tmp_path).tmr
    assert (tmr.config.num_heads, tmr.text_encoder_name) == (4, "distilbert-base-uncased")
    inputs = fixture["inputs"]
    motion = tmr.encode_motion(inputs["motion_x"], torch.tensor(inputs["motion_length"])).mu
    torch.testing.assert_close(motion, fixture["latents"]["motion_mu"], atol=1e-4, rtol=0)


def guo_states(parity_dir: Path) -> dict[str, Any]:
    return torch.load(parity_dir / "t2m_evaluator.pt", weights_only=True)["state_dicts"]


def test_the_evaluator_of_guo_is_named(tmp_path: Path, parity_dir: Path) -> None:
    """The trap: loading it leniently matches nothing and rewards at random."""
    parts = guo_states(parity_dir)
    torch.save(parts | {"epoch": 1}, tmp_path / "finest.tar")
    with pytest.raises(TMRCheckpointError, match=r"Guo et al\. evaluator .*finest\.tar.* not a TMR"):
        load_tmr(tmp_path / "finest.tar")
    torch.save({"text_encoder": parts["text_encoder"]}, tmp_path / "text.pth")
    torch.save(parts["motion_encoder"], tmp_path / "motion.pth")
    with pytest.raises(TMRCheckpointError, match=r"Guo et al\. evaluator text encoder"):
        load_tmr(text_encoder=tmp_path / "text.pth", motion_encoder=tmp_path / "motion.pth")
    kinds = {name: describe_state(state) for name, state in parts.items()}
    assert "motion encoder" in kinds["motion_encoder"] and "movement encoder" in kinds["movement_encoder"]


def test_a_movement_encoder_is_no_decoder(folder: Path, parity_dir: Path) -> None:
    path = folder / "movement.pt"
    torch.save(guo_states(parity_dir)["movement_encoder"], path)
    weights = folder / "last_weights"
    with pytest.raises(TMRCheckpointError, match=r"movement encoder \(a convolution, not TMR\); expected a TMR motion"):
        load_tmr(
            text_encoder=weights / "text_encoder.pt", motion_encoder=weights / "motion_encoder.pt", motion_decoder=path
        )


def test_an_mdm_checkpoint_is_named(tmp_path: Path, parity_dir: Path) -> None:
    torch.save(torch.load(parity_dir / "mdm_trans_enc.pt", weights_only=True)["state_dict"], tmp_path / "model.pt")
    with pytest.raises(TMRCheckpointError, match="MDM policy checkpoint"):
        load_tmr(tmp_path / "model.pt")


def broken(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "last_weights" / "motion_encoder.pt"
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return apply


def swap_encoders(folder: Path) -> None:
    weights = folder / "last_weights"
    (weights / "text_encoder.pt").rename(weights / "x")
    (weights / "motion_encoder.pt").rename(weights / "text_encoder.pt")
    (weights / "x").rename(weights / "motion_encoder.pt")
    torch.save(torch.zeros(12), folder / "stats" / "mean.pt")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing key": (
        broken(lambda state: state.pop("projection.bias")),
        r"matched 26 of 27.*missing \['projection.bias'",
    ),
    "unexpected key": (broken(lambda state: state.update(extra=torch.zeros(1))), r"unexpected \['extra'\]"),
    "other shape": (broken(lambda state: state.update({"projection.bias": torch.zeros(3)})), "other shape"),
    "nan": (
        broken(lambda state: state["tokens"].fill_(torch.nan)),
        "motion_encoder tokens has values that are not fin",
    ),
    "not vae": (broken(lambda state: state.update(tokens=torch.zeros(1, 8))), r"tokens has shape \(1, 8\)"),
    "no tensor": (broken(lambda state: state.update({"projection.bias": 3})), "projection.bias is a int"),
    "no encoder": (lambda folder: (folder / "last_weights" / "text_encoder.pt").unlink(), r"no text_encoder\.pt"),
    "damaged": (
        lambda folder: (folder / "last_weights" / "text_encoder.pt").write_bytes(b"rubbish"),
        "text_encoder.pt",
    ),
    "cut short": (
        lambda folder: (path := folder / "last_weights" / "text_encoder.pt").write_bytes(path.read_bytes()[:1000]),
        "is cut off",
    ),
    "code inside": (
        lambda folder: torch.save({"a": Path("x")}, folder / "last_weights" / "text_encoder.pt"),
        r"holds Python objects beside tensors \(pathlib\.\w+\).*extract\.py",
    ),
    "a list": (lambda folder: torch.save([1], folder / "last_weights" / "text_encoder.pt"), "holds a list"),
    "swapped": (swap_encoders, "look swapped"),
    "stats width": (lambda folder: torch.save(torch.ones(3), folder / "stats" / "mean.pt"), "mean has 3 numbers"),
    "config": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json: not JSON"),
    "heads": (
        lambda folder: (folder / "config.json").write_text('{"model": {"motion_encoder": {"num_heads": 3}}}'),
        "num_heads=3",
    ),
    "no encoder name": (lambda folder: (folder / "config.json").unlink(), "names the text encoder"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_folders(fault: str, folder: Path) -> None:
    damage, message = BROKEN[fault]
    damage(folder)
    with pytest.raises(ValueError, match=message):
        load_tmr(folder)


def test_missing_files_and_double_naming(folder: Path) -> None:
    with pytest.raises(TMRCheckpointError, match="no such file"):
        load_tmr(folder / "nothing.pt")
    with pytest.raises(TMRCheckpointError, match="no motion_encoder file given"):
        load_tmr(text_encoder=folder / "last_weights" / "text_encoder.pt")
    with pytest.raises(TMRCheckpointError, match="not both"):
        load_tmr(folder, text_encoder=folder / "x.pt")


def test_text_encoder_may_be_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    tmr = load_tmr(folder, text_encoder_name="minilm").tmr
    assert (tmr.text_encoder_name, tmr.text_encoder_fingerprint, tmr.config.num_heads) == ("minilm", None, 4)


def test_statistics_of_another_model_are_refused(folder: Path) -> None:
    torch.save(torch.full((12,), 2.0), folder / "stats" / "std.pt")
    with pytest.raises(
        TMRCheckpointError, match=r"mean\.pt and std\.pt are not the statistics that it was trained with"
    ):
        load_tmr(folder)


@pytest.mark.parametrize("of_policy", [True, False])
def test_statistics_that_look_like_a_policys_are_told(
    tmp_path: Path, of_policy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    layout = FeatureLayout(22)
    std = np.linspace(0.5, 2.0, 263)
    for part in layout.groups if of_policy else ():
        std[part] = std[part].mean()
    sizes = TMRConfig(num_features=263, text_dim=6, latent_dim=8, ff_size=16, num_layers=1, num_heads=2)
    save_tmr(tmp_path / "tmr", TMR(sizes, Normalizer(np.zeros(263), std), "minilm", with_decoder=False))
    load_tmr(tmp_path / "tmr")
    assert not caplog.text
    # Files of others do not say which statistics are theirs.
    document = json.loads((tmp_path / "tmr" / "config.json").read_text())
    del document["statistics_sha256"]
    (tmp_path / "tmr" / "config.json").write_text(json.dumps(document))
    load_tmr(tmp_path / "tmr")
    assert ("std.pt has only 7 different numbers for 263 features" in caplog.text) is of_policy


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixes_of_training_programs_are_taken_off(prefix: str, folder: Path) -> None:
    for path in (folder / "last_weights").iterdir():
        torch.save({f"{prefix}{name}": value for name, value in torch.load(path, weights_only=True).items()}, path)
    assert torch.equal(embed(load_tmr(folder).tmr), embed(small_tmr()))
