"""Creates vector environments by gymnasium id: batched if the id has a vector entry point, otherwise in turn."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv

import envs
from motions.base.errors import UserError
from rollouts.control.vector_sampler import spaces_of

OWN_IDS = envs.__name__
"""Module whose import registers kinetune's own ids."""


def make_control_env(env_id: str, num_envs: int, options: Mapping[str, Any] | None = None) -> VectorEnv:
    """`num_envs` environments of an id such as `kinetune/DeepMimic-v0` or `Hopper-v5`.

    Args:
        env_id: a registered id, or `package.module:id` where importing the module registers it.
        options: keyword arguments of the environment.

    Raises:
        UserError: unknown id (similar ones are named), options that it does not accept, or spaces other than flat boxes
            of floats.
    """
    module, _, env_id = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"the module of environment {module}:{env_id} cannot be imported: {error}") from error
    known = list(gymnasium.registry)
    if env_id not in known:
        near = difflib.get_close_matches(env_id, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"gymnasium knows no environment {env_id!r}{hint}")
    try:
        env = gymnasium.make_vec(env_id, num_envs=num_envs, **dict(options or {}))
    except TypeError as error:
        raise UserError(f"{env_id} does not take these options: {error}") from error
    spaces_of(env)
    return env


def observation_schema(env: VectorEnv) -> dict[str, Any]:
    """Description of an environment's observations: its own schema if it has one, else its id and the widths."""
    schema = getattr(env.unwrapped, "observation_schema", None)
    if isinstance(schema, dict):
        return schema
    observation_dim, action_dim = spaces_of(env)
    name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    return {"env": name, "observation_dim": observation_dim, "action_dim": action_dim}
