"""What a policy's actions mean: PD targets around the clip's mean pose, or around the pose that the clip comes to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.body.joint_coordinates import NUM_COORDINATES
from envs.settings import DeepMimicSettings
from envs.task.reference import ReferenceMotion
from motions.base.errors import UserError

Array = NDArray[np.float64]


class ActionUnits:
    """Centre [28] of actions and radians [28] per unit.

    With `action_mode` `residual` the centre moves with the reference: see `base`.
    """

    def __init__(self, settings: DeepMimicSettings, reference: ReferenceMotion) -> None:
        self.bound = settings.action_bound
        self._residual = settings.action_mode == "residual"
        scale = settings.action_scale
        if self._residual:
            self.centre, self.radians = np.zeros(NUM_COORDINATES), np.full(NUM_COORDINATES, scale)
        else:
            low, high = reference.coordinate_range()
            self.centre = reference.mean_coordinates()
            self.radians = np.maximum(scale, np.maximum(high - self.centre, self.centre - low))

    def base(self, aims: Array) -> Array:
        """The target [n, 28] or [28] of a zero action, where the reference comes to `aims` [n, 28]."""
        return aims if self._residual else self.centre

    def offsets(self, actions: NDArray[Any]) -> Array:
        """Radians [n, 28] that actions [n, 28] add to the base.

        Raises:
            UserError: values that are not finite.
        """
        if not math.isfinite(np.add.reduce(actions, axis=None, dtype=np.float64)):
            raise UserError(f"action of environment {int(np.argwhere(~np.isfinite(actions))[0, 0])} is not finite")
        return np.minimum(np.maximum(actions, -self.bound), self.bound) * self.radians

    def action_to(self, coordinates: Array, aims: Array) -> NDArray[np.float32]:
        """The action [n, 28], within its bound, whose target is joint coordinates [n, 28]."""
        action = (coordinates - self.base(aims)) / self.radians
        return np.clip(action, -self.bound, self.bound).astype(np.float32)
