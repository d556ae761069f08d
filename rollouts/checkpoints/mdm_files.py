"""MDM checkpoints: `model#########.pt` with `args.json` beside it, loaded strictly and saved as MDM's code does.

Three formats are read: a plain state dict, `{'model': ...}` and `{'model': ..., 'model_avg': ...}` (averaged weights),
all with or without training state, and the same in the wrappers of `wrapped_states.py`. Frozen text encoders
(`clip_model.*`) and positional tables are dropped; every other name and shape must match, and every number must be
finite. args.json is written with all defaults resolved.

A folder written by `save_mdm` holds all that generation needs: weights, args.json, the statistics of its features
(`Mean.npy`, `Std.npy`), the skeleton, the text encoder and the command that made it. A copy in
`rollouts/weights/<name>/` is the built-in model `<name>`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from motions.base.atomic import atomic_write
from motions.base.named import named_in_file
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import Skeleton, get_skeleton
from rollouts.checkpoints.file_kinds import CheckpointError, describe_contents, read_torch_file
from rollouts.checkpoints.model_args import ARGS_FILE, ModelArgs, ModelArgsError, dataset_of, read_model_args
from rollouts.checkpoints.wrapped_states import AVERAGED_KEYS, PLAIN_KEYS, under_key, unwrapped
from rollouts.diffusion.denoiser import AdapterLayer
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.networks.denoiser_network import DenoiserNetwork, denoiser_class

WEIGHTS_DIR = Path(__file__).parent.parent / "weights"
"""Folder of the built-in models, each in a folder of its own."""

_TEXT_TOWER = "clip_model."  # BERT is stored under this name too
_STEP = re.compile(r"model(\d{9})\.pt")
STATISTICS = ("Mean.npy", "Std.npy")

WeightsChoice = Literal["plain", "model", "model_avg"]


@dataclass(frozen=True, slots=True)
class MDMReport:
    """Counts of a load. There are no missing tensors: that is an error."""

    path: Path
    weights: WeightsChoice
    """Which of the file's weights were loaded."""
    num_matched: int
    """Number of tensors loaded; all of the network's."""
    num_dropped: int
    """Number of tensors of frozen text encoders and positional tables."""
    unknown_args: tuple[str, ...]
    """Arguments of args.json that have no meaning here (training options, fields of newer versions)."""
    defaulted_args: tuple[str, ...]
    """Arguments that args.json lacks, as old files do."""
    unwrapped: tuple[str, ...] = ()
    """Keys and prefixes around the weights that MDM does not write, and that were taken off."""

    def __str__(self) -> str:
        notes = f", {self.num_dropped} of text encoder and tables passed over" if self.num_dropped else ""
        lacking = f"; defaults for {', '.join(self.defaulted_args)}" if self.defaulted_args else ""
        lacking += f"; taken out of {', '.join(map(repr, self.unwrapped))}" if self.unwrapped else ""
        return (
            f"MDM from {self.path} ({self.weights}): {self.num_matched}/{self.num_matched} tensors matched{notes}; "
            f"{len(self.unknown_args)} arguments not used{lacking}"
        )


@dataclass(frozen=True, slots=True)
class LoadedMDM:
    """A network in eval mode with everything that its checkpoint states about it."""

    network: DenoiserNetwork
    schedule: DiffusionSchedule
    args: ModelArgs
    skeleton: Skeleton
    normalizer: Normalizer | None
    """None if there are no statistics beside the checkpoint and none were named."""
    report: MDMReport


def load_mdm(
    path: str | Path,
    *,
    arch: str | None = None,
    use_ema: bool | None = None,
    stats_path: str | Path | None = None,
    skeleton: str | None = None,
) -> LoadedMDM:
    """Loads a checkpoint: a built-in name, a file, or a folder (its latest step).

    Args:
        path: built-in name, file or folder.
        arch: architecture, a registered name or `package.module:Class`; None for that of args.json.
        use_ema: whether to load averaged weights from a file with both; None for the choice of args.json.
        stats_path: folder with Mean.npy and Std.npy; None for the checkpoint's folder, if they are there.
        skeleton: name of the skeleton; None for that of args.json.

    Raises:
        CheckpointError: no such file, another kind of file, names or shapes that do not match, numbers not finite.
        ModelArgsError: args.json missing, broken, or of a model that is not supported.
        UserError: broken statistics, unknown skeleton, an args.json that names a class to import.
    """
    file = find_checkpoint(path)
    choices, unwrapped = _weights_in(read_torch_file(file), file, _class_of(file, arch))
    args = _args_of(file, arch)
    try:
        args.require_supported()
        name = skeleton or args.skeleton_name
    except ModelArgsError as error:
        raise ModelArgsError(f"{file.with_name(ARGS_FILE)}: {error}") from error
    weights = _choose(choices, file, use_ema, args.use_ema)
    kept = {name: value for name, value in choices[weights].items() if not name.startswith(_TEXT_TOWER)}
    _require_finite_tensors(kept, file)
    try:
        network = denoiser_class(args.arch).from_file(kept, args.model_dump())
    except ValueError as error:
        raise CheckpointError(f"{file}, with the sizes of its args.json: {error}") from error
    num_matched = len(kept.keys() - set(network.derived_names))
    report = MDMReport(
        path=file,
        weights=weights,
        num_matched=num_matched,
        num_dropped=len(choices[weights]) - num_matched,
        unknown_args=tuple(sorted(args.model_extra or {})),
        defaulted_args=args.defaulted,
        unwrapped=unwrapped,
    )
    return LoadedMDM(
        network=network.eval(),
        schedule=DiffusionSchedule(args.noise_schedule, args.diffusion_steps),
        args=args,
        skeleton=_skeleton(name, network.num_features, file),
        normalizer=_load_normalizer(file.parent, stats_path, network.num_features),
        report=report,
    )


