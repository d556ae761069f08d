"""What a run's options say about its updates before it starts: the course of the learning rate, and what has no effect.

Adam moves no weight further than its learning rate in a step, whatever the gradient. The sum of the rates is therefore
a bound on how far the weights can get; where even that is a small part of the weights, the policy stays what it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from learners.grpo.gradients.loss import gradient_kind
from learners.grpo.gradients.settings import GradientSettings
from learners.grpo.motion_loss import reads_motions
from learners.grpo.settings import GRPOSettings
from learners.optimizer import learning_rate_factor

LEAST_CHANGE = 0.02
"""Largest possible change of the trained weights, relative to their size, below which a run is said to move nothing."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What is trained, as far as it decides how much a learning rate can change."""

    width: int
    """Inputs of a layer; its weights are of the size 1 / sqrt(3 * width)."""
    lora_scale: float | None
    """lora_alpha / sqrt(lora_r); None where all weights are trained themselves."""

    def largest_change(self, sum_of_rates: float) -> float:
        """Bound on the change of a layer's weights relative to their size.

        An adapter's change is lora_alpha / lora_r times a product of two matrices over lora_r entries. One begins at 0
        and grows by at most the sum of the rates, the other is about as large as the layer's own weights.
        """
        if self.lora_scale is not None:
            return self.lora_scale * sum_of_rates
        return sum_of_rates * math.sqrt(3.0 * self.width)


def forecast(
    settings: GRPOSettings, num_updates: int, num_groups: int, trained: Trained, done: int = 0, num_parts: int = 1
) -> list[str]:
    """Sentences about the updates of a run.

    Args:
        num_updates: of the whole run.
        num_groups: groups of an update.
        done: updates that a run to be resumed has made.
        num_parts: parts of an update, as in `GRPOSettings.optimizer_steps`.
    """
    per_update = settings.optimizer_steps(num_groups, num_parts)
    total = num_updates * per_update
    decay = settings.decay_steps(total)
    factors = [learning_rate_factor(step, settings.warmup_steps, decay) for step in range(total)]
    rates = [settings.learning_rate * factor for factor in factors]
    lines = [_schedule(settings, decay, total, [rates[done * per_update]] if 0 < done < num_updates else [])]
    if idle := sum(rate == 0.0 for rate in rates):
        lines.append(
            f"the last {idle} of {total} optimizer steps have learning rate 0 and change nothing: lr_anneal_steps is "
            f"{settings.lr_anneal_steps}; with --lr_anneal_steps 0 --lr_schedule cosine it falls over the whole run"
        )
    change = trained.largest_change(sum(rates))
    if change < LEAST_CHANGE:
        lines.append(
            f"the policy will hardly move: the learning rates of all steps add up to {sum(rates):.2g}, by which Adam "
            f"can change the trained weights by at most {change:.1%} of their size; give a larger --learning_rate or "
            "more --num_steps"
        )
    if gradient_kind(settings) is not None:
        return lines
    fields = GradientSettings.model_fields.items()
    if idle_options := [name for name, field in fields if getattr(settings, name) != field.default]:
        lines.append(
            f"{', '.join(idle_options)} change nothing: policy_loss {settings.policy_loss} does not follow the "
            "gradient of the reward"
        )
    if per_update == 1 and reads_motions(settings):
        lines.append(
            "one optimizer step an update: the policy is the one that rolled out, so that kl_threshold and the clip "
            "range never act"
        )
    elif per_update == 1 and not settings.staleness:
        lines.append(
            "one optimizer step an update: every ratio is 1, so that clip_epsilon, clip_epsilon_high, kl_bound and "
            "kl_threshold never act and all losses of denoising steps are the same; --num_epochs 2 or "
            "--groups_per_optimizer_step makes several"
        )
    return lines


def _schedule(settings: GRPOSettings, decay: int, total: int, resumed_at: list[float]) -> str:
    course = f"falls along a cosine to 0 over {decay} of {total} optimizer steps" if decay else "stays as it is"
    warm = f"rises over {settings.warmup_steps} optimizer steps and " if settings.warmup_steps else ""
    now = f"; the run goes on at {resumed_at[0]:.3g}" if resumed_at else ""
    return f"learning rate {settings.learning_rate:g} {warm}{course}{now}"
