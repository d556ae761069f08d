"""Who may import whom: the layers point down, so do the units inside each layer, and no circle is anywhere."""

from __future__ import annotations

import ast
import graphlib
from collections import Counter
from pathlib import Path

import pytest

from tests.house.source_tree import (
    LAYERS,
    ROOT,
    home,
    imports,
    module_name,
    relative,
    sources,
    tracked_files,
    tree_of,
)

BELOW_CLUSTER = LAYERS[: LAYERS.index("cluster")]
SERVICES = ("ray", "wandb")

UNITS = {
    "motions": (
        *("base", "settings", "skeleton", "humanoid", "drawing", "pose_maps", "film", "metrics", "data", "bvh"),
        *("files", "scenes"),
    ),
    "envs": ("settings", "body", "task", "mujoco", "bullet", "scenes", "recording"),
    "rollouts": (
        *("registry", "settings", "messages", "devices", "policy", "gaussians", "linear"),
        *("ssm", "networks", "text", "diffusion", "completion", "one_action", "checkpoints", "retrieval", "refining"),
        *("control", "imitation"),
    ),
    "rewards": (
        *("declared", "settings", "messages", "validation", "retrieval_files"),
        *("tmr", "evaluator", "critic", "physics", "actions", "scorers", "gradients", "mixing"),
        *("functions", "evaluation"),
    ),
    "learners": (
        *("settings", "workers", "optimizer", "ema", "rollout_training", "physics_losses"),
        *("grpo", "grpo_trainer", "supervised", "refining", "trpo", "world_model", "cloning"),
    ),
    "cluster": ("settings", "runtime", "records", "data_parallel", "run", "rllib", "sweeps", "deployment"),
    "jobs": (
        *("command_line", "configs", "report", "text", "evaluation", "composites", "web", "character"),
        *("critic", "actions", "ssm", "scenes", "films", "animation", "trainings", "sweeps", "service"),
        *("import_motion", "balance", "compare", "evaluate", "generate", "pretrain"),
        *("train_retrieval", "train_critic", "critic_score", "train_motion_ssm", "train_physics_ssm"),
        *("train_mdm", "tune_mdm", "test_mdm", "sample_and_save", "save_gt", "eval_fid", "direct"),
        *("grpo", "demo", "sft", "trpo", "world_model", "deepmimic", "view", "sweep", "runs", "resume", "doctor"),
        *("deploy", "composite", "prefer", "parse_scene", "plan_scene", "simulate", "render", "animate"),
        *("build_vg_dataset", "build_vg_kb_index", "build_scene_dataset", "train_m1_t5", "enhance"),
    ),
}
"""The units of a layer, its modules and sub-packages: each may import those before it (and itself)."""

MOST_MODULES = 13
"""In one folder, `__init__.py` not counted; in jobs/ and benchmarks/ neither are the commands, which are their list."""

MOST_IMPORTS_IN_FUNCTIONS = 60
"""In the whole product. They hide what a module needs, and are right only where `--help` would otherwise load torch or
Ray, or where an engine is optional."""


def product() -> list[Path]:
    """What a user runs: everything but tests and benchmarks."""
    return [path for path in tracked_files() if relative(path).split("/")[0] not in ("tests", "benchmarks")]


def unit(name: str) -> str:
    """`motions.data` of `motions.data.dataset`; the layer itself of its `__init__`."""
    return ".".join(name.split(".")[:2])


def is_command(path: Path) -> bool:
    """Whether a file is a command, `python -m jobs.NAME` or `python -m benchmarks.NAME`, or the tests of one."""
    if path.parent in (ROOT / "tests" / "jobs", ROOT / "tests" / "benchmarks"):
        name = path.stem.removeprefix("test_").removesuffix("_benchmark").removesuffix("_job")
        path = ROOT / path.parent.name / f"{name}.py"
        return path.is_file() and is_command(path)
    return path.parent in (ROOT / "jobs", ROOT / "benchmarks") and 'if __name__ == "__main__":' in path.read_text()


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_down(layer: str) -> None:
    above = {*LAYERS[LAYERS.index(layer) + 1 :], "tests"}
    for path in sources(layer):
        for imported in imports(tree_of(path)):
            package = imported.module.split(".")[0]
            assert package not in above, f"{relative(path)} imports {imported.module}, which stands above it"
            if layer in BELOW_CLUSTER:
                assert package not in SERVICES, f"{relative(path)} imports {imported.module}: only cluster/ may"


@pytest.mark.parametrize("layer", UNITS)
def test_imports_inside_a_layer_point_down(layer: str) -> None:
    """The layer's own `__init__` stands above its units: it shows their names to users, and none of them imports it."""
    modules = frozenset(module_name(path) for path in sources(layer))
    order = [f"{layer}.{name}" for name in UNITS[layer]]
    assert sorted(order) == sorted({unit(name) for name in modules} - {layer}), "UNITS lists every unit once"
    order.append(layer)
    for path in sources(layer):
        here = unit(module_name(path))
        for imported in imports(tree_of(path)):
            there = home(imported.module, modules)
            if there is not None:
                assert order.index(unit(there)) <= order.index(here), (
                    f"{relative(path)} imports {imported.module}, and {unit(there)} stands above {here} in UNITS"
                )


def test_no_module_imports_itself_by_a_detour() -> None:
    """Imports inside functions and those for types only count as well."""
    modules = frozenset(module_name(path) for path in sources(*LAYERS))
    graph = {
        module_name(path): {
            there for imported in imports(tree_of(path)) if (there := home(imported.module, modules)) is not None
        }
        for path in sources(*LAYERS)
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_folders_are_small_enough_to_look_through() -> None:
    folders = Counter(path.parent for path in tracked_files() if path.name != "__init__.py" and not is_command(path))
    too_full = {relative(folder): number for folder, number in folders.items() if number > MOST_MODULES}
    assert not too_full, f"more than {MOST_MODULES} modules"


def test_few_imports_stand_inside_functions() -> None:
    inside = {path: len({found.line for found in imports(tree_of(path)) if found.in_function}) for path in product()}
    worst = ", ".join(f"{relative(path)} {number}" for path, number in Counter(inside).most_common(10))
    assert sum(inside.values()) <= MOST_IMPORTS_IN_FUNCTIONS, worst


def test_the_checks_see_what_they_look_for() -> None:
    source = """
import ray.data
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from jobs import generate
def f():
    from motions.data.dataset import Dataset
    class Inner:
        import torch
"""
    found = list(imports(ast.parse(source)))
    assert [imported.module for imported in found] == [
        *("ray.data", "typing.TYPE_CHECKING", "jobs.generate", "motions.data.dataset.Dataset", "torch")
    ]
    assert [imported.in_function for imported in found] == [False, False, False, True, True]
    modules = frozenset(("motions.data", "motions.data.dataset"))
    assert home("motions.data.dataset.Dataset", modules) == "motions.data.dataset"
    assert home("torch", modules) is None
    assert (ROOT / "tests").is_dir() and unit("motions.data.dataset") == "motions.data" and unit("motions") == "motions"
