"""Intervals over alike prompts, judges that know nothing, the second judge, real motions, and signs of hacking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from motions.data.builtin import build_builtin
from motions.data.caption_shares import JUDGE, REWARD, share_of_captions
from motions.data.prompts import Prompt, Segment
from motions.data.text_motion import TextMotion
from motions.skeleton.skeletons import HUMANML3D
from rewards.evaluation.evidence import measure_evidence
from rewards.evaluation.hacking import signs_of_hacking
from rewards.evaluation.intervals import Resamples
from rewards.evaluation.linear_judge import LinearJudge, text_counts
from rewards.evaluation.real import RealMotions

CLIPS = ("walk", "kick", "jump")


@pytest.fixture(scope="module")
def splits() -> dict[str, tuple[TextMotion, ...]]:
    return build_builtin(CLIPS)


def test_an_interval_resamples_prompts() -> None:
    rng = np.random.default_rng(0)
    per_prompt = rng.normal(0.3, 1.0, 200)
    resamples = Resamples([str(number) for number in range(200)])
    low, high = resamples.interval(np.repeat(per_prompt[:, None], 4, axis=1))
    error = 1.96 * per_prompt.std() / np.sqrt(200)
    assert low == pytest.approx(per_prompt.mean() - error, abs=0.03)
    assert high == pytest.approx(per_prompt.mean() + error, abs=0.03)
    # Within-prompt spread that averages out does not widen it.
    assert Resamples([str(number) for number in range(10)]).interval(np.tile([-5.0, 5.0], (10, 1))) == (0.0, 0.0)
    assert resamples.caution is None


def test_prompts_of_one_clip_are_one_piece_of_evidence() -> None:
    rng = np.random.default_rng(0)
    clips = [f"clip {number // 6}" for number in range(60)]
    texts = [f"{clip}, text {number % 3}" for number, clip in enumerate(clips)]
    values = np.repeat(rng.normal(size=10), 6) + 0.1 * rng.normal(size=60)
    alone, by_text, by_clip = (
        np.ptp(found.interval(values))
        for found in (Resamples([str(n) for n in range(60)]), Resamples(texts), Resamples(texts, clips))
    )
    assert by_clip > 1.3 * by_text > 1.3 * alone
    assert "only 30 texts of 10 clips" in str(Resamples(texts, clips).caution)
    # As many prompts of one text more change nothing of what the texts say.
    twice = Resamples(texts * 2, clips * 2).interval(np.tile(values, 2))
    assert twice == pytest.approx(Resamples(texts, clips).interval(values))


class Guesser:
    """A judge that was trained on something else."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.random.default_rng(1).normal(size=(len(texts), 8))

    def embed_motions(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        return np.random.default_rng(2).normal(size=(len(clips), 8))


def test_the_second_judge_knows_what_it_was_fitted_to(splits: dict[str, tuple[TextMotion, ...]]) -> None:
    judge = LinearJudge.fit(splits["judge"], HUMANML3D)
    again = LinearJudge.fit(splits["judge"], HUMANML3D)
    np.testing.assert_array_equal(judge.embed_texts(["a kick"]), again.embed_texts(["a kick"]))
    found = measure_evidence("second_judge", judge, splits["test"])
    assert found is not None and found.counts and found.accuracy > 0.9
    assert found.chance == pytest.approx(1 / 5, abs=0.15)
    walks = [item.features for item in splits["test"] if item.source == "walk"]
    scores = judge.embed_motions(walks) @ judge.embed_texts(["a person walks forward", "a person kicks"]).T
    assert (scores[:, 0] > scores[:, 1] + 0.5).all()
    assert text_counts("Walks!").sum() > 0 and text_counts("").sum() == 0
    with pytest.raises(ValueError, match="a judge needs two of each"):
        LinearJudge.fit(splits["judge"][:1], HUMANML3D)


def test_a_second_judge_needs_motions_and_captions(splits: dict[str, tuple[TextMotion, ...]]) -> None:
    with pytest.raises(ValueError, match="0 motions with 0 captions"):
        LinearJudge.fit((), HUMANML3D)
    with pytest.raises(ValueError, match="1 motions"):
        LinearJudge.fit(splits["train"][:1], HUMANML3D)


def test_what_finds_captions_by_chance_only_is_no_evidence(splits: dict[str, tuple[TextMotion, ...]]) -> None:
    items = [TextMotion(f"{number}", "toy", splits["test"][0].features, (f"caption {number}",)) for number in range(64)]
    found = measure_evidence("judge_matching", Guesser(), items)
    assert found is not None and not found.counts
    assert (found.num_motions, found.chance) == (64, 1 / 32)
    assert "NO EVIDENCE" in found.words and found.row()["counts"] is False
    assert measure_evidence("judge_matching", Guesser(), items[:1]) is None


def test_real_motions_are_found_by_the_texts_of_a_prompt(splits: dict[str, tuple[TextMotion, ...]]) -> None:
    real = RealMotions(splits["test"], HUMANML3D)
    walk, kick = (next(item for item in splits["test"] if item.source == clip) for clip in ("walk", "kick"))
    single = Prompt(walk.captions[0], (Segment(walk.captions[0], 20),))
    both = Prompt("both", (Segment(kick.captions[0], 24), Segment(walk.captions[0], 20)))
    unknown = Prompt("swims", (Segment("a fish swims", 20),))
    assert [real.clip_of(prompt) for prompt in (single, both, unknown)] == ["walk", "kick + walk", None]
    found, joined = real.motion_of(single), real.motion_of(both)
    assert found is not None and found.features.shape == (1, 20, 263)
    assert any(np.array_equal(found.features[0], item.features[:20]) for item in splits["test"])
    assert joined is not None and joined.features.shape == (1, 44, 263)
    assert real.motion_of(unknown) is None
    assert real.motion_of(Prompt("long", (Segment(walk.captions[0], 999),))) is None


def test_captions_are_shared_out_between_judge_and_reward() -> None:
    features = np.zeros((20, 263), np.float32)
    many = [TextMotion(f"{n}", f"{n}", features, ("a", "b", "c")) for n in range(4)]
    assert [item.captions for item in share_of_captions(many, JUDGE)] == [("b",)] * 4
    assert [item.captions for item in share_of_captions(many, REWARD)] == [("a", "c")] * 4
    single = [TextMotion(f"{n}", f"clip {n // 2}", features, (f"text {n}",)) for n in range(40)]
    shares = [{item.clip_id for item in share_of_captions(single, share)} for share in (JUDGE, REWARD)]
    assert shares[0].isdisjoint(shares[1]) and len(shares[0] | shares[1]) == 40 and min(map(len, shares)) > 8
    sources = [{item.source for item in single if item.clip_id in share} for share in shares]
    assert sources[0].isdisjoint(sources[1]), "mirrored and cut copies of a recording stay together"


def record(step: int, total: float, **terms: float) -> dict[str, Any]:
    """An evaluation of 40 prompts with two samples each; values spread around the given means."""
    spread = np.random.default_rng(0).normal(0.0, 0.1, (40, 2))
    values = {name: mean + spread for name, mean in terms.items()}
    return {
        "step": step,
        "prompts": [f"prompt {number}" for number in range(40)],
        "total": (total + spread).tolist(),
        "terms": [{name: value[place].tolist() for name, value in values.items()} for place in range(40)],
    }


@pytest.mark.parametrize(
    ("after", "real", "sign"),
    [
        ({}, {}, None),
        ({"judge_matching": 0.4}, {}, "judge_matching fell from 0.5"),
        ({"second_judge": 0.3}, {}, "second_judge fell from 0.5"),
        ({"low_foot_skate": 1.0}, {}, "low_foot_skate worsened"),
        ({"low_foot_skate": 1.0}, {"low_foot_skate": 1.1}, None),
        ({"joint_speed_mps": 1.5}, {"joint_speed_mps": 1.0}, "joint_speed_mps worsened from 1"),
        ({"joint_speed_mps": 1.5}, {"joint_speed_mps": 1.6}, None),
        ({"joint_speed_mps": 1.5}, {}, None),
    ],
)
def test_signs_of_hacking(after: dict[str, float], real: dict[str, float], sign: str | None) -> None:
    terms = {"judge_matching": 0.5, "second_judge": 0.5, "low_foot_skate": 0.5, "joint_speed_mps": 1.0}
    records = [record(0, 0.5, **terms), record(1, 0.6, **terms), record(2, 0.7, **{**terms, **after})]
    signs = signs_of_hacking(records, real)
    if sign is None:
        assert signs == []
    else:
        assert len(signs) == 1 and signs[0].startswith(sign)
        assert "from step 0 to 2, while the reward rose" in signs[0]
    assert signs_of_hacking(records[1:], real) == [], "two evaluations are too few"
    falling = [records[0], record(1, 0.4, **terms), records[2]]
    assert signs_of_hacking(falling, real) == [], "the reward did not rise twice"
    assert signs_of_hacking(records, real, judges=()) == ([] if sign is None or "fell" in sign else signs)
