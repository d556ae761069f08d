"""A motion whose feet are planted on the floor, as constraints for a refiner.

The floor is found first: a motion that is sunk or lifted as a whole is put on it. Then feet that stand keep their place
and nothing is below the floor (`motions.humanoid.ground.plant_feet`, which knows HumanML3D's joints only). It is a
hand-written rule: it cannot tell a foot that slides from one that is meant to, and moves real motions by centimetres,
too, which is what the gate is for.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.humanoid.ground import plant_feet
from motions.skeleton.features import recover_joints, replace_joints
from motions.skeleton.skeletons import HUMANML3D, Skeleton

_FLOOR_QUANTILE = 0.05
"""The floor is at this quantile of the heights of the lowest foot joint."""


def require_plantable(skeleton: Skeleton) -> None:
    """Raises UserError for a skeleton whose feet cannot be planted."""
    if skeleton != HUMANML3D:
        raise UserError(
            f"constraints is projected, which plants the feet of skeleton {HUMANML3D.name}; the data's is "
            f"{skeleton.name}: legal for it is state"
        )


def planted_features(features: Tensor, skeleton: Skeleton, mask: Tensor) -> Tensor:
    """The motions [B, T, D] (physical features) with planted feet; frames outside `mask` [B, T] stay as they are.

    Raises UserError for another skeleton than HumanML3D's.
    """
    require_plantable(skeleton)
    joints = recover_joints(features, skeleton)
    planted = joints.clone()
    feet = list(skeleton.foot_joints)
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        own = joints[row, :length].double().cpu().numpy()
        own[..., 1] -= np.quantile(own[:, feet, 1].min(axis=1), _FLOOR_QUANTILE)
        planted[row, :length] = torch.from_numpy(plant_feet(own, skeleton.fps)).to(planted)
    return replace_joints(features, planted, skeleton, mask)
