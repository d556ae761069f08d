"""benchmarks.characters: what it measures, its table and its check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import characters

GOOD = {"survival_s": 20.0, "success": 1.0, "joint_error": 0.078, "normalised_return": 0.95}


def test_every_policy_of_a_clip_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(characters, "SECONDS", 0.5)
    walk = characters.measure("walk", 2, clone_s=0.0)
    assert list(walk) == ["open loop", "expert", "shipped"]
    assert walk["open loop"]["survival_s"] == 0.5 and 0.5 < walk["shipped"]["normalised_return"] <= 1
    assert walk["expert"] != walk["open loop"]
    monkeypatch.setattr(characters, "CLONE", characters.CLONE | {"max_optimizer_steps": 2, "num_demo_envs": 4})
    assert list(characters.measure("kick", 1, clone_s=1.0)) == ["open loop", "clone"]


def test_a_clip_that_was_measured_is_not_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(characters, "measure", lambda *_: {"open loop": GOOD})
    (tmp_path / "table.json").write_text(json.dumps({"run": {"expert": GOOD}}))
    assert characters.main(["--clips", "walk", "run", "--json", str(tmp_path / "table.json")]) == 0
    assert list(json.loads((tmp_path / "table.json").read_text())["run"]) == ["expert"]
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == [
        "| walk | open loop | 20.00 | 1.00 | 0.078 | 0.950 |",
        "| run | expert | 20.00 | 1.00 | 0.078 | 0.950 |",
    ]


def test_a_controller_that_does_less_than_is_said_of_it_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(characters, "measure", lambda *_: {"shipped": GOOD | {"normalised_return": 0.8}})
    assert characters.main(["--clips", "walk", "--check"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("missed: walk: normalised return 0.800 of the 0.95")
    monkeypatch.setattr(characters, "measure", lambda *_: {"shipped": GOOD})
    assert characters.main(["--clips", "walk", "--check"]) == 0
