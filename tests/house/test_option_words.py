"""Every `--word` that the product, its help or its documentation names is an option that some command takes."""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator

from jobs.command_line.flags import flags_of, names_of
from jobs.command_line.main import CLI_FLAGS
from tests.house.source_tree import LAYERS, ROOT, relative, sources, tree_of

WORD = re.compile(r"(?<![\w-])--([a-z][a-z0-9_.-]*[a-z0-9])(?![\w>-])")

OTHER_TOOLS = {
    "working-dir": "ray job submit",
    "address": "ray start",
    "head": "ray start",
    "dashboard-agent-listen-port": "ray start",
    **dict.fromkeys(("min-nodes", "num-cpus"), "ray symmetric-run"),
    **dict.fromkeys(("cpus-per-task", "gpus-per-node", "job-name", "mem", "requeue", "signal", "time"), "sbatch"),
    **dict.fromkeys(("kill-on-bad-exit", "nodes", "ntasks", "ntasks-per-node"), "srun"),
    "shm-size": "docker run",
    "head_enough": "declared by the reward of docs/how_to/add_a_reward.md",
    "rewards.head_height.head_enough": "the same",
    "duration": "DeepMimic_mujoco, in docs/how_to/deepmimic_mujoco.md",
    "kd": "the same",
    "kp": "the same",
    "max_steps": "the same",
    "motions": "no option: an arrow in the drawing of cluster/run/controller.py",
}
"""Options of other programs, or of what a page adds; with the place."""


def commands() -> dict[str, type]:
    """Settings model of every module that hands one to the command line, by the module's name."""
    found = {}
    for path in sources("jobs", "benchmarks"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("cli.main", "cli.parse"):
                name = relative(path).removesuffix(".py").replace("/", ".")
                found[name] = getattr(importlib.import_module(name), ast.unparse(node.args[0]))
    return found


def options() -> set[str]:
    """Every spelling of every option of every command."""
    names = {"help", *CLI_FLAGS}
    for module, config in commands().items():
        flags = flags_of(config)
        names |= names_of(flags).keys()
        names |= {f"no_{spelling}" for spelling, name in names_of(flags).items() if flags[name].kind == "bool"}
        for value in vars(importlib.import_module(module)).values():
            # Options of other command lines that a command takes with a note.
            if isinstance(value, dict) and value and all(type(one).__name__ == "ForeignFlag" for one in value.values()):
                names |= value.keys()
    return names


def argparse_options(tree: ast.Module) -> set[str]:
    """What a script of benchmarks/ adds to its own parser."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    added = [call for call in calls if ast.unparse(call.func).endswith("add_argument")]
    return {
        str(part.value).removeprefix("--") for call in added for part in call.args if isinstance(part, ast.Constant)
    }


def texts() -> Iterator[tuple[str, str]]:
    """Strings and docstrings of the product and lines of the documentation, with their place."""
    for path in sources(*LAYERS):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{relative(path)}:{node.lineno}", node.value
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("jobs/presets/*.yaml"))]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield f"{relative(path)}:{number}", line


def test_every_option_that_is_named_exists() -> None:
    known = {name.replace("-", "_") for name in options() | OTHER_TOOLS.keys()}
    for path in sources(*LAYERS):
        known |= {name.replace("-", "_") for name in argparse_options(tree_of(path))}
    unknown: dict[str, list[str]] = defaultdict(list)
    used = set()
    for place, text in texts():
        for word in WORD.findall(text):
            used.add(word)
            if word.replace("-", "_") not in known:
                unknown[word].append(place)
    lines = [f"--{word}: {place}" for word, places in sorted(unknown.items()) for place in places]
    assert not lines, "\n".join(lines)
    assert used >= OTHER_TOOLS.keys(), "no longer named"


PLACE = re.compile(
    rf"(?<![\w./-])(?:{'|'.join(LAYERS)}|docs|tests)/[\w./-]*(?:/|\.(?:py|md|ya?ml|json|sh))(?![\w*{{<])"
)
"""A folder or file of the repository, as texts name it."""

MADE = ("docs/results/losses.json",)
"""What a command writes."""


def test_every_folder_and_file_that_is_named_exists() -> None:
    # Capitals stand for a name: jobs/presets/NAME.yaml.
    named = {(place, one) for place, text in texts() for one in PLACE.findall(text) if one == one.lower()}
    assert len(named) > 20
    missing = [f"{place}: {one}" for place, one in sorted(named) if one not in MADE and not (ROOT / one).exists()]
    assert not missing, "\n".join(missing)
