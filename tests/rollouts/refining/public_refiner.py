"""Weights as the public text-to-scene project saves those of its PhysicsSSM."""

from __future__ import annotations

import torch
from torch import Tensor


def public_state(width: int = 16, states: int = 3, layers: int = 2) -> dict[str, dict[str, Tensor]]:
    """Random weights under the public names, for 251 features."""
    generator = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=generator)

    inner, rank = 2 * width, max(width // 16, 1)

    def layer(name: str) -> dict[str, Tensor]:
        return {
            f"{name}.in_proj.weight": normal(2 * inner, width),
            f"{name}.conv1d.weight": normal(inner, 1, 4),
            f"{name}.conv1d.bias": normal(inner),
            f"{name}.A_log": normal(states),
            f"{name}.D": normal(inner),
            f"{name}.x_proj.weight": normal(rank + 2 * states, inner),
            f"{name}.dt_proj.weight": normal(inner, rank),
            f"{name}.dt_proj.bias": normal(inner),
            f"{name}.out_proj.weight": normal(width, inner),
        }

    def linear(name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(outputs, inputs), f"{name}.bias": normal(outputs)}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(width), f"{name}.bias": normal(width)}

    motion = linear("output_proj", width, width)
    for place in range(layers):
        motion |= layer(f"layers.{place}") | norm(f"norms.{place}")
    projector = linear("encoder.0", 251, width) | linear("encoder.2", width, width)
    projector |= linear("decoder.0", width, width) | linear("decoder.2", width, 251)
    physics = layer("ssm") | norm("norm") | linear("physics_encoder.0", 64, width)
    physics |= linear("physics_encoder.2", width, width) | linear("constraint_proj", 64, width)
    physics |= linear("physics_gate.0", 2 * width, width)
    return {"projector_state_dict": projector, "motion_ssm_state_dict": motion, "physics_ssm_state_dict": physics}
