"""`best_model.pt` of the public TextToMotionSSM: weights, vocabulary, and a pickled object with its options.

The file holds a Python object, of a class of that project. It is not imported: a class without code stands in for it,
and the reader knows no other name, so that nothing in the file can run. Sizes are read off the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from motions.base.errors import UserError
from motions.base.safe_files import TensorFileError, read_tensor_file
from rollouts.checkpoints.model_args import ARGS_FILE
from rollouts.one_action.public_regressor import PublicRegressor, PublicWords

_KEYS = {"model_state_dict", "vocab"}


def is_public_motion_ssm(path: str | Path) -> bool:
    """Whether a path is named as the public project names its checkpoints, and no args.json makes it an MDM's."""
    path = Path(path)
    named = path.suffix == ".pt" and (path.name == "best_model.pt" or path.name.startswith("checkpoint_epoch"))
    return named and not (path.parent / ARGS_FILE).is_file()


def load_public_motion_ssm(path: str | Path) -> tuple[PublicRegressor, PublicWords]:
    """Network and vocabulary of a file.

    Raises:
        UserError: no such file, another kind of file, one that holds other Python objects, or weights that do not
            match.
    """
    path = Path(path)
    contents = _contents(path)
    if not isinstance(contents, Mapping) or not contents.keys() >= _KEYS:
        keys = ", ".join(map(str, contents)) if isinstance(contents, Mapping) else type(contents).__name__
        raise UserError(f"{path}: holds {keys:.100}; expected {', '.join(sorted(_KEYS))}, as in a public best_model.pt")
    state: Any = contents["model_state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: model_state_dict holds other things than tensors")
    vocab: Any = contents["vocab"]
    try:
        if not isinstance(vocab, Mapping):
            raise UserError(f"vocab is a {type(vocab).__name__}; expected a table of words and their numbers")
        network, words = PublicRegressor.from_file(state), PublicWords(vocab)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if max(vocab.values()) >= network.sizes.num_words:
        raise UserError(f"{path}: vocab numbers up to {max(vocab.values())}, of {network.sizes.num_words} embeddings")
    return network, words


def _contents(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return read_tensor_file(path, plain_classes=("TrainingConfig",))
    except TensorFileError as error:
        raise TensorFileError(
            f"no checkpoint of a TextToMotionSSM: {error}", holds_objects=error.holds_objects
        ) from error
