"""TextToMotionSSM, the public regressor of text to motion (CatalinButacu/GenAI-Flickr), for its `best_model.pt`.

It is kept as it was trained: layers that scan forwards only, with rates that all channels share; a table of positions;
and a text encoder of its own, which reads 64 numbers of words and takes the mean of all of them, padding included. It
draws nothing: a text has one motion. `jobs.generate` uses it, and GRPO cannot.

Legend: N samples, T frames, D features, L = 64 words, d width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from motions.base.errors import UserError
from rollouts.policy import PolicyNetwork
from rollouts.ssm.layers import StateSpaceBlock

MAX_WORDS = 64
PADDING, UNKNOWN, FIRST, LAST = "<PAD>", "<UNK>", "<BOS>", "<EOS>"
_HEADS = 4
_FPS = 12.5
"""Of KIT-ML, on which it is trained."""


@dataclass(frozen=True, slots=True)
class PublicSizes:
    """Sizes of the network, all of which follow from the shapes of its weights."""

    num_words: int
    text_width: int
    d_model: int
    d_state: int
    n_layers: int
    num_features: int
    max_frames: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> PublicSizes:
        """The sizes of a file's weights.

        Raises:
            UserError: a tensor that says one is missing.
        """
        try:
            return cls(
                num_words=state["text_encoder.word_embed.weight"].shape[0],
                text_width=state["text_encoder.word_embed.weight"].shape[1],
                d_model=state["pos_embed.weight"].shape[1],
                d_state=state["layers.0.A_log"].shape[0],
                n_layers=len({name.split(".")[1] for name in state if name.startswith("layers.")}),
                num_features=state["decoder.output_proj.2.weight"].shape[0],
                max_frames=state["pos_embed.weight"].shape[0],
            )
        except KeyError as error:
            raise UserError(f"there is no tensor {error.args[0]}; expected the weights of a TextToMotionSSM") from error


class PublicRegressor(PolicyNetwork):
    """The network, with the methods that `rollouts.one_action.policy` asks for."""

    text_form = "tokens"
    text_dim = 1
    latent_dim = 0

    def __init__(self, sizes: PublicSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.num_features = sizes.num_features
        self.adapter_targets = {}
        width = sizes.text_width
        self.word_embed = nn.Embedding(sizes.num_words, width, padding_idx=0)
        self.word_places = nn.Embedding(MAX_WORDS, width)
        layer = nn.TransformerEncoderLayer(width, _HEADS, batch_first=True)
        self.text_layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.condition_proj = nn.Linear(width, sizes.d_model)
        self.places = nn.Embedding(sizes.max_frames, sizes.d_model)
        self.blocks = nn.ModuleList(
            StateSpaceBlock(sizes.d_model, sizes.d_state, "shared") for _ in range(sizes.n_layers)
        )
        self.length_head = nn.Linear(sizes.d_model, 1)
        self.output_proj = nn.Sequential(
            nn.Linear(sizes.d_model, sizes.d_model), nn.SiLU(), nn.Linear(sizes.d_model, sizes.num_features)
        )

    @classmethod
    def from_file(cls, state: Mapping[str, Tensor]) -> PublicRegressor:
        """The network of a file's `model_state_dict`, in eval mode.

        Raises:
            UserError: names or shapes that do not match, or numbers that are not finite.
        """
        network = cls(PublicSizes.of(state))
        renamed = {_own_name(name): value for name, value in state.items()}
        wanted = network.state_dict()
        missing, unexpected = sorted(wanted.keys() - renamed.keys()), sorted(renamed.keys() - wanted.keys())
        wrong = sorted(name for name in wanted.keys() & renamed.keys() if wanted[name].shape != renamed[name].shape)
        if missing or unexpected or wrong:
            raise UserError(
                f"missing {missing[:5] or 'none'}; unexpected {unexpected[:5] or 'none'}; other shape "
                f"{wrong[:5] or 'none'}"
            )
        if broken := [name for name, value in renamed.items() if not bool(torch.isfinite(value).all())]:
            raise UserError(f"{broken[0]} has numbers that are not finite")
        network.load_state_dict(renamed)
        return network.eval()

    def args(self) -> dict[str, Any]:
        """The sizes, as plain values."""
        return asdict(self.sizes)

    @property
    def hidden_size(self) -> int:
        """Numbers of a hidden vector, d."""
        return self.sizes.d_model

    @property
    def max_frames(self) -> int:
        """Most frames of a motion."""
        return self.sizes.max_frames

    def like(self) -> PublicRegressor:
        """A new network of the same sizes."""
        return PublicRegressor(self.sizes)

    def action_shape(self, num_frames: int) -> tuple[int, int]:
        """There is one knot, with no numbers."""
        return 1, 0

    def encode_text(self, text: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """Numbers of words [N, 64, 1] to vectors [N, d]. Padding counts as it did in the training."""
        numbers = text.squeeze(2).long()
        places = self.word_places(torch.arange(numbers.shape[1], device=numbers.device))
        return self.condition_proj(self.text_layers(self.word_embed(numbers) + places).mean(dim=1))

    def act(self, state: Tensor, text: Tensor) -> Tensor:
        """Nothing is drawn: [N, 1, 0]."""
        return state

    def decode(self, action: Tensor, text: Tensor, num_frames: int) -> Tensor:
        """Motions [N, T, D], normalised."""
        dtype = self.condition_proj.weight.dtype
        places = self.places(torch.arange(num_frames, device=text.device))
        x = text.to(dtype).unsqueeze(1) + places
        for block in self.blocks:
            x = block(x)
        return self.output_proj(x)

    def log_seconds(self, text: Tensor) -> Tensor:
        """Logarithm of the seconds [N] of the frames that the length head gives, at 12.5 frames a second."""
        frames = torch.sigmoid(self.length_head(text)).squeeze(1) * self.sizes.max_frames
        return (frames.clamp(min=1.0) / _FPS).log()


class PublicWords:
    """The public vocabulary as a `rollouts.text.models.TextModel`: words of the lower-cased text, cut at spaces,
    between two special numbers, padded to 64."""

    dim = 1
    max_tokens = MAX_WORDS
    max_positions = MAX_WORDS

    def __init__(self, numbers: Mapping[str, int]) -> None:
        """Takes the file's `vocab`.

        Raises:
            UserError: it is no table of words and numbers.
        """
        if not numbers or not all(isinstance(key, str) and isinstance(value, int) for key, value in numbers.items()):
            raise UserError("vocab is no table of words and their numbers")
        self._numbers = dict(numbers)
        self.fingerprint = hashlib.sha256(json.dumps(self._numbers).encode()).hexdigest()

    def tokenize(self, text: str) -> list[int]:
        """The 64 numbers of a text; words beyond the 62nd are dropped."""
        unknown = self._numbers.get(UNKNOWN, 1)
        words = [self._numbers.get(word, unknown) for word in text.lower().split()[: MAX_WORDS - 2]]
        found = [self._numbers.get(FIRST, 2), *words, self._numbers.get(LAST, 3)]
        return found + [self._numbers.get(PADDING, 0)] * (MAX_WORDS - len(found))

    def pooled(self, ids: Sequence[int]) -> np.ndarray:
        """Not possible: the network reads words.

        Raises:
            UserError: always.
        """
        raise UserError("this vocabulary gives one number for each word, and no embedding of a whole text")

    def tokens(self, ids: Sequence[int]) -> np.ndarray:
        """The numbers [64, 1] float32."""
        return np.array(ids, np.float32)[:, None]


_NAMES = {
    "text_encoder.word_embed.": "word_embed.",
    "text_encoder.pos_embed.": "word_places.",
    "text_encoder.encoder.": "text_layers.",
    "pos_embed.": "places.",
    "decoder.length_head.": "length_head.",
    "decoder.output_proj.": "output_proj.",
}
_SCAN_PARTS = ("conv1d", "x_proj", "dt_proj", "A_log", "D")


def _own_name(name: str) -> str:
    """`blocks.0.mixer.scans.0.A_log` for the file's `layers.0.A_log`."""
    for theirs, own in _NAMES.items():
        if name.startswith(theirs):
            return own + name.removeprefix(theirs)
    kind, _, rest = name.partition(".")
    number, _, part = rest.partition(".")
    if kind == "norms":
        return f"blocks.{number}.norm.{part}"
    if kind == "layers":
        inner = "mixer.scans.0" if part.split(".")[0] in _SCAN_PARTS else "mixer"
        return f"blocks.{number}.{inner}.{part}"
    return name
