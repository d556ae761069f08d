"""The benchmark of gradients: it finds the part that all draws share, and none in pure noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gradient_agreement
from rollouts.checkpoints.loading import load_policy
from rollouts.messages import TextCondition, Trajectory


def test_every_position_and_normalisation_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    words = ["--prompts", "2", "--draws", "2", "--group_size", "2", "--sampling_steps", "3", "--json", str(path)]
    assert gradient_agreement.main(words) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["position"] for row in rows] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert all(-1 <= value <= 1 for row in rows for value in row["cosine"].values())
    # One denominator for all groups changes no direction; one for each does.
    none, batch, group, floor = (row["cosine"]["all"] for row in rows[:4])
    assert batch == pytest.approx(none, abs=1e-5) and len({round(value, 5) for value in (none, group, floor)}) == 3
    assert rows[0]["group_std"] > rows[4]["group_std"] > 0
    assert len(capsys.readouterr().out.splitlines()) == 9


def test_draws_agree_about_what_is_rewarded_and_not_about_chance() -> None:
    _, config = gradient_agreement.parse_arguments([])
    policy = load_policy(config.policy, config.sampling)
    rng = np.random.default_rng(0)
    text = TextCondition(values=rng.standard_normal((1, 384)).astype(np.float32))
    state = np.repeat(rng.standard_normal((1, 1, 20, 263)), 64, axis=1).astype(np.float32)
    wanted = rng.standard_normal((20, 263))
    gradients = []
    for _ in range(3):
        # The more of what is wanted was drawn, the better.
        amounts = rng.standard_normal(64)
        drawn = rng.standard_normal((1, 64, 20, 263)) + amounts[:, None, None] * wanted
        trajectory = Trajectory(
            states=state,
            next_states=drawn.astype(np.float32),
            steps=np.array([0]),
            log_probs=np.zeros((1, 64), np.float32),
            lengths=np.full(64, 20),
            condition=text,
            policy_version=0,
        )
        advantages = {"wanted": amounts, "chance": rng.permutation(amounts)}
        rows = {name: (values - values.mean())[None].astype(np.float32) for name, values in advantages.items()}
        gradients.append(gradient_agreement.policy_gradients(policy, [trajectory], rows))
    wanted_cosine, chance_cosine = (
        gradient_agreement.agreement(
            [gradient_agreement.of_layers(draw[name], gradient_agreement.LAYERS["all"]) for draw in gradients]
        )
        for name in ("wanted", "chance")
    )
    assert wanted_cosine > 0.9 > 0.5 > chance_cosine


@pytest.mark.parametrize(("words", "message"), [(["--draws", "1"], "--draws is 1"), (["--no_such"], "no_such")])
def test_bad_options_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gradient_agreement.parse_arguments(words)
    assert message in capsys.readouterr().err
