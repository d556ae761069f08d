"""Every command that writes a folder says at once that it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.source_tree import ROOT
from tests.jobs.mistakes.table import Case, require_refusal

pytestmark = pytest.mark.slow

REQUIRED = {
    "animate": "--text walks",
    "compare": "folder",
    "critic_score": "folder",
    "generate": "--text_prompt walks",
    "import_motion": "--bvh_dir folder --captions prompts.csv",
    "parse_scene": "--text walks",
    "prefer": "folder",
    "sample_and_save": "--model_path page.pt",
    "sweep": "--space grpo",
    "tune_mdm": "--model_path page.pt",
    "view": "folder",
}
"""Options without which a command is not read."""
OPTIONS = {
    **dict.fromkeys(("balance", "build_vg_dataset", "build_vg_kb_index", "build_scene_dataset"), "output"),
    "composite": "output_dir",
}
"""What the folder is called where it is not `save_dir`."""
NOTHING_HERE = ("deploy", "doctor", "resume", "runs")
"""Commands that write no folder on this machine, or whose matter is what it lacks."""
NOT_A_TEST = "test_mdm"
"""This command cannot be run inside pytest, whose import hook takes it for a module of tests; it has the settings of
`sample_and_save`."""
COMMANDS = [path.stem for path in sorted((ROOT / "jobs").glob("*.py")) if "cli.main(" in path.read_text()]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in (*NOTHING_HERE, NOT_A_TEST)])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_read(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    option = OPTIONS.get(command, "save_dir")
    words = (f"jobs.{command}", *REQUIRED.get(command, "").split(), f"--{option}", "file/inside/more")
    said = (f"error: --{option} file", "is a file, not a directory")
    require_refusal(Case(words, said), tmp_path, monkeypatch, capsys)
