"""The evaluator as a reward: its three forms, a pool that does not depend on the group, dense mode, and a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import grpo
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from motions.skeleton.skeletons import HUMANML3D, KIT
from rewards.evaluator.scorer import EvaluatorScorer
from rewards.scorers import build_limiting_scorers, described_rewards
from rewards.settings import RewardSettings
from rollouts.messages import GroupMotions
from rollouts.settings import CheckpointSettings
from tests.toys.small_evaluator import write_evaluator
from tests.toys.small_tmr import prompt_of, random_group
from tests.toys.tiny_models import TinyModels, grpo_words

PROMPT = prompt_of(("a person walks", 24))
POOL = ("a person jumps", "a person kicks a chair", "a person sits", "a person walks")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pool.txt").write_text("\n".join(POOL))
    return write_evaluator(tmp_path) | {"distractors_path": str(tmp_path / "pool.txt"), "num_distractors": "3"}


def scorer_of(files: dict[str, str], **options: Any) -> EvaluatorScorer:
    return EvaluatorScorer.from_settings(RewardSettings.of(files | options), HUMANML3D)


def group(num: int = 12) -> GroupMotions:
    made = random_group(PROMPT, [24] * num)
    return GroupMotions(made.features * 3.0, made.lengths, PROMPT, 0, 0.0)


def test_the_three_forms_and_their_ranges(files: dict[str, str]) -> None:
    terms = {
        form: scorer_of(files, reward_type=form).score(group()).terms
        for form in ("matching", "r_precision", "combined")
    }
    distance = terms["matching"]["evaluator_distance"]
    matching = 1 - np.clip(distance / 10, 0, 1)
    np.testing.assert_allclose(terms["matching"]["semantic"], matching, rtol=1e-5)
    found = terms["r_precision"]["retrieved"]
    retrieved = np.where(found == 1, 1.0, 1 / (1 + distance))
    np.testing.assert_allclose(terms["r_precision"]["semantic"], retrieved, rtol=1e-5)
    np.testing.assert_allclose(terms["combined"]["semantic"], 0.7 * matching + 0.3 * retrieved, rtol=1e-5)


def test_a_motion_is_retrieved_under_one_text_of_a_pool(files: dict[str, str]) -> None:
    scorer, motions = scorer_of(files, reward_type="r_precision"), group()
    scored = [
        scorer.score(GroupMotions(motions.features, motions.lengths, prompt_of((text, 24)), 0, 0.0)).terms
        for text in POOL
    ]
    np.testing.assert_array_equal(np.sum([terms["retrieved"] for terms in scored], axis=0), np.ones(12))
    nearest = np.argmin([terms["evaluator_distance"] for terms in scored], axis=0)
    assert [float(scored[text]["semantic"][row]) for row, text in enumerate(nearest)] == [1.0] * 12


def test_matching_is_the_default_and_distances_are_those_of_the_embeddings(files: dict[str, str]) -> None:
    assert RewardSettings.of(files).semantic.reward_type == "matching"
    scorer = scorer_of(files)
    motions = group(2)
    text = scorer.embedder.embed_texts(["a person walks"])[0]
    own = scorer.embedder.embed_motions(list(motions.features))
    expected = np.linalg.norm(own - text, axis=1)
    np.testing.assert_allclose(scorer.score(motions).terms["evaluator_distance"], expected, rtol=1e-5)


def test_a_motions_reward_depends_on_no_other_motion_of_the_call(files: dict[str, str]) -> None:
    scorer = scorer_of(files, reward_type="combined")
    whole = group(6)
    alone = GroupMotions(whole.features[4:5], whole.lengths[4:5], PROMPT, 0, 0.0)
    expected = scorer.score(whole).terms["semantic"]
    np.testing.assert_allclose(scorer.score(alone).terms["semantic"], expected[4:5], rtol=1e-4)
    turned = GroupMotions(whole.features[::-1].copy(), whole.lengths, PROMPT, 0, 0.0)
    np.testing.assert_allclose(scorer.score_many([turned])[0].terms["semantic"], expected[::-1], rtol=1e-4)


def test_the_pool_leaves_out_the_own_text_and_has_a_fixed_size(files: dict[str, str]) -> None:
    scorer = scorer_of(files, reward_type="r_precision")
    assert scorer.pool("a person walks") == list(POOL[:3])
    assert scorer.pool("a person sits") == ["a person jumps", "a person kicks a chair", "a person walks"]
    with pytest.raises(ValueError, match="4 different captions; num_distractors 4 needs 5"):
        scorer_of(files, reward_type="r_precision", num_distractors=4)
    builtin = {name: value for name, value in files.items() if name not in ("distractors_path", "num_distractors")}
    assert len(scorer_of(builtin, reward_type="r_precision").pool("a person walks")) == 31


def test_dense_mode_compares_segments(files: dict[str, str]) -> None:
    prompt = prompt_of(("a person walks", 12), ("a person kicks", 12))
    scorer = scorer_of(files, use_dense_reward=True)
    motions = random_group(prompt, [24, 24])
    terms = scorer.score(motions).terms
    clips = [motions.features[0, :12], motions.features[0, 12:]]
    texts = scorer.embedder.embed_texts(["a person walks", "a person kicks"])
    own = np.linalg.norm(scorer.embedder.embed_motions(clips) - texts, axis=1)
    assert terms["r_pos"][0] == pytest.approx((1 - np.clip(own / 10, 0, 1)).mean(), rel=1e-4)
    np.testing.assert_allclose(terms["semantic"], terms["r_pos"] - 0.5 * terms["r_neg"], rtol=1e-5)
    assert set(np.unique(terms["logic_accuracy"])) <= {0.0, 0.5, 1.0}


def test_prompts_that_cannot_be_read_are_told(files: dict[str, str]) -> None:
    settings = RewardSettings.of(files)
    scorer = build_limiting_scorers(settings, HUMANML3D)["semantic"]
    assert scorer.misfit(PROMPT) is None
    assert "has no word of the vocabulary" in str(scorer.misfit(prompt_of(("zebras gallop", 24))))
    long = prompt_of((" ".join(["walk"] * 21), 24))
    assert "reads 20 words" in str(scorer.misfit(long)) and "--truncate_text" in str(scorer.misfit(long))
    cut = build_limiting_scorers(settings, HUMANML3D, CheckpointSettings(truncate_text=True))["semantic"]
    assert cut.misfit(long) is None
    # A longer text with clauses is read by clause: the mean of their embeddings, of which none is lost.
    parts = [f"a person walk {' '.join(['forward'] * 8)}", f"a person kick {' '.join(['slowly'] * 8)}"]
    joined = prompt_of((", then ".join(parts), 24))
    assert scorer.misfit(joined) is None
    embedder, first = scorer_of(files).embedder, scorer_of(files).embedder
    first.truncate = True
    [whole], both = embedder.embed_texts([joined.text]), embedder.embed_texts(parts)
    np.testing.assert_allclose(whole, both.mean(axis=0), rtol=1e-5)
    assert not np.allclose(first.embed_texts([joined.text])[0], whole)
    with pytest.raises(ValueError, match="reads 263 features; motions of skeleton kit have 251"):
        EvaluatorScorer(scorer_of(files).embedder, settings, KIT)


def test_tagged_captions_change_what_is_read(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "1.txt").write_text("a person walks#a/DET person/NOUN jump/VERB#0.0#0.0\n")
    tagged = scorer_of(files, evaluator_texts_path=str(tmp_path / "texts"))
    assert tagged.embedder.tokens("a person walks") == ["a/DET", "person/NOUN", "jump/VERB"]
    assert not np.array_equal(
        tagged.score(group(2)).terms["semantic"], scorer_of(files).score(group(2)).terms["semantic"]
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reward_type": "cosine"}, "reward_type 'cosine' belongs to reward_model_type tmr"),
        ({"reward_type": "combined", "use_dense_reward": True}, "use_dense_reward needs reward_type 'matching'"),
        ({"tmr_scale": 3.0}, "tmr_scale is given and reward_model_type is mdm"),
        ({"reward_model_type": "tmr"}, "evaluator_path is given and reward_model_type is tmr"),
    ],
)
def test_options_of_the_other_network_are_refused(files: dict[str, str], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardSettings.of(files | values)


def test_a_run_is_rewarded_by_the_evaluator(files: dict[str, str], tiny_models: TinyModels, tmp_path: Path) -> None:
    changes = {"tmr_checkpoint_path": None, "use_dense_reward": False, "reward_type": "combined", "truncate_text": True}
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"text": "a person walks", "frames": 40}\n{"text": "a person kicks", "frames": 44}\n')
    words = grpo_words(
        tiny_models, tmp_path / "run", prompts_path=prompts, eval_prompts_path=prompts, **files, **changes
    )
    assert cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", argv=words) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("reward/evaluator_distance" in line and "reward/retrieved" in line for line in lines)
    label = described_rewards(RewardSettings.of(files))[0]["label"]
    assert label == "global semantic (evaluator of Guo et al.)"
