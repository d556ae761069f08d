"""The rules of the house, read from the syntax trees: who may import whom, and what nobody may write."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("motions", "envs", "rollouts", "rewards", "learners", "cluster", "jobs", "benchmarks")
"""Each layer may import those before it (and itself)."""

BELOW_CLUSTER = LAYERS[: LAYERS.index("cluster")]
SERVICES = ("ray", "wandb")

UNSAFE: dict[str, set[str]] = {
    "except Exception": set(),
    "bare except": set(),
    "strict=False": set(),
    "allow_pickle=True": set(),
    "weights_only=False": set(),
}
"""What is forbidden, and the files that may do it all the same."""


def sources(*layers: str) -> list[Path]:
    return sorted(path for layer in layers for path in (ROOT / layer).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def unsafe_forms(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield "bare except"
            for name in ast.walk(node.type) if node.type else ():
                if isinstance(name, ast.Name) and name.id == "Exception":
                    yield "except Exception"
        elif isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id == "zip"):
            for keyword in node.keywords:
                if isinstance(keyword.value, ast.Constant):
                    yield f"{keyword.arg}={keyword.value.value}"


@pytest.mark.parametrize("path", sources(*LAYERS), ids=relative)
def test_imports_point_down(path: Path) -> None:
    layer = LAYERS.index(relative(path).split("/")[0])
    above = set(LAYERS[layer + 1 :]) | {"tests"}
    for module in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
        package = module.split(".")[0]
        assert package not in above, f"{relative(path)} imports {module}, which stands above it"
        if LAYERS[layer] in BELOW_CLUSTER:
            assert package not in SERVICES, f"{relative(path)} imports {module}; only cluster/ and above may"


@pytest.mark.parametrize("path", sources(*LAYERS), ids=relative)
def test_nothing_is_swallowed_or_loaded_unsafely(path: Path) -> None:
    for form in unsafe_forms(ast.parse(path.read_text(encoding="utf-8"))):
        assert relative(path) in UNSAFE.get(form, {relative(path)}), f"{relative(path)} has {form}"


def test_the_checks_see_what_they_look_for() -> None:
    source = """
import ray.data
from jobs import cli
try:
    f(strict=False, allow_pickle=True, weights_only=False)
    zip(a, b, strict=False)
except (ValueError, Exception):
    pass
try:
    pass
except:
    pass
"""
    tree = ast.parse(source)
    assert set(unsafe_forms(tree)) == set(UNSAFE)
    assert list(imported_modules(tree)) == ["ray.data", "jobs"]


def test_settings_need_neither_torch_nor_ray() -> None:
    """A laptop without either validates a command line; `--help` answers at once."""
    modules = [relative(path)[: -len(".py")].replace("/", ".") for path in sources(*LAYERS) if is_light(path)]
    assert {"jobs.command_line.main", "jobs.configs.grpo", "motions.settings", "learners.grpo.settings"} <= set(modules)
    script = f"import sys\nfor name in {modules!r}:\n    __import__(name)\n"
    script += "print([name for name in ('torch', 'ray', 'wandb', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def is_light(path: Path) -> bool:
    """Settings, and the job modules: what is heavy is imported inside their functions."""
    return path.name == "settings.py" or path.is_relative_to(ROOT / "jobs")
