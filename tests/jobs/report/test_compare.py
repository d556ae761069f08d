"""`jobs.compare`: runs and evaluations side by side in one page, and what is no run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from jobs import compare
from jobs.command_line import main as cli
from jobs.command_line.settings_files import PRESETS
from jobs.configs.grpo import GRPOConfig
from jobs.configs.service.compare import CompareConfig
from rewards.scorers import reward_weights


def run(*words: object) -> int:
    return cli.main(
        *(CompareConfig, compare.run, compare.__doc__, "jobs.compare"),
        plan=compare.plan,
        argv=[str(word) for word in words],
    )


def write_run(folder: Path, total: float, alpha: float) -> Path:
    folder.mkdir()
    records = [{"step": step, "reward/total": total * step, "evaluation/total_low": 0.0} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    config = {"run": {"save_dir": str(folder), "seed": 10}, "rewards": {"semantic": {"alpha": alpha}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"name": "total", "before": 0.25, "after": total, "interval": [0.1, 0.2]}]
    (folder / "evaluation.json").write_text(json.dumps({"kind": "text", "rows": rows}))
    return folder


def write_evaluation(path: Path, value: float, half: float | None) -> Path:
    names = ("model", "data", "network", "sampler", "replications", "seed")
    rows = {"model": {"logic_accuracy": {"mean": value, "interval_95": half, "values": [value]}}}
    path.write_text(json.dumps({"kind": "generated motions", "rows": rows} | {name: f"a {name}" for name in names}))
    return path


def test_runs_and_evaluations_stand_side_by_side_in_one_offline_page(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "exp1", 0.5, 0.0), write_run(tmp_path / "exp5", 0.75, 0.5)
    (tmp_path / "measured").mkdir()
    write_evaluation(tmp_path / "measured" / "eval.json", 0.875, 0.03)
    given = (first, f"<ours>={second}", tmp_path / "measured")
    assert run(*given, "--save_dir", tmp_path / "out") == 0
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "&lt;ours&gt;" in page and "<ours>" not in page.split('id="data"')[0]
    assert "0.25 → 0.75" in page and "change +0.1 to +0.2" in page and "0.875 ± 0.03" in page
    assert "https://" not in page and page.count("http://") == page.count("http://www.w3.org/2000/svg")
    [data] = [line for line in page.splitlines() if 'id="data"' in line]
    drawn = json.loads(data.partition(">")[2].rpartition("</script>")[0])
    assert [chart["title"] for chart in drawn["charts"]] == ["reward/total"]
    assert [series["name"] for series in drawn["charts"][0]["series"]] == ["exp1", "<ours>"]
    assert drawn["charts"][0]["series"][1]["points"] == [[1.0, 0.75], [2.0, 1.5]]
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| total | 0.25 → 0.5 | 0.25 → 0.75 |  |" in text
    assert "| rewards.semantic.alpha | 0.0 | 0.5 |  |" in text and "save_dir" not in text
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert content["runs"]["exp1"]["figures"] == {"total": 0.5}


def test_metrics_are_chosen_and_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_run(tmp_path / "one", 0.5, 0.0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "two").mkdir()
    for name in ("debug.json", "full.json"):
        write_evaluation(tmp_path / "two" / name, 0.5, None)
    assert run(first, "--dry_run", "--save_dir", tmp_path / "out") == 0
    assert "one: " in capsys.readouterr().out and not (tmp_path / "out").exists()
    for words, line in (
        ((first, first), "two runs are called one; name one as NAME=PATH"),
        ((tmp_path / "gone",), "there is no such file or folder"),
        ((tmp_path / "two",), "two holds 2 evaluations; give the file of one: "),
        ((tmp_path / "empty",), "no metrics.jsonl, so it is no run directory"),
        ((tmp_path / "broken.json",), "it is not JSON"),
        ((first, "--metrics", "reward/none"), "metrics reward/none: no run has it; there are "),
    ):
        assert run(*words, "--save_dir", tmp_path / "out2") == 2
        assert line in capsys.readouterr().err
    assert run(first, "--save_dir", tmp_path / "out3", "--metrics", "evaluation/total_low") == 0
    assert "evaluation/total_low" in (tmp_path / "out3" / "compare.html").read_text()
    assert run(first, "--save_dir", tmp_path / "out3") == 2


def test_the_five_experiments_differ_by_their_rewards_alone() -> None:
    found = {}
    for number in range(1, 6):
        words = ["--preset", f"exp{number}", "--save_dir", "run"]
        found[number] = cli.parse(GRPOConfig, words, "jobs.grpo").settings
    assert len({config.model_copy(update={"rewards": None}).model_dump_json() for config in found.values()}) == 1
    kinds = {
        number: (
            config.rewards.semantic.use_dense_reward,
            config.rewards.physics.use_physics_reward,
            config.rewards.semantic.alpha if config.rewards.semantic.use_dense_reward else None,
            reward_weights(config.rewards),
        )
        for number, config in found.items()
    }
    alone, both = {"semantic": 1.0, "physics": 0.0}, {"semantic": 1.0, "physics": 0.3}
    assert kinds == {
        1: (True, False, 0.0, alone),
        2: (False, False, None, alone),
        3: (True, True, 0.0, both),
        4: (False, True, None, both),
        5: (True, True, 0.5, both),
    }
    assert all((PRESETS / f"exp{number}.yaml").is_file() for number in found)
