"""Each layer re-exports its public names, lazily: they are there, and `import` of a layer loads nothing heavy."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from motions.base.public_names import public_names

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("motions", "envs", "rollouts", "rewards", "learners", "cluster")


@pytest.mark.parametrize("layer", LAYERS)
def test_public_names_are_those_of_their_modules(layer: str) -> None:
    package = importlib.import_module(layer)
    names = public_names(layer)
    assert names
    for name, module in names.items():
        assert module.startswith(f"{layer}."), f"{layer} re-exports {name} of another layer"
        assert getattr(package, name) is getattr(importlib.import_module(module), name)


def test_a_layer_s_import_loads_neither_torch_nor_ray() -> None:
    script = f"import {', '.join(LAYERS)}, sys\n"
    script += "print([name for name in ('torch', 'ray', 'mujoco', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    package = importlib.import_module("rewards")
    with pytest.raises(AttributeError, match="module 'rewards' has no attribute 'RewardTurms'"):
        _ = package.RewardTurms
