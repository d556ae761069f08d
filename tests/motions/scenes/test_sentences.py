"""The rule parser on hand-written sentences."""

from __future__ import annotations

import pytest

from benchmarks import scene_parsing
from motions.scenes.rules import parse_text
from motions.scenes.vocabulary import verbs


def test_the_sentences_are_many_and_their_meanings_use_known_verbs() -> None:
    halves = scene_parsing.halves()
    records = [record for half in halves.values() for record in half]
    assert len(records) >= 100 and len({record["text"] for record in records}) == len(records)
    known = {action.verb for record in records for action in scene_parsing.expected(record).actions}
    assert known <= set(verbs().names)


def test_targets_are_met_on_the_half_that_the_rules_were_not_written_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert scene_parsing.main(["--check", "--show"]) == 0
    assert "all targets met" in capsys.readouterr().out
    whole = scene_parsing.measure(scene_parsing.halves()["held out"])["whole"]
    assert 0.82 < whole < 1, "with targets and repetitions, as docs/explanation/scenes.md says"


def test_a_trained_parser_is_measured_beside_the_rules(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(scene_parsing, "trained", lambda place: asked.append(place) or {"T5": parse_text})
    assert scene_parsing.main(["--parser", "runs/parser"]) == 0 and asked == ["runs/parser"]
    rules, _, trained, _ = (line.split(": ")[1] for line in capsys.readouterr().out.splitlines())
    assert trained == rules
