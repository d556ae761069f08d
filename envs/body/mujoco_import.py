"""MuJoCo with type annotations for the parts in use: the package is a binary without stubs.

`mujoco` and `rollout` are the modules themselves; `Model` and `Data` declare the fields that kinetune reads or writes.
Arrays of `Data` are views of the engine's memory.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from motions.base.errors import UserError

Array = NDArray[np.float64]


def _engine() -> Any:
    """The engine, which loads the library that `MUJOCO_GL` names.

    Raises:
        UserError: it does not know or have that library.
    """
    try:
        return importlib.import_module("mujoco")
    except (ImportError, AttributeError, RuntimeError) as error:
        backend = os.environ.get("MUJOCO_GL")
        if not backend:
            raise
        raise UserError(
            f"MUJOCO_GL is {backend!r}, with which MuJoCo does not start: {error}; unset it, or use egl or osmesa "
            "where their libraries are installed"
        ) from error


mujoco: Any = _engine()
rollout: Any = importlib.import_module("mujoco.rollout")


class Model(Protocol):
    """Type of `mujoco.MjModel`; never changed after compilation, so many users share one."""

    nq: int
    nv: int
    nu: int
    nbody: int
    ngeom: int
    nsensordata: int
    opt: Any
    geom_type: NDArray[np.int32]
    geom_size: Array
    body_mass: Array
    dof_armature: Array
    dof_damping: Array
    actuator_ctrllimited: NDArray[np.bool_]
    actuator_gainprm: Array
    geom_friction: Array
    M_rowadr: NDArray[np.int32]
    M_rownnz: NDArray[np.int32]

    def body(self, name: str) -> Any: ...
    def joint(self, name: str) -> Any: ...
    def actuator(self, name: str) -> Any: ...


class Data(Protocol):
    """Type of `mujoco.MjData`, the state of one simulation."""

    time: float
    ncon: int
    contact: Any
    qpos: Array
    qvel: Array
    qacc_warmstart: Array
    ctrl: Array
    xfrc_applied: Array
    xpos: Array
    xquat: Array
    xmat: Array
    cvel: Array
    geom_xpos: Array
    geom_xmat: Array
    subtree_com: Array
    subtree_linvel: Array
    sensordata: Array
    warning: Any
    qfrc_bias: Array
    qfrc_passive: Array
    M: Array
