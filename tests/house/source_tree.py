"""The repository's Python files as the tests of this folder read them: modules, and who imports whom."""

from __future__ import annotations

import ast
import functools
import gc
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("motions", "envs", "rollouts", "rewards", "learners", "cluster", "jobs", "benchmarks")
"""Top-level packages; each may import those before it (and itself)."""


@dataclass(frozen=True)
class Import:
    """One imported module, and where the import stands."""

    module: str
    line: int
    in_function: bool


def tracked_files() -> list[Path]:
    """All Python files but those that git ignores."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def sources(*layers: str) -> list[Path]:
    """Python files of the layers."""
    return sorted(path for layer in layers for path in (ROOT / layer).rglob("*.py"))


def relative(path: Path) -> str:
    """From the repository's root, with slashes."""
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    """`jobs/text/prompts.py` is `jobs.text.prompts`, `jobs/text/__init__.py` is `jobs.text`."""
    return relative(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file, parsed once."""
    # Searches for garbage among a million nodes that all stay would take four times as long as the parsing.
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.freeze()
        gc.enable()


def imports(node: ast.AST, in_function: bool = False) -> Iterator[Import]:
    """All imports below a node; `from package import name` gives `package.name`, be it a module or not."""
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, in_function) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from (Import(f"{node.module}.{alias.name}", node.lineno, in_function) for alias in node.names)
    else:
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from imports(child, inside)


def home(name: str, modules: frozenset[str]) -> str | None:
    """The module that `name` is or is defined in; None where it is none of `modules`."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None
