"""A refiner as a policy of one action, which GRPO trains on the motions of any other policy.

    condition   what the refiner makes of the base policy's motion for the prompt, and its physics state
    position 0  draws a ~ N(mean(condition), I), K knots x Z numbers
    position 1  adds the residual of a to the refined motion (`rollouts.refining.residual`)

Base and refiner are frozen, so a prompt's motion is made once, before the training, and travels with the prompt's
condition in the place of its text: neither rollouts nor the learner need the base. All samples of a prompt are
residuals on the same motion.

Legend: N samples, T frames, D features, K knots, Z numbers of a knot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from motions.data.prompts import Prompt
from motions.humanoid.physics_state import NUM_CHANNELS
from rollouts.diffusion.worker import generate
from rollouts.messages import TextCondition
from rollouts.one_action.policy import OneActionPolicy
from rollouts.policy import Policy, PolicyNetwork
from rollouts.refining.refiner import Refiner
from rollouts.refining.residual import ResidualConfig, ResidualHead, action_knots, num_numbers, with_residual
from rollouts.settings import DenoisingSettings
from rollouts.text.encoders import TextEncoder


class ResidualNetwork(PolicyNetwork):
    """The action's mean and what is made of an action, as `rollouts.one_action.policy` asks for them."""

    text_form = "tokens"

    def __init__(self, refiner: Refiner, head: ResidualHead) -> None:
        super().__init__()
        self.refiner = refiner
        self.num_features = refiner.skeleton.num_features
        self.text_dim = self.num_features + NUM_CHANNELS
        self.latent_dim = num_numbers(refiner.skeleton)
        self.prior = head
        layers = ("prior.input_proj", "prior.block.mixer.in_proj", "prior.block.mixer.out_proj", "prior.mean")
        self.adapter_targets = {"prior": layers, "all": layers}

    def args(self) -> dict[str, Any]:
        """The sizes, as plain values."""
        return asdict(self.prior.config)

    @property
    def hidden_size(self) -> int:
        """Numbers of a hidden vector."""
        return self.prior.config.d_model

    def like(self) -> ResidualNetwork:
        """A new network of the same sizes, without adapters."""
        return ResidualNetwork(self.refiner, ResidualHead(self.prior.config, self.refiner.skeleton))

    def action_shape(self, num_frames: int) -> tuple[int, int]:
        """Shape (K, Z) of the action of a motion."""
        return action_knots(num_frames, self.prior.config.knot_frames), self.latent_dim

    def encode_text(self, text: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """The condition [N, T, D + 64] itself. Raises ValueError for another width."""
        if text.ndim != 3 or text.shape[2] != self.text_dim:
            raise ValueError(f"condition has shape {tuple(text.shape)}; expected [samples, frames, {self.text_dim}]")
        return text

    def act(self, state: Tensor, text: Tensor) -> Tensor:
        """Mean [N, K, Z] of the action; `state` is not looked at."""
        return self.prior(text)

    def decode(self, action: Tensor, text: Tensor, num_frames: int) -> Tensor:
        """Motions [N, T, D], normalised, in float32."""
        normalizer, skeleton = self.refiner.normalizer, self.refiner.skeleton
        refined = normalizer.denormalize(text[..., : self.num_features].float())
        moved = with_residual(refined, action.float(), self.prior.config.knot_frames, skeleton)
        return normalizer.normalize(moved)


class RefiningPolicy(OneActionPolicy):
    """The policy.

    Example:
        policy = RefiningPolicy(load_refiner("runs/refiner"), SamplingSettings(), seed=0)
        conditions = policy.conditions(base, encoder, prompts, seed=0)
    """

    def __init__(self, refiner: Refiner, sampling: DenoisingSettings, seed: int = 0, trained_frames: int = 196) -> None:
        """Takes the refiner's own residual, or a new one, which is 0.

        Raises:
            UserError: the device does not exist.
        """
        head = refiner.residual or ResidualHead(ResidualConfig(), refiner.skeleton, seed)
        network = ResidualNetwork(refiner, head)
        super().__init__(network, refiner.normalizer, refiner.skeleton, sampling, trained_frames)

    def conditions(
        self, base: Policy, encoder: TextEncoder, prompts: Sequence[Prompt], seed: int
    ) -> list[TextCondition]:
        """What the refiner makes of one motion of `base` for every prompt, with its physics state; a function of the
        arguments.

        Raises:
            UserError: the base is of another skeleton, or cannot read a prompt.
        """
        refiner: Refiner = self.network.refiner
        refiner.require_skeleton(base.skeleton, "the base policy's motions are")
        found = []
        for group in refiner.refine_groups(generate(base, encoder, prompts, 1, seed), residual=False):
            refined = torch.from_numpy(group.features)
            whole = torch.ones(refined.shape[:2], dtype=torch.bool)
            prepared = refiner.prepare(refined, whole)
            values = torch.cat((prepared.features, prepared.state), dim=2)[0]
            found.append(TextCondition(np.ascontiguousarray(values.numpy(), dtype=np.float32)))
        return found
