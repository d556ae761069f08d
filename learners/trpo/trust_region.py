"""One step of trust region policy optimisation (Schulman et al. 2015) for a diagonal Gaussian policy; pure torch.

    maximise  L(theta) = mean_i ratio_i A_i + extra terms    subject to  mean_i KL(old_i || new_i) <= delta

    name here        paper
    max_kl           delta
    gradient         g
    FisherProduct    F + c I, as a function of a vector
    direction        x with (F + c I) x = g, by conjugate gradients
    full_step        x sqrt(2 delta / x.(F + c I)x)

Steps: (1) compute g at the current parameters, (2) x, (3) the full step, (4) try step sizes from 1 down: the first
at which L increases AND the KL divergence is within its limit is taken; if there is none, the parameters are restored
bit for bit. A size beyond the limit is scaled by sqrt(limit / KL), one that does not improve L by a constant factor.

`old` is the distribution recorded when the actions were sampled, never one recomputed from the network that is being
changed. Several learners may hold parts of a batch: every mean is a sum over the learner's part divided by the size of
the whole batch, then summed over the learners by `reduce`; so they all make the same decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from learners.optimizer import DivergenceError
from learners.trpo.settings import TRPOSettings
from rollouts.gaussians import action_entropy, action_kl, action_log_prob

Reduce = Callable[[Tensor], Tensor]
"""Sum of a tensor over all learners."""

Product = Callable[[Tensor], Tensor]
"""A symmetric positive definite matrix, represented by its product with a vector."""


KL_MARGIN = 0.98
"""A step that left the limit of the KL divergence is scaled a little inside it: the square is an approximation."""


def alone(value: Tensor) -> Tensor:
    """The sum for a single learner: the value itself."""
    return value


@dataclass(frozen=True, slots=True)
class GaussianPolicy:
    """Policy with mean = network(inputs) [B, A] and one `log_std` [A] for all states."""

    network: nn.Module
    log_std: nn.Parameter
    train_log_std: bool = True

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Parameters that a step changes."""
        return [*self.network.parameters(), *([self.log_std] if self.train_log_std else [])]


@dataclass(frozen=True, slots=True)
class PolicyBatch:
    """One learner's part of a batch: B of `total` samples."""

    inputs: Tensor
    """Inputs of the network [B, I]."""
    actions: Tensor
    """Sampled actions [B, A]."""
    advantages: Tensor
    """[B], standardised over the whole batch."""
    old_mean: Tensor
    """[B, A] recorded at sampling."""
    old_log_std: Tensor
    """[A] recorded at sampling."""
    total: int
    """Number of samples of all learners."""
    start: int = 0
    """Index of the first of these samples in the whole batch."""
    clone_mean: Tensor | None = None
    """Means [B, A] of the initial policy."""
    clone_log_std: Tensor | None = None
    """Log standard deviations [A] of the initial policy."""
    expert_actions: Tensor | None = None
    """Actions [B, A] of the open-loop expert."""


@dataclass(frozen=True, slots=True)
class ExtraTerms:
    """Weights of the objective's other terms in this iteration, decay included."""

    entropy: float = 0.0
    clone_kl: float = 0.0
    cloning: float = 0.0


@dataclass(frozen=True, slots=True)
class TrustRegionReport:
    """Result of a trust region step."""

    accepted: bool
    step_fraction: float
    """Fraction of the full step that was taken."""
    gain: float
    """Increase of the objective."""
    expected_gain: float
    """Increase that the gradient predicts for the full step."""
    kl: float
    """Mean KL(old || new) after the step."""
    kl_before: float
    """The same before the step: above 0 if the observation statistics have changed since sampling."""
    gradient_norm: float
    cg_iterations: int
    cg_residual: float
    """Relative residual |(F + c I) x - g| / |g| of the conjugate gradients."""


