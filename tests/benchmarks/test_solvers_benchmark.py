"""The table of solvers: a small one of tiny models, and when its target is missed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import solvers
from tests.toys.tiny_models import TinyModels, grpo_words


def test_a_table_is_made_and_written(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = grpo_words(tiny_models, tmp_path, save_dir=None, num_eval_prompts=None, composite_fraction=0)
    assert solvers.main(["--prompts=3", "--replications=2", f"--output={tmp_path}", *own]) == 0
    printed = capsys.readouterr().out
    assert "DPM-Solver++ (2M)    6 steps" in printed, "a policy of six steps has rows of at most as many"
    rows = json.loads((tmp_path / "solvers.json").read_text())["rows"]
    found = {(row["sampler"], row["steps"]): row for row in rows}
    assert found.keys() == {(name, steps) for name in solvers.NAMES for steps in (5, 6)}
    assert all(row["means"]["fid"] > 0 and row["half_widths"]["fid"] > 0 for row in rows)
    assert len({row["means"]["total"] for row in rows}) == len(rows), "each samples in another way"
    assert (tmp_path / "solvers.png").stat().st_size > 0


def test_the_target_is_five_percent() -> None:
    def rows(few: float) -> dict[tuple[str, int], solvers.Row]:
        return {("dpmpp_2m", 10): {"means": {"fid": few}}, ("ddpm", 50): {"means": {"fid": 4.0}}}

    assert solvers.missed_target(rows(4.19), 50) == []
    assert "is 1.100 times the 4.000 of 50 ancestral steps, 0.050 too much" in solvers.missed_target(rows(4.4), 50)[0]


@pytest.mark.parametrize(
    ("words", "message"), [("--prompts=1", "--prompts is 1"), ("--judge_path=none", "the FID needs a judge")]
)
def test_bad_options(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        solvers.main([words])
    assert message in capsys.readouterr().err