def save_mdm(
    folder: str | Path,
    step: int,
    network: DenoiserNetwork,
    args: ModelArgs,
    normalizer: Normalizer,
    *,
    average: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write `model{step:09d}.pt`, args.json, Mean.npy and Std.npy to a folder (made if absent); returns the model file.

    Adapters are merged, so any MDM tool reads an MDM's file. Each file is written atomically, the model last.

    Args:
        folder: of one training run; files of other steps stay.
        step: number of the training step.
        network: the weights; its `to_file` names them.
        args: of `model_args_of`; `use_ema` is set by `average`.
        normalizer: statistics of the features the network was trained on.
        average: averaged weights under the network's names (`EMA.weights()`); the file then holds 'model' and
            'model_avg'.
        dtype: float16 halves the file; loading gives float32 in any case.

    Raises:
        ValueError: `args` describes another network, or the statistics have another width.
        WriteError: the disk is full or the folder not writable; older files are unchanged.
    """
    _require_same_model(args, network)
    if normalizer.num_features != network.num_features:
        raise ValueError(
            f"the statistics have {normalizer.num_features} numbers, the network {network.num_features} features"
        )
    state = _file_state(network, None, dtype)
    contents: dict[str, Any] = state
    if average is not None:
        contents = {"model": state, "model_avg": _file_state(network, average, dtype)}
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, array in zip(STATISTICS, (normalizer.mean, normalizer.std), strict=True):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        with atomic_write(target / name) as file:
            file.write(buffer.getvalue())
    with atomic_write(target / ARGS_FILE) as file:
        file.write(args.model_copy(update={"use_ema": average is not None}).to_json().encode())
    path = target / f"model{step:09d}.pt"
    with atomic_write(path) as file:
        torch.save(contents, file)
    return path


def model_args_of(
    network: DenoiserNetwork,
    schedule: DiffusionSchedule,
    skeleton: str,
    text_encoder: str,
    *,
    max_frames: int | None = None,
    text_encoder_fingerprint: str | None = None,
    command: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> ModelArgs:
    """Resolved arguments of a network, for `save_mdm`.

    Args:
        network: of which `args` are taken.
        schedule: the one it is trained with (not respaced).
        skeleton: its features' skeleton by name.
        text_encoder: name of the text encoder, as for `load_text_encoder`.
        max_frames: frames of the longest motions that it is trained on.
        text_encoder_fingerprint: that of the encoder it is trained with; another one is refused later.
        command: the command that makes the weights.
        extra: further entries of args.json (training options); JSON values.
    """
    values = network.args() | {
        "dataset": dataset_of(skeleton),
        "noise_schedule": schedule.name,
        "diffusion_steps": schedule.base_steps,
        "skeleton": skeleton,
        "text_encoder_type": "bert" if text_encoder == "distilbert" else text_encoder,
        "max_frames": max_frames,
        "text_encoder_fingerprint": text_encoder_fingerprint,
        "command": command,
    }
    return ModelArgs.model_validate(dict(extra or {}) | values)


def find_checkpoint(path: str | Path) -> Path:
    """The file that a built-in name, a file or a folder denotes; a CheckpointError says what is there instead."""
    if isinstance(path, str) and path in builtin_names():
        return _latest(WEIGHTS_DIR / path)
    file = Path(path).expanduser()
    if file.is_dir():
        return _latest(file)
    if file.is_file():
        return file
    near = sorted(other.name for other in file.parent.glob("model*.pt")) if file.parent.is_dir() else []
    there = f"; in that folder: {', '.join(near[-5:])}" if near else ""
    raise CheckpointError(f"model_path is {str(path)!r}: no such file{there}. Built-in: {_listed_builtin()}")


def builtin_names() -> tuple[str, ...]:
    """Names of the models that come with kinetune."""
    return tuple(sorted(file.parent.name for file in WEIGHTS_DIR.glob(f"*/{ARGS_FILE}")))


def _listed_builtin() -> str:
    return ", ".join(builtin_names()) or "none (this installation has no rollouts/weights)"


def _latest(folder: Path) -> Path:
    steps = sorted(file for file in folder.glob("model*.pt") if _STEP.fullmatch(file.name))
    final = [folder / "model_final.pt"] if (folder / "model_final.pt").is_file() else []
    if not steps and not final:
        raise CheckpointError(f"{folder}: no model#########.pt in this folder")
    return (steps or final)[-1]


def _args_of(file: Path, arch: str | None) -> ModelArgs:
    """The arguments of a file, with the architecture that the user names instead of the file's."""
    args = read_model_args(file)
    if arch is not None:
        return args.model_copy(update={"arch": arch})
    named_in_file(f"{file.with_name(ARGS_FILE)}: arch", args.arch, "arch")
    return args


def _class_of(file: Path, arch: str | None) -> type[DenoiserNetwork]:
    """The class of the architecture. MDM's where none is named: what is wrong with args.json is told later, since the
    contents of another kind of file say more about a mistake than the lack of an args.json."""
    try:
        args = _args_of(file, arch)
    except ModelArgsError:
        return denoiser_class("trans_enc")
    return denoiser_class(args.arch if args.has_denoiser else "trans_enc")


def _weights_in(
    contents: Any, file: Path, kind_of: type[DenoiserNetwork]
) -> tuple[dict[WeightsChoice, dict[str, Tensor]], tuple[str, ...]]:
    """The state dicts in a file, each of the class's kind by its names, and what was around them that MDM does not
    write."""
    named: dict[WeightsChoice, Any] = {}
    wrappers: list[str] = []
    if isinstance(contents, Mapping):
        keys: tuple[tuple[WeightsChoice, tuple[str, ...]], ...] = (("model", PLAIN_KEYS), ("model_avg", AVERAGED_KEYS))
        for choice, candidates in keys:
            if (key := under_key(contents, candidates)) is not None:
                named[choice] = contents[key]
                wrappers += [key] if key != choice else []
    named = named or {"plain": contents}
    states: dict[WeightsChoice, dict[str, Tensor]] = {}
    for choice, content in named.items():
        prefixes: tuple[str, ...] = ()
        state = content
        if isinstance(content, Mapping):
            state, prefixes = unwrapped(content)
        kind, expected = describe_contents(state), kind_of.file_kind or "a state dict"
        if not isinstance(state, dict) or (kind_of.file_kind is not None and kind != expected):
            raise CheckpointError(f"{file} is {kind}; expected {expected}")
        if strange := [name for name, value in state.items() if not isinstance(value, Tensor)]:
            raise CheckpointError(f"{file}: {strange[0]} is a {type(state[strange[0]]).__name__}; expected a tensor")
        states[choice] = state
        wrappers += prefixes
    return states, tuple(dict.fromkeys(wrappers))


def _choose(choices: Mapping[WeightsChoice, object], file: Path, asked: bool | None, said: bool) -> WeightsChoice:
    """Averaged weights if they were requested, if args.json says so and there are any, or if there are no others."""
    if asked and "model_avg" not in choices:
        raise CheckpointError(f"{file} holds no averaged weights (model_avg), which --use_ema asks for")
    if asked is False and choices.keys() == {"model_avg"}:
        raise CheckpointError(f"{file} holds only averaged weights (model_avg), which --use_ema false excludes")
    averaged = said if asked is None else asked
    if "model_avg" in choices and (averaged or len(choices) == 1):
        return "model_avg"
    return "model" if "model" in choices else "plain"


def _require_finite_tensors(state: Mapping[str, Tensor], file: Path) -> None:
    for name, value in state.items():
        broken = value.numel() - int(torch.isfinite(value).sum())
        if broken:
            raise CheckpointError(f"{file}: {broken} of {value.numel()} numbers of {name} are not finite (NaN or inf)")


def _skeleton(name: str, num_features: int, file: Path) -> Skeleton:
    skeleton = get_skeleton(name)
    if skeleton.num_features != num_features:
        raise CheckpointError(
            f"{file} has {num_features} features, skeleton {name} has {skeleton.num_features}; "
            "--skeleton names another one"
        )
    return skeleton


def _load_normalizer(folder: Path, stats_path: str | Path | None, num_features: int) -> Normalizer | None:
    """Statistics of a named folder, or of the checkpoint's own folder if it has both files or one of them."""
    if stats_path is None and not any((folder / name).is_file() for name in STATISTICS):
        return None
    where = folder if stats_path is None else Path(stats_path).expanduser()
    mean, std = (where / name for name in STATISTICS)
    return Normalizer.load(mean, std, num_features=num_features)


def _file_state(
    network: DenoiserNetwork, weights: Mapping[str, Tensor] | None, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Tensors of a file in `dtype`; what stands under two names is stored once."""
    if weights is None and any(isinstance(module, AdapterLayer) for module in network.modules()):
        # Imported here because peft takes seconds to import and pretraining does not need it.
        from rollouts.checkpoints.adapters import plain_state_dict

        weights = plain_state_dict(network)
    state = network.to_file(weights)
    converted = {id(value): value.to(dtype) for value in state.values()}
    return {name: converted[id(value)] for name, value in state.items()}


def _require_same_model(args: ModelArgs, network: DenoiserNetwork) -> None:
    """Checks that args.json describes the network."""
    said = args.model_dump()
    for name, found in network.args().items():
        # MDM's files omit what its code hard-codes; it is derived from the weights again.
        if said.get(name) is not None and said[name] != found:
            raise ValueError(f"args.{name} is {said[name]!r}, the network has {found!r}")
