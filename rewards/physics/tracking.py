"""The tracking reward: how well a simulated humanoid can follow the motion, as a measure of physical plausibility.

    R_track = gate * clip(w tracked + (1 - w) accuracy - lambda_slip slip - lambda_assist assist, 0, 1)

    tracked    fraction of the motion until it is lost (see `tracking_simulation`); w is tracking_survival_weight
    accuracy   mean over the whole motion of exp(-body error / tracking_error_scale); 0 after it is lost
    slip       mean speed of simulated feet on the ground, m/s
    assist     mean used fraction of the external wrench at the root, in [0, 1]; 1 after the motion is lost
    gate       against frozen motion, that of the physics reward

Measures against reward hacking: standing still is easiest to track, so the gate reduces its reward to 0; errors are
small until an immediate fall, so lost frames count as inaccurate and fully assisted; a motion that floats is lowered by
at most `tracking_max_floor_shift`, and starts in the air otherwise; a motion that makes the simulation diverge, or that
cannot be fitted to the humanoid, gets 0 and is counted in `tracking_failed`; only the first `tracking_max_s` seconds
are simulated. The reward of a motion does not depend on the other motions of its group or on their order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from motions.base.errors import UserError
from motions.data.prompts import Prompt
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import HUMANML3D, Skeleton
from rewards.declared.tracking import TRACKING, TrackingSettings
from rewards.messages import RewardTerms
from rewards.physics.kinematic import speed_gate
from rewards.physics.stillness import moving_frames
from rewards.physics.tracking_reference import TrackingReference, UntrackableError, tracking_reference
from rewards.physics.tracking_simulation import Track, TrackingSimulator
from rewards.settings import RewardSettings
from rewards.validation import check_motions, check_terms
from rollouts.messages import GroupMotions

MIN_FRAMES = 4


class TrackingScorer:
    """Scorer for R_track and its parts, the terms of its declaration.

    Example:
        TrackingScorer(RewardSettings.of(use_tracking_reward=True), HUMANML3D).score(motions).terms["tracking"]   # [N]

    Raises:
        UserError: another skeleton than HumanML3D's, or a controller that does not fit.
    """

    name = "tracking"

    def __init__(self, settings: RewardSettings, skeleton: Skeleton) -> None:
        if skeleton.name != HUMANML3D.name:
            raise UserError(f"use_tracking_reward: the skeleton is {skeleton.name}; legal: {HUMANML3D.name}")
        self.settings = settings
        self.skeleton = skeleton
        self._tracker = TrackingSimulator(settings.tracking)

    @classmethod
    def from_settings(cls, settings: RewardSettings, skeleton: Skeleton) -> TrackingScorer:
        """Compiles the humanoid and loads the controller if there is one."""
        return cls(settings, skeleton)

    def score(self, motions: GroupMotions) -> RewardTerms:
        """Terms [N] of one group, in the order of its samples.

        Raises:
            RewardError: a motion with values that are not finite, or of fewer than 4 frames.
        """
        return self.score_many([motions])[0]

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        """Terms of several groups; all their motions are simulated in one batch."""
        start = time.perf_counter()
        references: list[TrackingReference | None] = []
        gates: list[float] = []
        for group in groups:
            check_motions(self.name, group, self.skeleton.num_features, MIN_FRAMES)
            for index, length in enumerate(np.minimum(group.lengths, self.settings.max_motion_length)):
                features = torch.from_numpy(group.features[index, :length].astype(np.float64))
                joints = recover_joints(features, self.skeleton) * self.skeleton.metres_per_unit
                gates.append(self._gate(joints, group.prompt))
                references.append(self._reference(joints.numpy(), f"sample {index}"))
        tracks = iter(self._tracker.run([reference for reference in references if reference is not None]))
        rows = [
            tracking_terms(reference, None if reference is None else next(tracks), gate, self.settings.tracking)
            for reference, gate in zip(references, gates, strict=True)
        ]
        seconds = (time.perf_counter() - start) / max(1, len(groups))
        results, place = [], 0
        for group in groups:
            own = rows[place : place + len(group.lengths)]
            place += len(own)
            terms = {name: np.array([row[name] for row in own], dtype=np.float32) for name in TRACKING.terms}
            check_terms(self.name, terms, group.prompt.text, len(own))
            results.append(RewardTerms(self.name, terms, seconds))
        return results

    def _gate(self, joints: torch.Tensor, prompt: Prompt) -> float:
        options = self.settings.physics
        moving = torch.from_numpy(moving_frames(prompt)) if options.spare_still_prompts else None
        length, least = torch.tensor([len(joints)]), options.constants.min_joint_speed
        return float(speed_gate(joints[None], length, self.skeleton, least, moving)[0])

    def _reference(self, joints: NDArray[np.float64], name: str) -> TrackingReference | None:
        try:
            return tracking_reference(
                joints,
                self.skeleton.fps,
                name,
                max_seconds=self.settings.tracking.tracking_max_s,
                max_floor_shift=self.settings.tracking.tracking_max_floor_shift,
            )
        except UntrackableError:
            return None


def tracking_terms(
    reference: TrackingReference | None, track: Track | None, gate: float, settings: TrackingSettings
) -> dict[str, float]:
    """All terms of one motion; without a track, those of a motion that cannot be tracked."""
    terms = dict.fromkeys(TRACKING.terms, 0.0) | {"tracking_speed_gate": gate}
    if reference is None or track is None:
        return terms | {"tracking_fall": 1.0, "tracking_assist": 1.0, "tracking_failed": 1.0}
    tracked = track.tracked_fraction
    accuracy = float(np.exp(-np.array(track.errors) / settings.tracking_error_scale).sum()) / track.num_steps
    slip = float(np.mean(track.slips)) if track.slips else 0.0
    assist = sum(track.assists) / track.num_steps + (1.0 - tracked)
    score = (
        settings.tracking_survival_weight * tracked
        + (1.0 - settings.tracking_survival_weight) * accuracy
        - settings.tracking_slip_weight * slip
        - settings.tracking_assist_weight * assist
    )
    return terms | {
        "tracking": 0.0 if track.diverged else gate * min(1.0, max(0.0, score)),
        "tracked_fraction": tracked,
        "tracking_accuracy": accuracy,
        "tracking_fall": float(track.lost),
        "tracking_error_m": float(np.mean(track.errors)) if track.errors else 0.0,
        "tracking_root_error_m": float(np.mean(track.root_errors)) if track.root_errors else 0.0,
        "tracking_slip_mps": slip,
        "tracking_assist": assist,
        "tracking_contact_f1": track.contact_f1,
        "tracking_penetration_m": reference.penetration,
        "tracking_floor_shift_m": reference.floor_shift,
        "tracking_failed": float(track.diverged),
    }
