"""TMR weights on disk: what is accepted, how it is recognised, and the one layout that is written.

Accepted (all with `weights_only=True`):

* a run folder of the original: `last_weights/{text_encoder,motion_encoder,motion_decoder}.pt`, each a plain state dict,
  with `config.json`; or that `last_weights` folder itself; or the files one by one (raw, or wrapped under `model`,
  `state_dict` or the component's name);
* a Lightning checkpoint: `state_dict` with `text_encoder.`, `motion_encoder.`, `motion_decoder.` prefixes;
* one file with the components by name, with or without a `_state_dict` suffix, or dotted under `model`.

Components are recognised by their keys, never by a file's name alone: public reward code loads TMR files into the
recurrent evaluator of Guo et al. with `strict` off, matches nothing, and rewards with a random network. Here a file
of that evaluator is refused by name, every tensor must match, and every value must be finite. Sizes follow from the
shapes; only the number of heads does not (config.json, else 4 as published).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from motions.atomic import atomic_write
from motions.normalization import Normalizer
from rewards.tmr import NORMALIZATION_EPS, TMR, TMRConfig

State = dict[str, Tensor]
COMPONENTS = ("text_encoder", "motion_encoder", "motion_decoder")
# The reward guide's third file is called movement encoder; with genuine TMR weights it is the motion decoder.
_NAMES = {name: name for name in COMPONENTS} | {"movement_encoder": "motion_decoder"}
_WRAPPERS = ("state_dict", "model")
_OFFICIAL_TEXT_ENCODER = "distilbert-base-uncased"
_OFFICIAL_TEXT_DIM = 768


class TMRCheckpointError(ValueError):
    """A file is not (all of) a TMR; the message names the file, what it is, and what was expected."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load matched. Nothing can be missing: a missing or unexpected tensor is an error."""

    source: str
    matched: dict[str, int]
    """component -> number of tensors loaded, e.g. {"text_encoder": 75, "motion_encoder": 75}."""
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


