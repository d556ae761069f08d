"""Loads TMR weights strictly from the formats of `rewards.tmr.components`, and saves them in TMR's own layout.

Every tensor must match. Sizes follow from the shapes; only the number of heads does not (config.json beside the
weights, else 4 as published).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from motions.base.atomic import atomic_write
from motions.base.foreign_files import read_text
from motions.base.named import named_in_file
from motions.skeleton.normalization import Normalizer
from rewards.tmr.components import COMPONENTS, State, TMRCheckpointError, read_component_files, read_components
from rewards.tmr.network import NORMALIZATION_EPS, TMR, TMRConfig

logger = logging.getLogger(__name__)

_OFFICIAL_TEXT_ENCODER = "distilbert-base-uncased"
_OFFICIAL_TEXT_DIM = 768


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Counts of a load. There are no missing tensors: a missing or unexpected tensor is an error."""

    source: str
    matched: dict[str, int]
    """Component -> number of tensors loaded, such as {"text_encoder": 75, "motion_encoder": 75}."""
    ignored: tuple[str, ...]
    """Keys of a Lightning checkpoint that belong to none of the three components."""

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {count}/{count}" for name, count in self.matched.items())
        return f"TMR from {self.source}: {parts} tensors matched, 0 missing, {len(self.ignored)} ignored"


@dataclass(frozen=True, slots=True)
class LoadedTMR:
    """A TMR in eval mode and the report of its loading."""

    tmr: TMR
    report: LoadReport


def load_tmr(
    path: str | Path | None = None,
    *,
    text_encoder: str | Path | None = None,
    motion_encoder: str | Path | None = None,
    motion_decoder: str | Path | None = None,
    stats: str | Path | None = None,
    text_encoder_name: str | None = None,
    with_decoder: bool = False,
) -> LoadedTMR:
    """Load a TMR strictly, in float32 and eval mode.

    Args:
        path: a folder or a single file; exclusive with the component files.
        text_encoder: file of the text encoder; with `motion_encoder` it replaces `path`.
        motion_encoder: file of the motion encoder.
        motion_decoder: file of the motion decoder.
        stats: folder with `mean.pt` and `std.pt`; by default looked for beside the weights.
        text_encoder_name: overrides the name in `config.json`.
        with_decoder: also build the decoder; an error if the weights have none.

    Raises:
        TMRCheckpointError: missing file, other kind of network, missing or unexpected tensor, wrong shape, not finite.
        UserError: config.json names a class to import as the text encoder.
    """
    if path is not None:
        if text_encoder or motion_encoder or motion_decoder:
            raise TMRCheckpointError(f"TMR: give either one path ({path}) or the component files, not both")
        source = Path(path)
        states, ignored = read_components(source)
    else:
        states, ignored = read_component_files(text_encoder, motion_encoder, motion_decoder)
        source = Path(str(text_encoder)).parent
    for name in ("text_encoder", "motion_encoder", *(("motion_decoder",) if with_decoder else ())):
        if name not in states:
            raise TMRCheckpointError(f"TMR {source}: no {name}; found {', '.join(states) or 'no component'}")
    settings = _read_config(source)
    normalizer, place = _read_stats(source, None if stats is None else Path(stats))
    config = _infer_config(states, settings, source)
    if config.num_features != normalizer.num_features:
        swapped = config.text_dim == normalizer.num_features
        raise TMRCheckpointError(
            f"TMR {source}: the motion encoder takes {config.num_features} features, the statistics have "
            f"{normalizer.num_features}{'; text and motion encoder look swapped' if swapped else ''}"
        )
    _check_stats(source, place, normalizer, settings.get("statistics_sha256"))
    name = text_encoder_name or _text_encoder_name(settings, config, source)
    stated = _setting(settings, "data", "text_to_token_emb") or {}
    fingerprint = stated.get("fingerprint") if stated.get("modelname") == name else None
    tmr = TMR(config, normalizer, name, text_encoder_fingerprint=fingerprint, with_decoder=with_decoder)
    matched = {}
    for component in COMPONENTS[: 3 if with_decoder else 2]:
        matched[component] = _load_component(tmr.get_submodule(component), states[component], component, source)
    return LoadedTMR(tmr.eval(), LoadReport(str(source), matched, ignored))


