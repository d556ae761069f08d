"""Docstrings and messages are complete and name nothing that a reader has never seen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source_tree import LAYERS, ROOT, relative, tracked_files

UNSEEN = re.compile(
    r"\bthe guides?\b|\bguides?'s?\s|\bspecs/|\bthe specs?\b|\bspecs? section\b|\bsection [\d.]+ of the spec"
    r"|\bthis issue\b|\bseed's (?:code|model|documents?|guides?)\b|\bseed of this project\b",
    re.IGNORECASE,
)
"""References to documents that no reader has: name the public project or paper instead."""
RIDDLES = re.compile(r"\bWhatever\b|\b[Tt]ells everybody\b|\b[Ll]et others in\b|\bhungriest\b|\binvisible hand\b")
FEWEST_WORDS = 3


def product() -> list[Path]:
    return [path for path in tracked_files() if relative(path).split("/")[0] in LAYERS]


def is_declaration(node: ast.AST) -> bool:
    """A method without a body, as in protocols whose class docstring says what they are."""
    return isinstance(node, ast.FunctionDef) and len(node.body) == 1 and ast.unparse(node.body[0]) == "..."


def public_docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Name and docstring of the module and of every public class, function and method."""
    yield "the module", ast.get_docstring(tree) or ""
    nodes: list[tuple[str, ast.AST]] = [("", node) for node in tree.body]
    while nodes:
        prefix, node = nodes.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if not is_declaration(node):
                yield prefix + node.name, ast.get_docstring(node) or ""
            if isinstance(node, ast.ClassDef):
                nodes += [(f"{prefix}{node.name}.", child) for child in node.body]


def poor_docstrings(tree: ast.Module) -> list[str]:
    return [name for name, text in public_docstrings(tree) if len(text.split()) < FEWEST_WORDS]


@pytest.mark.parametrize("path", product(), ids=relative)
def test_everything_public_has_a_docstring_that_says_something(path: Path) -> None:
    poor = poor_docstrings(ast.parse(path.read_text(encoding="utf-8")))
    assert not poor, f"{relative(path)}: no docstring of {FEWEST_WORDS} words or more: {', '.join(poor)}"


@pytest.mark.parametrize("path", tracked_files(), ids=relative)
def test_no_riddles_and_no_references_to_what_the_reader_has_never_seen(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        found = None if path == Path(__file__) else UNSEEN.search(line) or RIDDLES.search(line)
        assert found is None, f"{relative(path)}:{number} says {found.group()!r}"


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.py")), ids=relative)
def test_commands_in_help_go_on_in_a_line_of_their_own(path: Path) -> None:
    """A single backslash at the end of a docstring's line takes the line's end with it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert not re.search(r"\S {4}", text), f"{relative(path)}: write two backslashes at the end of a line"


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=relative)
def test_no_page_has_a_word_in_place_of_what_is_still_to_be_written(path: Path) -> None:
    left = re.findall(r"\n\n([A-Z_]+)\n\n", path.read_text(encoding="utf-8"))
    assert not left, f"{relative(path)}: {left}"


def test_the_checks_see_what_they_look_for() -> None:
    source = 'class A:\n    """D."""\n    def f(self): pass\n    def g(self): ...\n    def _h(self): pass\n'
    assert sorted(poor_docstrings(ast.parse(source))) == ["A", "A.f", "the module"]
    for phrase in ("the guide's option", "specs/grpo.md", "the spec says", "section 4.2 of the spec", "seed's code"):
        assert UNSEEN.search(phrase), phrase
    assert not UNSEEN.search("find_spec(name), a control_spec and the seed of row 0")
