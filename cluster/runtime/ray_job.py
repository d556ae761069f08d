"""Detects whether this process runs in a submitted Ray job."""

from __future__ import annotations

import os
from collections.abc import Mapping

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray's job supervisor sets for the entry point of a submitted job."""


def in_ray_job(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the entry point of a submitted Ray job, or a child of it."""
    return JOB_VARIABLE in environ