def trust_region_step(
    policy: GaussianPolicy,
    batch: PolicyBatch,
    settings: TRPOSettings,
    extra: ExtraTerms | None = None,
    reduce: Reduce = alone,
) -> TrustRegionReport:
    """Improves the policy in place.

    Raises:
        DivergenceError: objective or gradient is not finite; the policy is unchanged.
    """
    extra = extra or ExtraTerms()
    parameters = policy.parameters
    start = flatten(parameters).detach().clone()
    loss, kl = _objective(policy, batch, extra)
    gradient = reduce(flatten(torch.autograd.grad(loss, parameters)))
    before, kl_before = reduce(torch.stack([loss.detach(), kl.detach()])).tolist()
    if not (math.isfinite(before) and bool(gradient.isfinite().all())):
        raise DivergenceError(
            f"the objective is {before} and its gradient has {int((~gradient.isfinite()).sum())} entries that are not "
            "finite; the policy was not changed. Look at rewards, advantages and observations of this batch"
        )
    norm = float(gradient.norm())
    if norm == 0.0:
        return TrustRegionReport(False, 0.0, 0.0, 0.0, kl_before, kl_before, 0.0, 0, 0.0)
    fisher = fisher_product(policy, batch, settings, reduce)
    solution = conjugate_gradients(fisher, gradient, settings.cg_iters, settings.cg_residual)
    curvature = float(solution.direction @ fisher(solution.direction))
    full_step = solution.direction * math.sqrt(2 * settings.max_kl / curvature) if curvature > 0 else gradient * 0
    fraction, gain, kl_after = _line_search(policy, batch, extra, reduce, start, full_step, before, settings)
    return TrustRegionReport(
        accepted=fraction > 0,
        step_fraction=fraction,
        gain=gain,
        expected_gain=float(gradient @ full_step),
        kl=kl_after if fraction > 0 else kl_before,
        kl_before=kl_before,
        gradient_norm=norm,
        cg_iterations=solution.iterations,
        cg_residual=solution.residual / norm,
    )


def _objective(policy: GaussianPolicy, batch: PolicyBatch, extra: ExtraTerms) -> tuple[Tensor, Tensor]:
    """This learner's part of the objective and of the mean KL(old || new)."""
    mean, log_std = policy.network(batch.inputs), policy.log_std
    old_log_prob = action_log_prob(batch.actions, batch.old_mean, batch.old_log_std)
    ratio = torch.exp(action_log_prob(batch.actions, mean, log_std) - old_log_prob)
    objective = (ratio * batch.advantages).sum()
    if extra.entropy:
        objective = objective + extra.entropy * len(mean) * action_entropy(log_std)
    if extra.clone_kl:
        assert batch.clone_mean is not None and batch.clone_log_std is not None
        objective = objective - extra.clone_kl * action_kl(mean, log_std, batch.clone_mean, batch.clone_log_std).sum()
    if extra.cloning:
        assert batch.expert_actions is not None
        # The standard deviation is a constant here: the term is about the mean and would otherwise only reduce
        # exploration.
        likelihood = action_log_prob(batch.expert_actions, mean, log_std.detach())
        objective = objective + extra.cloning * likelihood.sum() / mean.shape[-1]
    kl = action_kl(batch.old_mean, batch.old_log_std, mean, log_std).sum()
    return objective / batch.total, kl / batch.total


def _line_search(
    policy: GaussianPolicy,
    batch: PolicyBatch,
    extra: ExtraTerms,
    reduce: Reduce,
    start: Tensor,
    full_step: Tensor,
    before: float,
    settings: TRPOSettings,
) -> tuple[float, float, float]:
    """Fraction of the step taken, increase of the objective, KL; the policy is left there, or at `start`."""
    parameters = policy.parameters
    limit = settings.max_kl * settings.kl_tolerance
    fraction = 1.0
    for _ in range(settings.line_search_steps):
        unflatten(start + fraction * full_step, parameters)
        with torch.no_grad():
            after, kl = reduce(torch.stack(_objective(policy, batch, extra))).tolist()
        # Comparisons with NaN are false, so a step to NaN is refused too.
        if after > before and kl <= limit:
            return fraction, after - before, kl
        # The KL divergence grows with the square of a short step, so one that went too far tells how far is far enough.
        beyond = math.isfinite(kl) and kl > limit
        fraction *= KL_MARGIN * math.sqrt(limit / kl) if beyond else settings.line_search_shrink
    unflatten(start, parameters)
    return 0.0, 0.0, 0.0


