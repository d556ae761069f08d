"""Observations and rewards of imagined characters, and rollouts of a policy in a model of the dynamics.

The functions compute what the environment would (`envs.task`), differentiably and for any leading dimensions [...]. Two
things differ on purpose: squared angles are replaced by squared chords, 2 - 2 cos, whose gradient is smooth, and the
centre of mass has no term.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from envs.body.joint_coordinates import nearest_hinges
from envs.body.tracked import TRACKED_BODIES
from envs.settings import DeepMimicSettings
from envs.task.imitation_reward import TERMS
from envs.task.imitation_task import ImitationTask
from learners.world_model.characters import (
    BALLS,
    HINGES,
    NUM_COORDINATES,
    SORTED,
    UNSORTED,
    Characters,
    hands_and_feet,
    hinge_rotations,
    joints_of,
    matrices,
    rotated,
)
from learners.world_model.moments import Moments, ReferenceTable
from motions.base.errors import UserError

OBSERVED = ("root", "joints", "phase", "targets")
"""Blocks of observations that can be imagined."""

FALL_M = 0.5
"""Distance of the root from the reference's beyond which an imagined character counts as fallen."""

FALL_CHORD = 1.0
"""Squared chord of the root's rotation from the reference's beyond which it does: an angle of one radian."""

JUMP = 1.0
"""Radians between two control steps by which the reference's Euler angles only differ if their branch changes."""

_FLAT = torch.tensor([1.0, 1.0, 0.0])
_HEADING = torch.tensor([[1, 0, 0, 0, 1, 0, 0, 0, 0], [0, -1, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 1.0]])
"""From cosine, sine and 1 to the entries of the matrix that turns row vectors into the heading frame."""

_SMOOTH = 0.0025
"""Added to squared distances below a square root, whose gradient would be infinite at 0."""


class Errors(NamedTuple):
    """Squared deviations [...] of characters from the reference, as in `envs.task.imitation_reward`."""

    pose: Tensor
    velocity: Tensor
    end_effector: Tensor
    place: Tensor
    """Squared distance of the root."""
    attitude: Tensor
    """Squared chord of the root's rotation."""
    linear: Tensor
    """Squared difference of the root's velocity."""
    turning: Tensor
    """Squared difference of the root's angular velocity."""


@dataclass(frozen=True, slots=True)
class ImaginedStarts:
    """B states from which imagined rollouts start."""

    state: Characters
    """In the reference's branch of Euler angles."""
    clip: Tensor
    """Index [B] of the clip."""
    time: Tensor
    """Reference time [B], float64 seconds."""
    origin: Tensor
    """Position [B, 3] of the reference's first cycle."""


