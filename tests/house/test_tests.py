"""What tests may do: they ask public names, and share by `tests/toys/` and `conftest.py`, not with one another."""

from __future__ import annotations

import ast
import re

from tests.house.source_tree import ROOT, imports, relative, tree_of

TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEST_MODULE = re.compile(r"tests\.([a-z_0-9]+\.)*test_\w+")
PRIVATE = re.compile(r"_[A-Za-z]\w*")

MAY_BE_REACHED = {
    "_exit": "os._exit: the only way to end a process as a crash does",
    "_replace": "typing.NamedTuple: documented; the underscore only keeps the name free for a field",
    "_is_mkldnn_bf16_supported": "PyTorch has no public name for what a processor can do",
}
"""Private names that tests use, and why."""


def private_uses(tree: ast.AST) -> set[str]:
    """Private names of others: taken, imported, or named in a string, as `setattr`, `getattr` and `vars` do."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            names += [] if own else [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "getattr", "delattr")):
            names += [str(word.value).split(".")[-1] for word in node.args[:2] if isinstance(word, ast.Constant)]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).startswith("vars("):
            names += [str(node.slice.value)] if isinstance(node.slice, ast.Constant) else []
    return {name for name in names if PRIVATE.fullmatch(name)}


def test_no_test_imports_a_test() -> None:
    """Nor names one in a string, from which a class would be loaded."""
    for path in TESTS:
        for imported in imports(tree_of(path)):
            assert not TEST_MODULE.match(imported.module), f"move what {relative(path)} imports to tests/toys/"
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.match(f"{TEST_MODULE.pattern}:", node.value), f"move {node.value} to tests/toys/"


def test_tests_ask_public_names() -> None:
    found = {relative(path): private_uses(tree_of(path)) - set(MAY_BE_REACHED) for path in TESTS}
    assert not {name: uses for name, uses in found.items() if uses}, "private names that tests use"


def test_the_checks_see_what_they_look_for() -> None:
    source = """
from package import _hidden
thing._field
self._own
monkeypatch.setattr(thing, "_patched", 1)
monkeypatch.setattr("package.thing._named", 1)
vars(thing)["_stored"]
thing.__dict__
"""
    assert private_uses(ast.parse(source)) == {"_hidden", "_field", "_patched", "_named", "_stored"}
    assert TEST_MODULE.match("tests.jobs.report.test_report.chromium") and TEST_MODULE.match("tests.jobs.test_sft")
    assert not TEST_MODULE.match("tests.toys.tiny_models.TinyModels")
