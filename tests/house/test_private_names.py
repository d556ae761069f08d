"""Private names of libraries that the product uses: each is here with its reason, and a new one needs one.

A library may change what begins with an underscore in any release, without notice.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from tests.house.source_tree import LAYERS, imports, relative, sources, tree_of

REASONS = {
    "_private": "`ray._private`: see `_dir_travel`",
    "_dir_travel": "ray: the walk of its upload, so that the size we measure is the size that it would refuse",
    "_worker_manager": "ray.rllib: `EnvRunnerGroup.foreach_env_runner` swallows errors of the environment",
    "_check_component": "ray.rllib: how every `get_state` of its `Checkpointable` asks whether a part is wanted",
    "_replace": "typing.NamedTuple: documented; the underscore only keeps the name free for a field",
    "_asdict": "typing.NamedTuple: see `_replace`",
    "_current_frames": "sys: the only way to see where another thread is; CPython documents it",
    "_linear_pointwise": "torch: oneDNN's matrix product, on the CPU faster than the public `linear`",
    "_is_mkldnn_bf16_supported": "torch: whether this CPU has the instructions for that product in bfloat16",
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names() -> set[str]:
    """Names that the product defines: functions, classes, variables, attributes."""
    names: set[str] = set()
    for path in sources(*LAYERS):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return names


def private_names(path: Path) -> set[str]:
    """Every private name that a module imports, reads as an attribute, or asks for with `getattr`."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            names |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {part for alias in node.names for part in alias.name.split(".")}
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            names |= {
                part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return {name for name in names if is_private(name)}


def test_private_names_of_libraries_have_a_reason() -> None:
    own, users = own_names(), defaultdict(list)
    for path in sources(*LAYERS):
        for name in private_names(path) - own:
            users[name].append(relative(path))
    assert {name: users[name] for name in users.keys() - REASONS.keys()} == {}, "give a reason, or do without"
    assert REASONS.keys() <= users.keys(), "no longer used"


def test_no_private_name_of_ray_is_needed_to_import_a_module() -> None:
    for path in sources(*LAYERS):
        for found in imports(tree_of(path)):
            private = found.module.startswith("ray.") and any(map(is_private, found.module.split(".")))
            assert not private or found.in_function, f"{relative(path)} imports {found.module}"
