"""`--help` answers at once, and a laptop without torch or Ray checks a command line."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.house.source_tree import ROOT, module_name, relative, sources

HEAVY = ("torch", "ray", "wandb", "transformers")
PAGES = [path.stem for path in sorted((ROOT / "jobs").glob("*.py")) if path.name != "__init__.py"]
"""One a command."""
LIGHT = ("motions/settings/", "jobs/configs/", "jobs/command_line/")

ASK = f"""
import contextlib, io, json, runpy, sys
helps = {{}}
for page in {PAGES!r}:
    sys.argv = [page, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        runpy.run_module(f"jobs.{{page}}", run_name="__main__")
    helps[page] = [out.getvalue(), [name for name in {HEAVY!r} if name in sys.modules]]
print(json.dumps(helps))
"""


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_help_loads_nothing_heavy() -> None:
    """Imports at any depth count: each page's `--help` is printed, all in one process."""
    answers = json.loads(run(ASK))
    assert set(answers) == set(PAGES) >= {"grpo", "trpo", "demo"}
    for page, (text, loaded) in answers.items():
        assert f"python -m jobs.{page}" in text
        assert not loaded, f"python -m jobs.{page} --help (or that of a page before it) imports {', '.join(loaded)}"


def test_settings_load_nothing_heavy() -> None:
    """Also those that no command holds; each `settings.py` and each job's configuration."""
    paths = [path for path in sources("motions", "envs", "rollouts", "rewards", "learners", "cluster", "jobs")]
    modules = [module_name(path) for path in paths if path.name == "settings.py" or relative(path).startswith(LIGHT)]
    assert {"jobs.command_line.main", "jobs.configs.grpo", "motions.settings", "learners.grpo.settings"} <= set(modules)
    script = f"import sys\nfor name in {modules!r}:\n    __import__(name)\n"
    assert run(script + f"print([name for name in {HEAVY!r} if name in sys.modules])").strip() == "[]"
