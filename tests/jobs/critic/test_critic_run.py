"""GRPO by a critic, alone and beside TMR, in this process and by actors of a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.runtime.connect import Connection
from jobs import grpo
from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_GRPO
from jobs.configs.grpo import GRPOConfig
from rewards.critic.checkpoints import save_critic
from rewards.critic.network import CriticConfig
from tests.toys.small_critic import small_critic
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow

SMALL = CriticConfig(dim_feat=8, dim_rep=4, depth=1, num_heads=2, mlp_ratio=1, maxlen=243)


@pytest.fixture
def critic(tmp_path: Path) -> Path:
    save_critic(tmp_path / "critic", small_critic(config=SMALL), clip_frames=30)
    return tmp_path / "critic"


def run_grpo(models: TinyModels, folder: Path, critic: Path, **changes: object) -> int:
    words = grpo_words(
        models,
        folder,
        critic_checkpoint_path=critic,
        **{"num_eval_prompts": 2, "num_eval_samples": 1, "eval_every": 0, "sampling_steps": 3, "group_size": 2},
        **{
            "num_prompts": 2,
            "composite_fraction": 0.0,
            "use_dense_reward": None,
            "use_physics_reward": None,
            **changes,
        },
    )
    words.append("--no_second_judge")
    return cli.main(GRPOConfig, grpo.run, None, "jobs.grpo", grpo.dry_run, FOREIGN_TO_GRPO, words)


def rewards(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if "reward/total" in record]


def test_a_critic_alone_rewards_a_run_and_stands_in_its_report(
    tiny_models: TinyModels, tmp_path: Path, critic: Path
) -> None:
    folder = tmp_path / "run"
    assert run_grpo(tiny_models, folder, critic, reward_model_type="critic", tmr_checkpoint_path="builtin") == 0
    for record in rewards(folder):
        assert record["reward/total"] == pytest.approx(record["reward/critic"], abs=1e-5)
        assert "reward/critic_worst" in record and "reward/semantic" not in record
    rows = {row["name"]: row for row in json.loads((folder / "evaluation.json").read_text())["rows"]}
    assert rows["critic_score"]["real"] is not None, "the report compares with real motions"
    assert "preferred to a typical real motion" in (folder / "report.html").read_text()


@pytest.mark.ray
def test_actors_of_a_cluster_score_by_critic_and_tmr(
    ray_cluster: Connection, tiny_models: TinyModels, tmp_path: Path, critic: Path
) -> None:
    folder = tmp_path / "run"
    assert run_grpo(tiny_models, folder, critic, critic_weight=0.05, num_steps=1, runtime="ray", trace="true") == 0
    [record] = rewards(folder)
    total = record["reward/semantic"] + 0.05 * record["reward/critic"]
    assert record["reward/total"] == pytest.approx(total, abs=1e-5)
    trace = (folder / "trace.json").read_text()
    assert "reward:critic-0" in trace and "reward:semantic-0" in trace, "each has an actor of its own"