def fisher_product(
    policy: GaussianPolicy, batch: PolicyBatch, settings: TRPOSettings, reduce: Reduce = alone
) -> Product:
    """The map v -> (F + damping I) v at the policy's current parameters, F averaged over every n-th sample."""
    # Counted over all learners, so that the samples in use do not depend on how the batch is divided.
    inputs = batch.inputs[-batch.start % settings.fisher_subsample :: settings.fisher_subsample]
    total = float(reduce(torch.tensor(float(len(inputs)), device=inputs.device)))
    build = _gauss_newton if settings.fisher_product == "gauss_newton" else _double_backward
    product = build(policy, inputs, total)
    return lambda vector: reduce(product(vector)) + settings.cg_damping * vector


def _double_backward(policy: GaussianPolicy, inputs: Tensor, total: float) -> Product:
    """Derivative of (gradient of the mean KL(policy as a constant || policy)) . v."""
    parameters = policy.parameters
    mean = policy.network(inputs)
    kl = action_kl(mean.detach(), policy.log_std.detach(), mean, policy.log_std).sum() / total
    gradient = flatten(torch.autograd.grad(kl, parameters, create_graph=True))
    return lambda vector: flatten(torch.autograd.grad(gradient @ vector, parameters, retain_graph=True))


def _gauss_newton(policy: GaussianPolicy, inputs: Tensor, total: float) -> Product:
    """J' diag(1 / std^2) J v for the mean's parameters, 2 v for each log_std: the Fisher matrix of this family.

    J' u is linear in u, so J v is its derivative with respect to u along v: no forward pass is repeated, and a product
    costs two thirds of one by double backward for any size.
    """
    parameters = list(policy.network.parameters())
    size = sum(parameter.numel() for parameter in parameters)
    mean = policy.network(inputs)
    probe = torch.zeros_like(mean, requires_grad=True)
    transposed = torch.autograd.grad(mean, parameters, probe, create_graph=True)
    precision = torch.exp(-2 * policy.log_std.detach())
    share = len(inputs) / total

    def product(vector: Tensor) -> Tensor:
        directions = split_like(vector[:size], parameters)
        change = torch.autograd.grad(transposed, probe, directions, retain_graph=True)[0]
        backward = torch.autograd.grad(mean, parameters, precision * change / total, retain_graph=True)
        # The constant curvature in log_std is divided among the learners, so that the sum over them is correct.
        return torch.cat([flatten(backward), 2.0 * share * vector[size:]])

    return product


@dataclass(frozen=True, slots=True)
class Solution:
    """Result of the conjugate gradients."""

    direction: Tensor
    iterations: int
    residual: float
    """Norm of the residual of the linear system."""


def conjugate_gradients(product: Product, target: Tensor, max_iterations: int, residual_limit: float) -> Solution:
    """Solves `product(x) = target` from x = 0 (Nocedal and Wright, algorithm 5.2).

    Stops after `max_iterations`, at a squared residual of `residual_limit`, or before a direction of non-positive or
    non-finite curvature, where the quadratic model has no minimum (because of rounding or a degenerate policy).
    """
    x = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    squared = float(residual @ residual)
    iterations = 0
    while iterations < max_iterations and squared > residual_limit:
        image = product(direction)
        curvature = float(direction @ image)
        if not (curvature > 0 and math.isfinite(curvature)):
            break
        length = squared / curvature
        x += length * direction
        residual -= length * image
        before, squared = squared, float(residual @ residual)
        direction = residual + (squared / before) * direction
        iterations += 1
    return Solution(x, iterations, math.sqrt(squared))


# By hand, not torch.nn.utils.parameters_to_vector and vector_to_parameters: the first refuses gradients that are not
# contiguous, the second makes all parameters views of one vector, which safetensors does not write.


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenates tensors to one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def split_like(vector: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Parts of the vector, shaped like `tensors`."""
    parts = vector.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


@torch.no_grad()
def unflatten(vector: Tensor, tensors: Sequence[Tensor]) -> None:
    """Writes the parts of a vector into `tensors`."""
    for part, tensor in zip(split_like(vector, tensors), tensors, strict=True):
        tensor.copy_(part)
