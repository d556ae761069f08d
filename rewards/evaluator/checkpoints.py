"""Loads the evaluator of Guo et al. (2022) strictly, from the layouts that its users have.

Accepted (all loaded without running code from them): `text_mot_match/model/finest.tar` or another single file with the
three components, by name (with or without `_state_dict`) or as dotted prefixes, perhaps under `model`; and a folder
with one of these, or with `text_encoder`, `motion_encoder` and `movement_encoder` as three files (.pt, .pth, .tar). A
TMR is recognised by its keys and refused by name, whatever its file is called. Sizes follow from the shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from motions.base.errors import UserError
from motions.skeleton.normalization import Normalizer
from rewards.evaluator.network import NUM_CONTACTS, Evaluator, EvaluatorConfig
from rewards.retrieval_files import State, describe_state, read_document, require_tensors, split_components

COMPONENTS = ("text_encoder", "motion_encoder", "movement_encoder")
_KINDS = {name: f"Guo et al. evaluator {name.replace('_', ' ')}" for name in COMPONENTS}
# A folder of TMR has a decoder as its third file, which is read so that it can be named.
_NAMES = {name: name for name in COMPONENTS} | {"motion_decoder": "movement_encoder"}
_ENDINGS = (".pt", ".pth", ".tar")


class EvaluatorFileError(UserError):
    """A file is not a (complete) evaluator; the message names the file, what it is, and what was expected."""


@dataclass(frozen=True, slots=True)
class LoadedEvaluator:
    """An evaluator in eval mode, and what was loaded."""

    evaluator: Evaluator
    source: str
    matched: Mapping[str, int]
    """Number of tensors of each component; all of them, since a missing or unexpected one is an error."""

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {count}/{count}" for name, count in self.matched.items())
        return f"evaluator of Guo et al. from {self.source}: {parts} tensors matched"


def load_evaluator(path: str | Path, stats: str | Path, dataset: str = "t2m") -> LoadedEvaluator:
    """The evaluator of a file or folder, in float32 and eval mode.

    Args:
        path: see the module's docstring.
        stats: folder with the evaluator's own statistics: `t2m_mean.npy` and `t2m_std.npy`, or `mean.npy` and
            `std.npy`.
        dataset: `t2m` or `kit`, in the statistics' names.

    Raises:
        EvaluatorFileError: missing file, other kind of network, missing or unexpected tensor, wrong shape, not finite.
        UserError: there are no statistics, or they have another width.
    """
    source = Path(path).expanduser()
    states = _read_folder(source) if source.is_dir() else _read_file(source)
    for name in COMPONENTS:
        if name not in states:
            raise EvaluatorFileError(f"evaluator {source}: no {name}; found {', '.join(states) or 'no component'}")
    for name, state in states.items():
        kind = describe_state(state)
        if kind.startswith("TMR"):
            raise EvaluatorFileError(
                f"evaluator {source}: {name} is a {kind}: this is a TMR, whatever the file is called. As a reward: "
                "--reward_model_type tmr with --tmr_checkpoint_path, or --tmr_text_encoder_path and its siblings"
            )
        if not kind.startswith(_KINDS[name]):
            raise EvaluatorFileError(f"evaluator {source}: {name} is a {kind}; expected a {_KINDS[name]}")
        require_tensors(state, f"evaluator {source}: {name}", EvaluatorFileError)
    config = _sizes(states, source)
    evaluator = Evaluator(config, _read_stats(Path(stats).expanduser(), dataset, config.num_features))
    matched = {name: _load_component(evaluator, name, states[name], source) for name in COMPONENTS}
    return LoadedEvaluator(evaluator.float().eval().requires_grad_(False), str(source), matched)


def _read_file(path: Path) -> dict[str, State]:
    document = read_document(path, "evaluator", EvaluatorFileError)
    states, _ = split_components(document, _NAMES)
    if not states:
        raise EvaluatorFileError(
            f"evaluator {path}: is a {describe_state(document)}; expected components {', '.join(COMPONENTS)}, by name "
            "or as key prefixes"
        )
    return states


def _read_folder(folder: Path) -> dict[str, State]:
    whole = [folder / "model" / "finest.tar", folder / "finest.tar"]
    if found := next((path for path in whole if path.is_file()), None):
        return _read_file(found)
    within = folder / "last_weights" if (folder / "last_weights").is_dir() else folder
    states: dict[str, State] = {}
    for file_name, name in _NAMES.items():
        paths = [within / f"{file_name}{ending}" for ending in _ENDINGS]
        if (path := next((each for each in paths if each.is_file()), None)) is None or name in states:
            continue
        document = read_document(path, "evaluator", EvaluatorFileError)
        parts, _ = split_components(document, _NAMES)
        states[name] = parts.get(name) or dict(document)
    if not states:
        raise EvaluatorFileError(
            f"evaluator {folder}: no model/finest.tar, and none of {', '.join(COMPONENTS)} as a .pt, .pth or .tar file"
        )
    return states


def _sizes(states: Mapping[str, State], source: Path) -> EvaluatorConfig:
    def size(component: str, name: str, axis: int) -> int:
        tensor = states[component].get(name)
        if tensor is None or tensor.ndim <= axis:
            raise EvaluatorFileError(f"evaluator {source}: {component} misses {name}")
        return tensor.shape[axis]

    return EvaluatorConfig(
        num_features=size("movement_encoder", "main.0.weight", 1) + NUM_CONTACTS,
        word_dim=size("text_encoder", "pos_emb.weight", 0),
        num_classes=size("text_encoder", "pos_emb.weight", 1),
        movement_hidden=size("movement_encoder", "main.0.weight", 0),
        movement_dim=size("movement_encoder", "main.3.weight", 0),
        text_hidden=size("text_encoder", "input_emb.weight", 0),
        motion_hidden=size("motion_encoder", "input_emb.weight", 0),
        embedding_dim=size("motion_encoder", "output_net.3.weight", 0),
    )


def _read_stats(folder: Path, dataset: str, num_features: int) -> Normalizer:
    pairs = [(folder / f"{name}mean.npy", folder / f"{name}std.npy") for name in (f"{dataset}_", "")]
    for mean, std in pairs:
        if mean.is_file() and std.is_file():
            return Normalizer.load(mean, std, num_features=num_features)
    named = " or ".join(f"{mean.name} and {std.name}" for mean, std in pairs)
    raise UserError(
        f"evaluator_stats_path {folder}: no {named}; the evaluator has its own statistics, which are not the policy's "
        "Mean.npy and Std.npy"
    )


def _load_component(evaluator: Evaluator, name: str, state: Mapping[str, Tensor], source: Path) -> int:
    module = evaluator.get_submodule(name)
    expected = module.state_dict()
    wrong = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unexpected or wrong:
        raise EvaluatorFileError(
            f"evaluator {source}: {name} matched {len(expected) - len(missing) - len(wrong)} of {len(expected)} "
            f"tensors; missing {missing[:5] or 'none'}; unexpected {unexpected[:5] or 'none'}; other shape "
            f"{wrong[:5] or 'none'}"
        )
    module.load_state_dict(dict(state))
    return len(expected)