def describe_state(state: Mapping[str, Any]) -> str:
    """Name what a state dict is, from its keys."""

    def has(*prefixes: str) -> bool:
        return any(str(key).startswith(prefixes) for key in state)

    if has("seqTransEncoder.") and "tokens" in state:
        return "TMR encoder"
    if has("seqTransDecoder.") and has("final_layer."):
        return "TMR motion decoder"
    if has("gru.") and has("pos_emb."):
        return "Guo et al. evaluator text encoder (a BiGRU, not TMR)"
    if has("gru.") and has("hidden", "output_net."):
        return "Guo et al. evaluator motion encoder (a BiGRU, not TMR)"
    if has("main.0.") and has("out_net."):
        return "Guo et al. evaluator movement encoder (a convolution, not TMR)"
    if has("input_process.", "seqTransEncoder.layers", "embed_timestep."):
        return "MDM policy checkpoint"
    keys = ", ".join(str(key) for key in list(state)[:4])
    return f"unknown state dict (keys {keys or 'none'}, ...)"


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
        text_encoder, motion_encoder, motion_decoder: component files.
        stats: folder with `mean.pt` and `std.pt`; by default looked for beside the weights.
        text_encoder_name: overrides the name in `config.json`.
        with_decoder: also build the decoder; an error where the weights have none.

    Raises:
        TMRCheckpointError: missing file, other kind of network, missing or unexpected tensor, wrong shape, not finite.
    """
    if path is not None:
        if text_encoder or motion_encoder or motion_decoder:
            raise TMRCheckpointError(f"TMR: give either one path ({path}) or the component files, not both")
        source = Path(path)
        states, ignored = _read_folder(source) if source.is_dir() else _read_single_file(source)
    else:
        states, ignored = _read_component_files(text_encoder, motion_encoder, motion_decoder)
        source = Path(str(text_encoder)).parent
    for name in ("text_encoder", "motion_encoder", *(("motion_decoder",) if with_decoder else ())):
        if name not in states:
            raise TMRCheckpointError(f"TMR {source}: no {name}; found {', '.join(states) or 'no component'}")
    settings = _read_config(source)
    normalizer = _read_stats(source, None if stats is None else Path(stats))
    config = _infer_config(states, settings, source)
    if config.num_features != normalizer.num_features:
        swapped = config.text_dim == normalizer.num_features
        raise TMRCheckpointError(
            f"TMR {source}: the motion encoder takes {config.num_features} features, the statistics have "
            f"{normalizer.num_features}{'; text and motion encoder look swapped' if swapped else ''}"
        )
    name = text_encoder_name or _text_encoder_name(settings, config, source)
    fingerprint = _setting(settings, "data", "text_to_token_emb", "fingerprint") if text_encoder_name is None else None
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
        "provenance": dict(provenance or {}),
    }


def _read_torch(path: Path) -> Any:
    if not path.is_file():
        raise TMRCheckpointError(f"TMR {path}: no such file")
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] != b"\x80" and start != b"PK":  # A pickle stream (before torch 1.6) or a zip archive.
        raise TMRCheckpointError(f"TMR {path}: not a torch file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0] if str(error) else "not a torch file"
        raise TMRCheckpointError(
            f"TMR {path}: cannot be read safely ({reason}). Files that hold more than tensors and plain values are not "
            "opened; split a Lightning checkpoint into its three state dicts with the original's extract.py first"
        ) from error
    except (RuntimeError, EOFError, IndexError, KeyError) as error:
        raise TMRCheckpointError(f"TMR {path}: damaged or not a torch file ({str(error).splitlines()[0]})") from error


def _component_of(name: str) -> str | None:
    return _NAMES.get(name.removesuffix("_state_dict"))


def _unwrap(document: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(document, Mapping) or not document:
        raise TMRCheckpointError(f"TMR {path}: holds a {type(document).__name__}, expected a dict of tensors")
    for wrapper in _WRAPPERS:
        if isinstance(document.get(wrapper), Mapping):
            return document[wrapper]
    return document


def _read_single_file(path: Path) -> tuple[dict[str, State], tuple[str, ...]]:
    """Components of one file, by name or by dotted prefix."""
    document = _unwrap(_read_torch(path), path)
    states: dict[str, State] = {}
    ignored: list[str] = []
    for key, value in document.items():
        component = _component_of(str(key))
        if component and isinstance(value, Mapping):
            states[component] = dict(value)
            continue
        prefix, _, rest = str(key).partition(".")
        component = _component_of(prefix)
        if component and rest and isinstance(value, Tensor):
            states.setdefault(component, {})[rest] = value
        else:
            ignored.append(str(key))
    if not states:
        raise TMRCheckpointError(
            f"TMR {path}: is a {describe_state(document)}; expected components text_encoder and motion_encoder, "
            "by name or as key prefixes"
        )
    kinds = [describe_state(state) for state in states.values()]
    if guo := [kind for kind in kinds if kind.startswith("Guo")]:
        raise TMRCheckpointError(
            f"TMR {path}: holds a {guo[0]}: this is the evaluator's text_mot_match/model/finest.tar or a copy of its "
            "parts, not a TMR, whatever the file is called"
        )
    for name, state in states.items():
        _require_kind(name, state, path)
    return states, tuple(ignored)


def _read_component(path: Path, name: str) -> State:
    document = _unwrap(_read_torch(path), path)
    for key in (name, f"{name}_state_dict", "movement_encoder" if name == "motion_decoder" else name):
        if isinstance(document.get(key), Mapping):
            document = document[key]
            break
    state = dict(document)
    _require_kind(name, state, path)
    return state


def _read_component_files(
    text: str | Path | None, motion: str | Path | None, decoder: str | Path | None
) -> tuple[dict[str, State], tuple[str, ...]]:
    if text is None or motion is None:
        missing = "text_encoder" if text is None else "motion_encoder"
        raise TMRCheckpointError(f"TMR: no {missing} file given; both encoders are needed")
    given = {"text_encoder": text, "motion_encoder": motion, "motion_decoder": decoder}
    return {name: _read_component(Path(path), name) for name, path in given.items() if path is not None}, ()


def _read_folder(folder: Path) -> tuple[dict[str, State], tuple[str, ...]]:
    weights = folder / "last_weights" if (folder / "last_weights").is_dir() else folder
    files = {name: weights / f"{name}.pt" for name in COMPONENTS}
    for name in COMPONENTS[:2]:
        if not files[name].is_file():
            raise TMRCheckpointError(f"TMR {folder}: no {name}.pt in {weights}")
    return {name: _read_component(path, name) for name, path in files.items() if path.is_file()}, ()


def _require_kind(name: str, state: Mapping[str, Any], path: Path) -> None:
    expected = "TMR motion decoder" if name == "motion_decoder" else "TMR encoder"
    kind = describe_state(state)
    if kind != expected:
        raise TMRCheckpointError(f"TMR {path}: {name} is a {kind}; expected a {expected}")
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise TMRCheckpointError(f"TMR {path}: {name} {key} is a {type(value).__name__}, expected a tensor")
        if not bool(torch.isfinite(value).all()):
            raise TMRCheckpointError(f"TMR {path}: {name} {key} has values that are not finite")


def _run_folders(source: Path) -> list[Path]:
    """Folders in which config.json and statistics may lie, nearest first."""
    folder = source if source.is_dir() else source.parent
    return [folder, folder.parent] if folder.name == "last_weights" else [folder]


def _read_config(source: Path) -> Mapping[str, Any]:
    for folder in _run_folders(source):
        path = folder / "config.json"
        if path.is_file():
            try:
                settings = json.loads(path.read_text())
            except ValueError as error:
                raise TMRCheckpointError(f"TMR {path}: not JSON ({error})") from error
            if not isinstance(settings, Mapping):
                raise TMRCheckpointError(f"TMR {path}: holds a {type(settings).__name__}, expected an object")
            return settings
    return {}


def _read_stats(source: Path, stats: Path | None) -> Normalizer:
    places = [stats] if stats else [place for folder in _run_folders(source) for place in (folder / "stats", folder)]
    for place in places:
        if (place / "mean.pt").is_file() and (place / "std.pt").is_file():
            try:
                return Normalizer.load(place / "mean.pt", place / "std.pt", eps=NORMALIZATION_EPS)
            except ValueError as error:
                raise TMRCheckpointError(f"TMR statistics: {error}") from error
    looked = ", ".join(str(place) for place in places)
    raise TMRCheckpointError(
        f"TMR {source}: no mean.pt and std.pt in {looked}; TMR has its own motion statistics "
        "(stats/<dataset>/guoh3dfeats of the original), which are not the policy's Mean.npy and Std.npy"
    )


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
        return name
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
