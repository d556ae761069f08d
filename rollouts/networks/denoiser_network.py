"""What a denoiser is: the one interface that policy, adapters, training and checkpoint files speak to.

A network predicts the clean motion x0 from a noisy one, the diffusion step and a text. Its forward is cut in three, so
that a sampler computes the embeddings of text, null text and all time steps once and then calls `denoise` alone:

    text = network.encode_text(text_features)                     # [B, L, latent]
    time = network.embed_timesteps(timesteps)                     # [B, latent]
    x0 = network.denoise(x_t, text, time, frame_mask, text_mask)

It also says how it is described in args.json, how its weights are named in files, and where adapters may go. A new
architecture is a subclass in a module of its own and a line in `rollouts.registry.DENOISERS`; one that
`--arch package.module:Class` names needs no line.

Legend: B batch, T frames, D motion features, L text tokens, E width of the text encoder's output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor

from motions.base.errors import UserError
from motions.base.named import load_named
from rollouts.messages import TextForm
from rollouts.policy import PolicyNetwork
from rollouts.registry import DENOISERS


class DenoiserNetwork(PolicyNetwork, ABC):
    """Base class of denoisers. Weights are a function of (args, seed); global random state is neither read nor
    changed. See `PolicyNetwork` for what it shares with networks of other policies.

    Attributes:
        file_kind: what `rollouts.checkpoints.file_kinds` says of its files; None where it cannot tell, and `from_file`
            alone refuses other files.
        derived_names: tensors of files that are a function of `args`, and may be absent.
        hides_padding: whether real frames are predicted alike however many frames outside `frame_mask` there are. Where
            it is False, motions of different lengths are not put into one batch.
    """

    file_kind: ClassVar[str | None] = None
    derived_names: ClassVar[tuple[str, ...]] = ()
    hides_padding: bool = False

    max_positions: int
    """More than the frames of any motion (at most `max_positions - 1`) and than the diffusion steps."""

    @classmethod
    @abstractmethod
    def build(cls, args: Mapping[str, Any], num_features: int, text_dim: int, seed: int = 0) -> Self:
        """A new network.

        Args:
            args: entries of args.json, as `args` gives them; others are ignored.

        Raises:
            UserError: sizes that do not fit each other.
        """

    @classmethod
    def reads(cls, args: Mapping[str, Any]) -> TextForm:
        """The `text_form` of the network that `build` makes of these entries of args.json."""
        return cls.text_form

    @classmethod
    @abstractmethod
    def from_file(cls, state: Mapping[str, Tensor], args: Mapping[str, Any]) -> Self:
        """The network of a checkpoint file.

        Args:
            state: tensors under the names that `to_file` gives them, and perhaps `derived_names`.
            args: all entries of args.json.

        Raises:
            UserError: a name missing or unexpected, a shape that does not fit.
        """

    @abstractmethod
    def to_file(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Tensors of a checkpoint file, on the CPU.

        Args:
            weights: others than the network's own, under its own names (an average, or with adapters merged).

        Raises:
            UserError: the names are not those of the network without adapters.
        """

    @abstractmethod
    def args(self) -> dict[str, Any]:
        """Entries of args.json that describe it, resolved: at least `arch`, `layers`, `latent_dim`, `text_dim` and
        `pos_embed_max_len`."""

    @property
    def hidden_size(self) -> int:
        """Numbers of a hidden vector: `latent_dim` of args.json."""
        return int(self.args()["latent_dim"])

    def like(self) -> Self:
        """A new network of the same sizes, without adapters."""
        return self.build(self.args(), self.num_features, self.text_dim)

    @abstractmethod
    def encode_text(self, text: Tensor, drop_text: Tensor | None = None) -> Tensor:
        """[B, L, E] -> [B, L, latent]; samples with `drop_text` [B] get the null condition."""

    @abstractmethod
    def encode_null(self, batch_size: int, num_tokens: int = 1) -> Tensor:
        """The null condition [batch_size, num_tokens, latent], as if all texts were dropped."""

    @abstractmethod
    def embed_timesteps(self, timesteps: Tensor) -> Tensor:
        """Steps [B] int64 of the schedule that the network was trained with -> [B, latent]."""

    @abstractmethod
    def denoise(
        self,
        x: Tensor,
        text: Tensor,
        time: Tensor,
        frame_mask: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Clean motion [B, T, D] in the precision of the weights.

        Args:
            x: noisy motion [B, T, D], normalised features.
            text: from `encode_text`.
            time: from `embed_timesteps`.
            frame_mask: [B, T] bool, True = real frame; None = all are real.
            text_mask: [B, L] bool, True = real token; None = all are real.
        """

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        text: Tensor,
        frame_mask: Tensor | None = None,
        text_mask: Tensor | None = None,
        drop_text: Tensor | None = None,
    ) -> Tensor:
        """The three parts in one: clean motion [B, T, D] from text encoder output [B, L, E]."""
        condition = self.encode_text(text, drop_text)
        return self.denoise(x, condition, self.embed_timesteps(timesteps), frame_mask, text_mask)


def denoiser_class(arch: str) -> type[DenoiserNetwork]:
    """The class of an architecture: a name of `rollouts.registry.DENOISERS`, or `package.module:Class`.

    Raises:
        UserError: there is none of that name, or it is another class.
    """
    found = load_named("arch", arch, DENOISERS)
    if not (isinstance(found, type) and issubclass(found, DenoiserNetwork)):
        raise UserError(f"arch is {arch!r}; expected a subclass of rollouts.networks.denoiser_network.DenoiserNetwork")
    return found
