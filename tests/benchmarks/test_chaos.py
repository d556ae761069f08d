"""Runs that are hit again and again, on toys: what is compared, what counts as a hit, and how the table is read."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from benchmarks import chaos
from benchmarks.chaos import Chaos, Found, Training, line_of, undisturbed

pytestmark = pytest.mark.slow
TOY = ("tests.toys.running.toy_job", "--num_steps", "12", "--save_interval", "1", "--eval_every", "0")
ALONE = Training((*TOY, "--runtime", "local"))
ON_RAY = Training(
    (*TOY, "--max_attempts", "1000", "--object_store_mb", "100", "--no_dashboard"), ("rollout-", "reward:", "learner-")
)


@pytest.mark.timeout(300)
def test_a_run_that_is_killed_three_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = undisturbed(ALONE, tmp_path / "whole", timeout_s=250)
    found = Chaos("toy", ALONE, tmp_path, whole, 0.5, random.Random(1)).last(seconds=0.0, least=3)
    assert found.wrong == []
    # It is started again after each hit, and left alone after the third; a fast machine may finish before one.
    assert found.kills == {"driver": 3} and found.starts == found.runs + 3
    assert found.same_bits == found.runs >= 1 and found.left == 0


@pytest.mark.timeout(300)
def test_other_bits_are_seen(tmp_path: Path) -> None:
    found = Chaos("toy", ALONE, tmp_path, "hash of another run", 60.0, random.Random(1)).last(seconds=0.0)
    assert found.wrong == ["run_0 has other bits"] and (found.runs, found.same_bits, found.kills) == (1, 0, {})


@pytest.mark.timeout(300)
def test_a_run_that_ends_by_itself_with_an_error_is_not_started_again(tmp_path: Path) -> None:
    broken = Training((*TOY, "--runtime", "local", "--num_steps", "0"))
    found = Chaos("toy", broken, tmp_path, "", 60.0, random.Random(1)).last(seconds=0.0)
    assert found.starts == 1 and found.wrong[0].startswith("run_0 ended with status 2: ")


@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.skipif("KINETUNE_LONG_TESTS" not in os.environ, reason="takes minutes: set KINETUNE_LONG_TESTS=1")
def test_actors_and_driver_of_a_run_on_ray_are_killed_six_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_LAST_S", "0")
    whole = undisturbed(ON_RAY, tmp_path / "whole", timeout_s=250)
    found = Chaos("toy", ON_RAY, tmp_path, whole, 3.0, random.Random(4)).last(seconds=0.0, least=6)
    assert found.wrong == []
    assert sum(found.kills.values()) == 6 and found.same_bits == found.runs >= 1


def test_what_is_wrong_is_named_and_gives_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {"grpo": Found("grpo", 2, 9, {"driver": 4, "rollout": 3}, 2), "trpo": Found("trpo", 1, 1, {}, 0)}
    results["trpo"].wrong.append("run_0 has other bits")
    monkeypatch.setattr(chaos, "undisturbed", lambda *_: "hash")
    monkeypatch.setattr(Chaos, "last", lambda self, seconds: results[self.found.training])
    words = ["--folder", str(tmp_path), "--json", str(tmp_path / "found.json"), "--only"]
    assert chaos.main([*words, "grpo"]) == 0
    assert chaos.main([*words, "grpo", "trpo"]) == 1
    assert "WRONG: run_0 has other bits" in capsys.readouterr().out
    assert [one["training"] for one in json.loads((tmp_path / "found.json").read_text())] == ["grpo", "trpo"]
    assert line_of(results["grpo"]).endswith("driver 4, rollout 3")


@pytest.mark.parametrize("words", [["--minutes", "0"], ["--every", "nan"], ["--only", "nothing"]])
def test_bad_options_are_one_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chaos.main(words)
    assert words[0] in capsys.readouterr().err
