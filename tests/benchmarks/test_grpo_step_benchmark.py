"""The plain loop beside ours on a tiny network: both learn something, figures are drawn out, targets are judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import grpo_step
from benchmarks.plain_mdm import PlainMDM
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.networks.mdm import MDM, MDMConfig

CONFIG = MDMConfig(latent_dim=16, ff_size=32, num_layers=1, num_heads=2, text_dim=8, max_positions=64)


@pytest.mark.parametrize("name", grpo_step.CONTENDERS)
def test_each_makes_a_step_of_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[torch.nn.Module] = []

    kind = PlainMDM if name == "plain" else MDM

    def kept(*given: Any, **more: Any) -> torch.nn.Module:
        built.append(kind(*given, **more))
        return built[-1]

    monkeypatch.setattr(grpo_step, kind.__name__, kept)
    schedule, options = DiffusionSchedule("cosine", 20), grpo_step.CONTENDERS[name]
    if options is None:
        step = grpo_step.plain_step(CONFIG, schedule, 8)
    else:
        step = grpo_step.our_step(CONFIG, schedule, 8, options)
    before = [weight.detach().clone() for weight in built[0].parameters()]
    step()
    changes = [float((b - a).detach().abs().max()) for a, b in zip(before, built[0].parameters(), strict=True)]
    assert 0.0 < max(changes) < 1e-4, "one step of the learning rate"


def test_costs_are_drawn_out_along_a_line() -> None:
    few, many = {"seconds": 3.0, "peak_bytes": 10.0}, {"seconds": 5.0, "peak_bytes": 14.0}
    assert grpo_step.drawn_out(few, many, (4, 8)) == {"seconds": 26.0, "peak_bytes": 56.0}


def test_targets_are_judged() -> None:
    figures = {
        "plain": {"seconds": 80.0, "peak_bytes": 80.0 * grpo_step.GIGABYTE},
        "ours": {"seconds": 10.0, "peak_bytes": 10.0 * grpo_step.GIGABYTE},
    }
    assert grpo_step.missed_targets(figures) == []
    assert "| ours | 10.0 | 0.400 | 8.0x | 10.00 | 1/8.0 |" in grpo_step.lines(figures)
    figures["ours"] = {"seconds": 11.0, "peak_bytes": 11.0 * grpo_step.GIGABYTE}
    assert grpo_step.missed_targets(figures) == [
        "7.27 times the samples per second (at least 8)",
        "0.138 of the memory (at most 0.125)",
    ]


@pytest.mark.slow
def test_a_small_table_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--measured_steps=4", "--width=16", "--layers=1", "--frames=8"]
    assert grpo_step.main([*sizes, f"--json={tmp_path / 'figures.json'}"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert figures.keys() == grpo_step.CONTENDERS.keys()
    assert all(own["seconds"] > 0.0 for own in figures.values())
    assert "| plain | " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        grpo_step.main(["--measured_steps=2"])
