"""A refiner ready to use: network, statistics and skeleton, on physical features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.humanoid.physics_state import StateStatistics, physics_state
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import Skeleton
from rollouts.messages import GroupMotions
from rollouts.refining.network import Refined, RefinerNetwork
from rollouts.refining.projection import planted_features
from rollouts.refining.residual import ResidualHead, with_residual


@dataclass(frozen=True, slots=True)
class RefinerInput:
    """What a network reads of B motions: everything is computed from the motions that are refined."""

    features: Tensor
    """Normalised, [B, T, D]; 0 outside the mask."""
    state: Tensor
    """Normalised physics state, [B, T, 64]."""
    planted: Tensor | None
    """What planting the feet changes, normalised, [B, T, D]; None if the network does not read it."""
    mask: Tensor
    """[B, T] bool, True = real frame."""


@dataclass(frozen=True, eq=False, slots=True)
class Refiner:
    """A network with the statistics that it was trained with.

    Example:
        refiner = load_refiner("runs/refiner")
        better = refiner.refine(features, lengths)
    """

    network: RefinerNetwork
    normalizer: Normalizer
    statistics: StateStatistics
    skeleton: Skeleton
    residual: ResidualHead | None = None
    """What GRPO has learned to add to the network's motions, if it has trained this refiner."""

    def prepare(self, features: Tensor, mask: Tensor) -> RefinerInput:
        """What the network reads of physical features [B, T, D] float32, without gradient."""
        with torch.no_grad():
            shown = mask.unsqueeze(2)
            state = self.statistics.normalize(physics_state(features, self.skeleton, mask)) * shown
            planted = None
            if self.network.config.needs_projection:
                moved = planted_features(features, self.skeleton, mask)
                planted = (self.normalizer.normalize(moved) - self.normalizer.normalize(features)) * shown
            return RefinerInput(self.normalizer.normalize(features) * shown, state, planted, mask)

    def __call__(self, prepared: RefinerInput) -> Refined:
        """The network's output."""
        return self.network(prepared.features, prepared.state, prepared.planted, prepared.mask)

    def refine(self, features: np.ndarray, lengths: np.ndarray, *, residual: bool = True) -> np.ndarray:
        """Refined motions [B, T, D] float32, without training; what lies beyond a motion's length stays.

        Args:
            features: physical, [B, T, D].
            lengths: numbers of frames [B].
            residual: whether to add the mean of the residual, where there is one.
        """
        self.network.eval()
        device = next(self.network.parameters()).device
        given = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)).to(device)
        mask = torch.arange(given.shape[1], device=device) < torch.from_numpy(lengths).to(device)[:, None]
        with torch.no_grad():
            refined = self.normalizer.denormalize(self(self.prepare(given, mask)).motion)
            if residual and self.residual is not None:
                for row, length in enumerate(lengths.tolist()):
                    refined[row, :length] = self._with_residual(refined[row : row + 1, :length], self.residual)[0]
            return torch.where(mask.unsqueeze(2), refined, given).cpu().numpy()

    def refine_groups(self, groups: Sequence[GroupMotions], *, residual: bool = True) -> list[GroupMotions]:
        """The motions of groups, refined; `residual` as of `refine`."""
        return [
            replace(group, features=self.refine(group.features, group.lengths, residual=residual)) for group in groups
        ]

    def _with_residual(self, refined: Tensor, head: ResidualHead) -> Tensor:
        """Refined motions [B, T, D], physical and without padding, with the mean of the residual."""
        prepared = self.prepare(refined, torch.ones_like(refined[..., 0], dtype=torch.bool))
        action = head.eval()(torch.cat((prepared.features, prepared.state), dim=2))
        return with_residual(refined, action.float(), head.config.knot_frames, self.skeleton)

    def require_skeleton(self, skeleton: Skeleton, whose: str) -> None:
        """Raises UserError where motions to refine have another skeleton; `whose` names them."""
        if skeleton != self.skeleton:
            raise UserError(f"the refiner is of skeleton {self.skeleton.name}, {whose} of {skeleton.name}")