class ImaginedTask:
    """The task of an environment for imagined characters.

    Args:
        task: of the environment; its state is not used.

    Raises:
        UserError: the task has observations or a reference that cannot be imagined.
    """

    def __init__(self, task: ImitationTask) -> None:
        settings = task.settings
        require_imaginable(settings)
        self.reference = ReferenceTable(task)
        self.joints = joints_of(settings.joints)
        self.seconds = task.control_s
        self.root_sync = settings.root_sync
        self._branches = settings.joints == "hinge"
        self._blocks = settings.observation_blocks
        self._bound = settings.action_bound
        centre, scale = (torch.tensor(task.schema[f"action_{name}"])[SORTED] for name in ("centre", "range"))
        self._centre = None if settings.action_mode == "residual" else centre
        self._scale = scale
        recipe = task.reference.recipe
        self._world = recipe.end_effector_frame == "world"
        self._effector_share = 0.25 if recipe.end_effector_mean else 1.0
        self._velocity_apart = recipe.root_velocity_apart
        kept = [TERMS.index(term) for term in TERMS if term != "com"]
        weights = torch.tensor(recipe.weights)[kept]
        if not float(weights.sum()) > 0:
            raise UserError("com_weight is the only weight of the reward above 0; the centre of mass is not imagined")
        self._weights = weights / weights.sum()
        self._scales = torch.tensor(recipe.scales)[kept]
        share = dict(zip(TRACKED_BODIES, recipe.joint_weights, strict=True))
        self._root_share = share["root"]
        self._ball_shares = torch.tensor([share[name] for name in BALLS])
        self._hinge_shares = torch.tensor([share[name] for name in HINGES])

    def observe(self, state: Characters, axes: Tensor, moment: Moments, origin: Tensor) -> Tensor:
        """Observations [..., O], as `ImitationTask.observe`.

        Args:
            axes: rotation matrices [..., 3, 3] of the roots.
            moment: the reference at the present time.
            origin: position [..., 3] of its first cycle.
        """
        linear, turning, rates = state.velocity.split((3, 3, NUM_COORDINATES), dim=-1)
        own = torch.cat((axes[..., :2].mT, torch.stack((linear, rotated(axes, turning)), dim=-2)), dim=-2)
        places = moment.places + (origin - state.position).unsqueeze(-2)
        vectors = torch.cat((own, places, moment.directions), dim=-2) @ headings(axes)
        steps = moment.places.shape[-2]
        mine, places, directions = vectors.split((4, steps, 2 * steps), dim=-2)
        joints = torch.stack((self.joints.coordinates(state.joints), rates), dim=-2).index_select(-1, UNSORTED)
        targets = torch.cat((places, directions.unflatten(-2, (steps, 2)).flatten(-2), moment.later), dim=-1)
        parts = {
            "root": (state.position[..., 2:], mine.flatten(-2)),
            "joints": (joints.flatten(-2),),
            "phase": (moment.circle,),
            "targets": (targets.flatten(-2),),
        }
        return torch.cat([part for block in self._blocks for part in parts[block]], dim=-1)

    def observe_starts(self, starts: ImaginedStarts) -> Tensor:
        """Observations [B, O] in recorded states."""
        moment = self.reference.at(starts.clip, starts.time)
        return self.observe(starts.state, matrices(starts.state.rotation), moment, starts.origin)

    def targets(self, actions: Tensor, moment: Moments) -> Tensor:
        """Sorted PD targets [..., 28] of actions [..., 28], in the reference's branch of Euler angles."""
        base = moment.aims if self._centre is None else self._centre
        return base + self._scale * actions.index_select(-1, SORTED).clamp(-self._bound, self._bound)

    def in_branch(self, state: Characters, moment: Moments) -> Characters:
        """The same states, with Euler angles in the reference's branch."""
        if not self._branches:
            return state
        own, near = (part.detach()[..., UNSORTED].double().numpy() for part in (state.joints, moment.near))
        rewritten = nearest_hinges(own, near)
        if rewritten is None:
            return state
        shift, sign = (torch.from_numpy(array).float()[..., SORTED] for array in rewritten)
        root, rates = state.velocity.split((6, NUM_COORDINATES), dim=-1)
        return state._replace(joints=shift + sign * state.joints, velocity=torch.cat((root, sign * rates), dim=-1))

    def errors(self, state: Characters, moment: Moments, origin: Tensor) -> Errors:
        """Deviations [...] of characters from the reference; arguments as in `observe`."""
        axes, balls = matrices(state.rotation), self.joints.rotations(state.joints)
        angles = state.joints[..., -4:]
        linear, turning, rates = state.velocity.split((3, 3, NUM_COORDINATES), dim=-1)
        attitude = _chord(axes, moment.root_axes)
        bent = 2.0 - 2.0 * (angles - moment.hinges).cos()
        pose = (_chord(balls, moment.balls) * self._ball_shares).sum(-1) + (bent * self._hinge_shares).sum(-1)
        spun = (rotated(axes, turning) - moment.turning).square().sum(-1)
        spins = (self.joints.spins(state.joints, rates) - moment.spins).square().sum(-1)
        bending = (rates[..., -4:] - moment.hinge_rates).square()
        velocity = (spins * self._ball_shares).sum(-1) + (bending * self._hinge_shares).sum(-1)
        effectors = hands_and_feet(state.position, axes, balls, hinge_rotations(angles))
        wanted = moment.effectors
        if self._world:
            wanted = wanted + origin.unsqueeze(-2)
        else:
            ground = state.position * _FLAT
            effectors = (effectors - ground.unsqueeze(-2)) @ headings(axes)
        return Errors(
            pose + self._root_share * attitude,
            velocity + self._root_share * spun,
            self._effector_share * (effectors - wanted).square().sum((-2, -1)),
            (state.position - moment.place - origin).square().sum(-1),
            attitude,
            (linear - moment.linear).square().sum(-1),
            spun,
        )

    def reward(self, errors: Errors) -> Tensor:
        """Rewards [...], as `ImitationReward`, without the term of the centre of mass."""
        place, moving = errors.place + 0.1 * errors.attitude, errors.linear + 0.1 * errors.turning
        root = place if self._velocity_apart else place + 0.01 * moving
        terms = torch.stack((errors.pose, errors.velocity, errors.end_effector, root, moving), dim=-1)
        return torch.exp(-self._scales * terms) @ self._weights


def require_imaginable(settings: DeepMimicSettings) -> None:
    """Raises UserError for a task whose observations or reference cannot be imagined."""
    strange = [block for block in settings.observation_blocks if block not in OBSERVED]
    if strange:
        raise UserError(f"observation_blocks has {strange[0]}; a world model imagines {', '.join(OBSERVED)} only")
    if settings.keep_cycle_height:
        raise UserError("keep_cycle_height is set; a world model imagines references that stay at their height only")