def save_tmr(
    folder: str | Path,
    tmr: TMR,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    with_decoder: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a TMR in the original's layout: `last_weights/*.pt`, `stats/{mean,std}.pt`, `config.json`, each atomically.

    Args:
        folder: created when absent.
        dtype: storage of the weights; they are float32 again once loaded.
        with_decoder: leave the decoder out to halve the size (rewards do not need it).
        provenance: JSON values kept under `provenance` of config.json (command, seed, data, measured figures).

    Raises:
        WriteError: disk full or folder not writable; files already there stay whole.
    """
    folder = Path(folder)
    (folder / "last_weights").mkdir(parents=True, exist_ok=True)
    (folder / "stats").mkdir(exist_ok=True)
    storage = {"float32": torch.float32, "float16": torch.float16}[dtype]
    for name in COMPONENTS if with_decoder and tmr.motion_decoder is not None else COMPONENTS[:2]:
        state = {key: value.detach().cpu().to(storage) for key, value in tmr.get_submodule(name).state_dict().items()}
        with atomic_write(folder / "last_weights" / f"{name}.pt") as file:
            torch.save(state, file)
    for name, values in (("mean", tmr.normalizer.mean), ("std", tmr.normalizer.std)):
        with atomic_write(folder / "stats" / f"{name}.pt") as file:
            torch.save(torch.tensor(values), file)
    with atomic_write(folder / "config.json") as file:
        file.write(json.dumps(_config_document(tmr, dtype, provenance), indent=2).encode())


def _config_document(tmr: TMR, dtype: str, provenance: Mapping[str, Any] | None) -> dict[str, Any]:
    config = tmr.config
    sizes = {
        "vae": True,
        "latent_dim": config.latent_dim,
        "ff_size": config.ff_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "dropout": config.dropout,
        "activation": "gelu",
    }
    return {
        "model": {
            "text_encoder": {"nfeats": config.text_dim, **sizes},
            "motion_encoder": {"nfeats": config.num_features, **sizes},
            "motion_decoder": {"nfeats": config.num_features, **sizes},
        },
        "data": {
            "motion_loader": {
                "fps": config.fps,
                "nfeats": config.num_features,
                "normalizer": {"base_dir": "stats", "eps": NORMALIZATION_EPS},
            },
            "text_to_token_emb": {
                "modelname": tmr.text_encoder_name,
                "fingerprint": tmr.text_encoder_fingerprint,
            },
        },
        "storage": dtype,
        "statistics_sha256": _fingerprint(tmr.normalizer),
        "provenance": dict(provenance or {}),
    }


def _run_folders(source: Path) -> list[Path]:
    """Folders in which config.json and statistics may lie, nearest first."""
    folder = source if source.is_dir() else source.parent
    return [folder, folder.parent] if folder.name == "last_weights" else [folder]


def _read_config(source: Path) -> Mapping[str, Any]:
    for folder in _run_folders(source):
        path = folder / "config.json"
        if path.is_file():
            try:
                settings = json.loads(read_text(path))
            except ValueError as error:
                raise TMRCheckpointError(f"TMR {path}: not JSON ({error})") from error
            if not isinstance(settings, Mapping):
                raise TMRCheckpointError(f"TMR {path}: holds a {type(settings).__name__}, expected an object")
            return settings
    return {}


def _read_stats(source: Path, stats: Path | None) -> tuple[Normalizer, Path]:
    """The statistics, and the folder they were found in."""
    places = [stats] if stats else [place for folder in _run_folders(source) for place in (folder / "stats", folder)]
    for place in places:
        mean, std = place / "mean.pt", place / "std.pt"
        if not mean.is_file() or not std.is_file():
            continue
        try:
            normalizer = Normalizer.load(mean, std, eps=NORMALIZATION_EPS)
        except ValueError as error:
            raise TMRCheckpointError(f"TMR statistics: {error}") from error
        return normalizer, place
    looked = ", ".join(str(place) for place in places)
    raise TMRCheckpointError(
        f"TMR {source}: no mean.pt and std.pt in {looked}; TMR has its own motion statistics "
        "(stats/<dataset>/guoh3dfeats of the original), which are not the policy's Mean.npy and Std.npy"
    )


def _check_stats(source: Path, place: Path, normalizer: Normalizer, trained: object) -> None:
    """Raises TMRCheckpointError where the statistics are not those of the training, as far as config.json says which
    these are; warns where they may be a policy's."""
    if trained is not None and trained != _fingerprint(normalizer):
        raise TMRCheckpointError(
            f"TMR {source}: {place}/mean.pt and std.pt are not the statistics that it was trained with (config.json: "
            f"statistics_sha256 {str(trained)[:12]}); every score would be of motions it never saw"
        )
    if trained is None and (number := normalizer.num_grouped) is not None:
        logger.warning(
            "TMR %s: %s/std.pt has only %d different numbers for %d features, as a policy's Std.npy has; an official "
            "TMR's has one for each feature. If they are not those it was trained with, its scores mean nothing",
            *(source, place, number, normalizer.num_features),
        )


def _fingerprint(normalizer: Normalizer) -> str:
    return hashlib.sha256(normalizer.mean.tobytes() + normalizer.std.tobytes()).hexdigest()


def _setting(settings: Mapping[str, Any], *keys: str) -> Any:
    value: Any = settings
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _infer_config(states: dict[str, State], settings: Mapping[str, Any], source: Path) -> TMRConfig:
    """Sizes from the motion encoder's shapes; the text encoder must agree (checked by its strict load)."""
    motion, text = states["motion_encoder"], states["text_encoder"]
    for name, state in (("motion_encoder", motion), ("text_encoder", text)):
        for key in ("projection.weight", "seqTransEncoder.layers.0.linear1.weight"):
            if key not in state:
                raise TMRCheckpointError(f"TMR {source}: {name} misses {key}")
        if state["tokens"].ndim != 2 or state["tokens"].shape[0] != 2:
            raise TMRCheckpointError(
                f"TMR {source}: {name} tokens has shape {tuple(state['tokens'].shape)}, expected [2, d] "
                "(mu and logvar; a TMR trained without its VAE has one and is not supported)"
            )
    layers = {int(key.split(".")[2]) for key in motion if key.startswith("seqTransEncoder.layers.")}
    heads = _setting(settings, "model", "motion_encoder", "num_heads")
    fps = _setting(settings, "data", "motion_loader", "fps")
    defaults = TMRConfig()
    return TMRConfig(
        num_features=motion["projection.weight"].shape[1],
        text_dim=text["projection.weight"].shape[1],
        latent_dim=motion["tokens"].shape[1],
        ff_size=motion["seqTransEncoder.layers.0.linear1.weight"].shape[0],
        num_layers=max(layers) + 1,
        num_heads=defaults.num_heads if heads is None else int(heads),
        fps=defaults.fps if fps is None else float(fps),
    )


def _text_encoder_name(settings: Mapping[str, Any], config: TMRConfig, source: Path) -> str:
    name = _setting(settings, "data", "text_to_token_emb", "modelname")
    if isinstance(name, str) and name:
        return named_in_file(f"TMR {source}: modelname of config.json", name, "tmr_text_model (or --judge_text_model)")
    if config.text_dim == _OFFICIAL_TEXT_DIM:
        return _OFFICIAL_TEXT_ENCODER
    raise TMRCheckpointError(
        f"TMR {source}: no config.json names the text encoder, and its width {config.text_dim} is not that of "
        f"{_OFFICIAL_TEXT_ENCODER} ({_OFFICIAL_TEXT_DIM}); name it"
    )


def _load_component(module: nn.Module, state: State, name: str, source: Path) -> int:
    """Strict load with a message that says how much matched. Returns the number of tensors."""
    expected = module.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if missing or unexpected or reshaped:
        matched = len(expected) - len(missing) - len(reshaped)
        raise TMRCheckpointError(
            f"TMR {source}: {name} matched {matched} of {len(expected)} tensors; missing {missing[:5] or 'none'}; "
            f"unexpected {unexpected[:5] or 'none'}; other shape {reshaped[:5] or 'none'}"
        )
    module.load_state_dict(state)
    return len(expected)
