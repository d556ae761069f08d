"""What is said of a run's updates before it starts."""

from __future__ import annotations

import pytest

from learners.grpo.forecast import Trained, forecast
from learners.grpo.settings import GRPOSettings

LORA = Trained(width=128, lora_scale=16 / 8**0.5)
ALL = Trained(width=128, lora_scale=None)
DEMO = GRPOSettings(learning_rate=3e-3, lr_schedule="cosine", groups_per_optimizer_step=4)


def said(settings: GRPOSettings, num_updates: int = 80, trained: Trained = LORA, done: int = 0) -> str:
    return "\n".join(forecast(settings, num_updates, 16, trained, done))


def test_the_course_of_the_learning_rate() -> None:
    assert said(DEMO) == "learning rate 0.003 falls along a cosine to 0 over 320 of 320 optimizer steps"
    constant = DEMO.model_copy(update={"lr_schedule": "constant", "warmup_steps": 5})
    assert said(constant) == "learning rate 0.003 rises over 5 optimizer steps and stays as it is"
    assert said(DEMO, done=40).endswith("over 320 of 320 optimizer steps; the run goes on at 0.0015")


def test_steps_without_a_learning_rate() -> None:
    short = DEMO.model_copy(update={"lr_anneal_steps": 80, "groups_per_optimizer_step": 0})
    assert "the last 20 of 100 optimizer steps have learning rate 0" in said(short, num_updates=100)
    assert "learning rate 0 and" not in said(short, num_updates=80)


@pytest.mark.parametrize(
    ("rate", "trained", "moves"),
    [(3e-3, LORA, True), (1e-6, LORA, False), (1e-6, ALL, False), (2e-5, ALL, True)],
)
def test_a_rate_that_cannot_move_the_policy(rate: float, trained: Trained, moves: bool) -> None:
    settings = DEMO.model_copy(update={"learning_rate": rate})
    assert ("the policy will hardly move" in said(settings, trained=trained)) != moves


def test_a_single_optimizer_step() -> None:
    single = DEMO.model_copy(update={"groups_per_optimizer_step": 0})
    assert "one optimizer step an update: every ratio is 1" in said(single)
    assert "one optimizer step" not in said(single.model_copy(update={"num_epochs": 2}))


def test_options_of_another_kind_of_loss() -> None:
    given = DEMO.model_copy(update={"draft_steps": 2, "reward_shape": "relu"})
    assert "draft_steps, reward_shape change nothing: policy_loss clipped does not follow" in said(given)
    assert "change nothing" not in said(given.model_copy(update={"policy_loss": "draft"})) + said(DEMO)