def tracking_cost(errors: Errors) -> Tensor:
    """Distances [...] from the reference whose gradients do not fade far away from it, as the reward's do."""
    weighted = (
        (0.6, errors.place),
        (0.3, errors.attitude),
        (0.3, errors.pose),
        (0.05, errors.linear),
        (0.02, errors.turning),
    )
    return sum((weight * (error + _SMOOTH).sqrt() for weight, error in weighted), torch.zeros(()))


def fallen(errors: Errors) -> Tensor:
    """Whether [...] characters count as fallen: their root is too far from the reference, or turned away from it."""
    finite = errors.place.isfinite() & errors.pose.isfinite() & errors.end_effector.isfinite()
    return ~(finite & (errors.place < FALL_M**2) & (errors.attitude < FALL_CHORD))


@dataclass(frozen=True, slots=True)
class Imagined:
    """H imagined steps of B characters."""

    actions: Tensor
    """Mean actions [H, B, A], before noise."""
    rewards: Tensor
    """Rewards [H, B] of the states after each step."""
    costs: Tensor
    """Tracking costs [H, B] of the same states."""
    counted: Tensor
    """1 [H, B] where the episode went on until the step (which may be the one into a fall), else 0."""
    alive: Tensor
    """1 [H, B] where it goes on after it."""


def imagine(
    task: ImaginedTask,
    model: Callable[[Characters, Tensor, Tensor], Characters],
    policy: Callable[[Tensor], Tensor],
    starts: ImaginedStarts,
    noise: Tensor,
    gradient_limit: float = 0.0,
) -> Imagined:
    """Rolls a policy out in the model, differentiably with respect to the policy's parameters.

    Args:
        model: the next states, from states, rotation matrices of their roots and sorted PD targets: `DynamicsModel`.
        policy: mean actions [B, A] for observations [B, O].
        noise: added to the actions, [H, B, A].
        gradient_limit: gradients at every state are shortened to this multiple of their median over the batch.
    """
    steps = len(noise)
    times = starts.time + torch.arange(steps + 1, dtype=torch.float64)[:, None] * task.seconds
    clip = starts.clip.expand(times.shape)
    reference = task.reference.at(clip, times)
    cycles = task.reference.cycles(clip, times)
    begun = (cycles[1:] > cycles[:-1]).unsqueeze(-1) & task.root_sync
    rebranched = (reference.near.diff(dim=0).abs() > JUMP).flatten(1).any(1)
    moments = [Moments(*parts) for parts in zip(*(part.unbind(0) for part in reference), strict=True)]
    state, origin = starts.state, starts.origin
    actions, states, origins = [], [], []
    for step in range(steps):
        if step and bool(rebranched[step - 1]):
            state = task.in_branch(state, moments[step])
        axes = matrices(state.rotation)
        actions.append(policy(task.observe(state, axes, moments[step], origin)))
        state = model(state, axes, task.targets(actions[-1] + noise[step], moments[step]))
        if gradient_limit:
            state = with_limited_gradients(state, gradient_limit)
        if bool(begun[step].any()):
            origin = torch.where(begun[step], _FLAT * (state.position - moments[step + 1].place), origin)
        states.append(state)
        origins.append(origin)
    together = Characters(*(torch.stack(parts) for parts in zip(*states, strict=True)))
    errors = task.errors(together, Moments(*(part[1:] for part in reference)), torch.stack(origins))
    with torch.no_grad():
        alive = (~(fallen(errors) | task.reference.ended(clip[1:], times[1:]))).float().cumprod(0)
        counted = torch.cat((torch.ones_like(alive[:1]), alive[:-1]))
    return Imagined(torch.stack(actions), task.reward(errors), tracking_cost(errors), counted, alive)


def with_limited_gradients(state: Characters, limit: float) -> Characters:
    """The same states [B], through which gradients flow back shortened to `limit` times their median length."""
    sizes = [part.shape[-1] for part in state]
    whole = torch.cat(state, dim=-1)

    def shortened(gradient: Tensor) -> Tensor:
        length = gradient.norm(dim=-1, keepdim=True)
        return gradient * (limit * length.median() / (length + 1e-12)).clamp(max=1.0)

    if whole.requires_grad:
        whole.register_hook(shortened)
    return Characters(*whole.split(sizes, dim=-1))


def _chord(first: Tensor, second: Tensor) -> Tensor:
    """Squared chords [...] between rotations [..., 3, 3]: 2 - 2 cos of the angle between them."""
    return (first - second).square().sum((-2, -1)) / 2


def headings(axes: Tensor) -> Tensor:
    """Matrices [..., 3, 3] to multiply row vectors of the world with, to express them in the roots' heading frames."""
    forward = axes[..., :2, 0]
    return (F.pad(F.normalize(forward, dim=-1, eps=1e-6), (0, 1), value=1.0) @ _HEADING).unflatten(-1, (3, 3))
