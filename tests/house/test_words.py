"""Docstrings and messages are complete and name nothing that a reader has never seen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.source_tree import LAYERS, ROOT, relative, tracked_files, tree_of

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


def test_everything_public_has_a_docstring_that_says_something() -> None:
    poor = {relative(path): poor_docstrings(tree_of(path)) for path in product()}
    assert not {name: names for name, names in poor.items() if names}, f"no docstring of {FEWEST_WORDS} words or more"


def test_no_riddles_and_no_references_to_what_the_reader_has_never_seen() -> None:
    found = [
        f"{relative(path)}:{number} says {match.group()!r}"
        for path in tracked_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := UNSEEN.search(line) or RIDDLES.search(line))
    ]
    assert not found, "\n".join(found)


def test_commands_in_help_go_on_in_a_line_of_their_own() -> None:
    """A single backslash at the end of a docstring's line takes the line's end with it."""
    texts = {relative(path): ast.get_docstring(tree_of(path)) or "" for path in (ROOT / "jobs").glob("*.py")}
    joined = sorted(name for name, text in texts.items() if re.search(r"\S {4}", text))
    assert len(texts) > 20 and not joined, f"{joined}: write two backslashes at the end of a line"


def test_no_page_has_a_word_in_place_of_what_is_still_to_be_written() -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")}
    left = {relative(path): words for path, text in pages.items() if (words := re.findall(r"\n\n([A-Z_]+)\n\n", text))}
    assert len(pages) > 20 and not left, left


def test_the_checks_see_what_they_look_for() -> None:
    source = 'class A:\n    """D."""\n    def f(self): pass\n    def g(self): ...\n    def _h(self): pass\n'
    assert sorted(poor_docstrings(ast.parse(source))) == ["A", "A.f", "the module"]
    for phrase in ("the guide's option", "specs/grpo.md", "the spec says", "section 4.2 of the spec", "seed's code"):
        assert UNSEEN.search(phrase), phrase
    assert not UNSEEN.search("find_spec(name), a control_spec and the seed of row 0")
