"""Horizontal pushes that disturb an episode: their time, direction and force."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from envs.settings import DeepMimicSettings

Array = NDArray[np.float64]
Rows = NDArray[np.int64] | slice


class Pushes:
    """State of the pushes of N rows.

    Attributes:
        start: [N] seconds into the episode at which the (first) push begins; infinite for none.
        direction: [N] radians counter-clockwise from the heading.
        force: [N, 3] force in N, in the world, of the current push, which keeps its initial direction.
        paused: nobody is pushed, though the pushes stay planned.
    """

    def __init__(self, settings: DeepMimicSettings, num_envs: int) -> None:
        self._settings = settings
        self.start = np.full(num_envs, math.inf)
        self.direction = np.zeros(num_envs)
        self.force = np.zeros((num_envs, 3))
        self.paused = False

    def plan(self, row: int, first: float, direction: float) -> None:
        """Plans an episode's pushes from two random numbers in [0, 1), for time and direction."""
        settings = self._settings
        given = settings.push_direction_deg
        self.direction[row] = math.tau * direction if given is None else math.radians(given)
        self.start[row] = first * settings.push_interval_s if settings.push_at_s is None else settings.push_at_s

    def forces(self, elapsed: Array, heading: tuple[Array, Array], rows: Rows) -> Array | None:
        """Forces [n, 3] for the control step that begins `elapsed` [n] s into the episodes; None if no row is pushed.

        `heading` are cosine and sine [n] of the characters' headings.
        """
        settings = self._settings
        if settings.push_force <= 0.0 or self.paused:
            self.force[rows] = 0.0
            return None
        since = elapsed - self.start[rows]
        if settings.push_at_s is None:
            # Rows without a push have waited minus infinity, of which there is no remainder.
            since = np.where(since >= 0.0, np.maximum(since, 0.0) % settings.push_interval_s, since)
        active = (since > -1e-9) & (since < settings.push_duration_s - 1e-9)
        force = self.force[rows]
        begun = active & (force == 0.0).all(axis=1)
        if begun.any():
            cosine, sine = heading
            across, along = np.sin(self.direction[rows]), np.cos(self.direction[rows])
            direction = np.stack((cosine * along - sine * across, sine * along + cosine * across, 0.0 * along), axis=1)
            force = np.where(begun[:, None], settings.push_force * direction, force)
        force = np.where(active[:, None], force, 0.0)
        self.force[rows] = force
        return force if active.any() else None
