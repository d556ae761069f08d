"""What a GRPO run refuses before it loads anything."""

from __future__ import annotations

import re

import pytest

from jobs.configs.grpo import GRPOConfig
from jobs.text import grpo_run
from motions.base.errors import UserError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sde_window": 100, "sampling_steps": 10}, "sde_window is 100; of 10 sampling steps, 9 can be stochastic"),
        ({"policy_loss": "nowhere:Loss"}, "policy_loss is 'nowhere:Loss'"),
        ({"sampler": "json:Nothing"}, "sampler is 'json:Nothing'"),
        ({"eval_sampler": "json:Nothing"}, "eval_sampler is 'json:Nothing'"),
        ({"arch": "nowhere:Network"}, "arch is 'nowhere:Network'"),
        ({"prompts_path": "nothing.txt"}, "prompts_path nothing.txt: no such file"),
        ({"eval_prompts_path": "nothing.txt"}, "eval_prompts_path nothing.txt: no such file"),
        ({"dataset": "humanmll"}, "dataset 'humanmll' is neither 'builtin' nor a folder"),
    ],
)
def test_cheap_checks_come_before_the_policy_is_loaded(
    options: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(*_: object) -> None:
        raise AssertionError("the policy is loaded first")

    monkeypatch.setattr(grpo_run, "open_trained", loads)
    with pytest.raises(UserError, match=re.escape(message)):
        grpo_run.prepare(GRPOConfig.of(save_dir="out", runtime="local", **options))
