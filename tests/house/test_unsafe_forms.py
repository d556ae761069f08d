"""What nobody may write: errors swallowed, and files read in ways that hide a mismatch or run what they hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.house.source_tree import LAYERS, relative, sources, tree_of

UNSAFE: dict[str, set[str]] = {
    "except Exception": {"jobs/service/doctor.py"},  # What is not for the user to mend is raised again there.
    "bare except": set(),
    "strict=False": set(),
    "allow_pickle=True": set(),
    "weights_only=False": set(),
    "torch.load": {"motions/base/safe_files.py", "benchmarks/parity.py"},
}
"""What is forbidden, and the files that may do it all the same."""


def unsafe_forms(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield "bare except"
            for name in ast.walk(node.type) if node.type else ():
                if isinstance(name, ast.Name) and name.id == "Exception":
                    yield "except Exception"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
            yield "torch.load"
        elif isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id == "zip"):
            for keyword in node.keywords:
                if isinstance(keyword.value, ast.Constant):
                    yield f"{keyword.arg}={keyword.value.value}"


@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_is_swallowed_or_loaded_unsafely(layer: str) -> None:
    for path in sources(layer):
        for form in unsafe_forms(tree_of(path)):
            assert relative(path) in UNSAFE.get(form, {relative(path)}), f"{relative(path)} has {form}"


def test_the_check_sees_what_it_looks_for() -> None:
    source = """
try:
    f(strict=False, allow_pickle=True, weights_only=False)
    torch.load(path)
    zip(a, b, strict=False)
except (ValueError, Exception):
    pass
try:
    pass
except:
    pass
"""
    assert set(unsafe_forms(ast.parse(source))) == set(UNSAFE)
