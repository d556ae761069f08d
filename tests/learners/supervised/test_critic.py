"""A critic learns from pairs: its loss and figures, a training that resumes, and pairs from data and from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learners.optimizer import DivergenceError
from learners.supervised.critic import CriticLearner, PairBatch, calibration, pair_figures, pair_loss
from learners.supervised.critic_pairs import ListedPairs, SyntheticPairs, part_of_group, read_pairs
from learners.supervised.settings import CriticTrainingSettings
from motions.base.errors import UserError
from motions.data.flaws import FLAWS
from motions.data.text_motion import TextMotion
from motions.skeleton.features import extract_features
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.small_critic import small_critic
from tests.toys.synthetic_motion import walking_joints

pytestmark = pytest.mark.slow

SETTINGS = CriticTrainingSettings(batch_size=4, learning_rate=3e-3)


def items(number: int = 4, frames: int = 30) -> list[TextMotion]:
    """Walks, each a recording of its own."""
    found = []
    for seed in range(number):
        joints = walking_joints(HUMANML3D, frames + 1, seed=seed)
        found.append(TextMotion(f"{seed}", f"walk{seed}", extract_features(joints, HUMANML3D), ("a person walks",)))
    return found


def synthetic(number: int = 4) -> SyntheticPairs:
    return SyntheticPairs(items(number), HUMANML3D, min_frames=12, clip_frames=16)


def poses(seed: int, frames: int = 6) -> torch.Tensor:
    return torch.randn(frames, 25, 3, generator=torch.Generator().manual_seed(seed))


def listed(pairs: list[tuple[int, int]]) -> ListedPairs:
    return ListedPairs([(poses(better), poses(worse)) for better, worse in pairs])


def test_the_loss_is_that_of_bradley_and_terry() -> None:
    better, worse = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.0, 0.0, 5.0])
    expected = torch.nn.functional.cross_entropy(torch.stack((better, worse), 1), torch.zeros(3, dtype=torch.int64))
    assert pair_loss(better, worse).item() == pytest.approx(expected.item())
    figures = pair_figures(better.numpy(), worse.numpy())
    assert figures["accuracy"] == pytest.approx(1 / 3), "a tie is wrong"
    assert figures["log_loss"] == pytest.approx(expected.item())


def test_calibration_compares_confidence_with_the_share_that_is_right() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(size=20_000) * 2
    right = rng.random(20_000) < 1 / (1 + np.exp(-np.abs(margin)))
    better = np.where(right, np.abs(margin), -np.abs(margin))
    bins = calibration(better, np.zeros(20_000))
    assert [one.num_pairs for one in bins] == [2500] * 8
    assert all(abs(one.confidence - one.right) < 0.03 for one in bins), "a critic that is as sure as it should be"
    assert [one.confidence for one in bins] == sorted(one.confidence for one in bins)
    sure = calibration(better * 10, np.zeros(20_000))
    assert sure[-3].confidence - sure[-3].right > 0.05, "one that is too sure lies below the diagonal"
    assert len(calibration(np.ones(3), np.zeros(3))) == 3


def test_a_critic_learns_to_dislike_jitter_on_motions_that_it_has_not_seen() -> None:
    seen, unseen = synthetic(), SyntheticPairs(items(6)[4:], HUMANML3D, 12, 16)
    torch.manual_seed(0)
    learner = CriticLearner(small_critic(), SETTINGS, total_steps=40, seed=0)
    batch = unseen.held_out(np.random.default_rng(1), 30)["jittered"]
    before = pair_figures(*learner.scores(batch))
    for step in range(40):
        learner.update(seen.held_out(np.random.default_rng(step), 4)["jittered"])
    after = pair_figures(*learner.scores(batch))
    assert after["accuracy"] > 0.9 > before["accuracy"] and after["log_loss"] < before["log_loss"]


def test_every_held_out_pair_counts_alike_whatever_goes_through_the_critic_at_once() -> None:
    """MotionCritic's validation is a mean over batches, in which a last, short one counts as much as a full one."""
    learner = CriticLearner(small_critic(), SETTINGS, total_steps=1, seed=0)
    batch = listed([(pair, 100 + pair) for pair in range(70)]).all()  # 64 go through at once
    better, worse = learner.scores(batch)
    rows = [batch.better[row : row + 1] for row in range(70)], [batch.worse[row : row + 1] for row in range(70)]
    alone = [pair_figures(*learner.scores(PairBatch(*both, batch.lengths[:1]))) for both in zip(*rows, strict=True)]
    for name, value in pair_figures(better, worse).items():
        assert value == pytest.approx(np.mean([figures[name] for figures in alone]), rel=1e-5)
        by_batch = [pair_figures(better[part], worse[part])[name] for part in (slice(64), slice(64, None))]
        assert abs(np.mean(by_batch) - value) > 1e-3, "a mean over batches would be another number"


def test_a_resumed_training_gives_the_same_bits() -> None:
    pairs = synthetic()

    def learner() -> CriticLearner:
        return CriticLearner(small_critic(), SETTINGS, total_steps=4, seed=3)

    def steps(one: CriticLearner, number: int) -> None:
        for _ in range(number):
            one.update(pairs.sample(np.random.default_rng(one.num_steps), 3, 0.5))

    whole, first, second = learner(), learner(), learner()
    steps(whole, 4)
    steps(first, 2)
    second.load(first.state())
    steps(second, 2)
    for name, value in whole.critic.state_dict().items():
        assert torch.equal(value, second.critic.state_dict()[name]), name
    assert torch.equal(whole.critic.dstran.head.weight, small_critic().dstran.head.weight)
    with pytest.raises(UserError, match="not of a 'critic' one"):
        learner().load({"kind": "retrieval"})
    with pytest.raises(UserError, match="seed 3, this run has seed 4"):
        CriticLearner(small_critic(), SETTINGS, 4, 4).load(first.state())


def test_a_loss_that_is_not_finite_changes_no_weight() -> None:
    learner = CriticLearner(small_critic(), SETTINGS, 4, 0)
    bad = torch.full((1, 5, 25, 3), torch.nan)
    with pytest.raises(DivergenceError, match="the loss is nan"):
        learner.update(PairBatch(bad, bad, torch.tensor([5])))
    assert torch.equal(learner.critic.mlp.fc1.weight, small_critic().mlp.fc1.weight)


def test_synthetic_pairs_are_a_function_of_the_generator() -> None:
    pairs = synthetic()
    one, other = (pairs.sample(np.random.default_rng(5), 6, 0.0) for _ in range(2))
    assert torch.equal(one.better, other.better) and torch.equal(one.worse, other.worse)
    assert one.better.shape[2:] == (25, 3) and one.lengths.min() >= 12 and one.lengths.max() <= 16
    assert (one.better[:, 0, 24] == 0).all() and not torch.equal(one.better, one.worse)
    assert set(pairs.held_out(np.random.default_rng(0), 2)) == set(FLAWS)
    assert pairs.sources == ["walk0", "walk1", "walk2", "walk3"]
    clean = pairs.clean(np.random.default_rng(0), 3)
    assert len(clean) == 3 and all(12 <= len(motion) <= 16 for motion in clean)


def test_graded_pairs_have_a_flaw_on_both_sides() -> None:
    pairs = synthetic()

    # Shaking is seen in the joints of a hand, which a clean walk moves smoothly.
    def roughness(graded: float) -> float:
        batch = pairs.sample(np.random.default_rng(0), 60, graded)
        return float(batch.better[:, :12, 1:22].diff(n=2, dim=1).abs().mean())

    assert roughness(1.0) > 1.5 * roughness(0.0)


def test_motions_that_are_too_short_are_one_clear_error() -> None:
    with pytest.raises(UserError, match="none of 2 motions has 40 frames"):
        SyntheticPairs(items(2), HUMANML3D, 40, 60)


def test_of_every_round_of_groups_one_is_for_validation_and_one_for_the_test() -> None:
    assert [part_of_group(place, 5) for place in range(6)] == ["train", "train", "train", "validation", "test", "train"]


def test_pairs_that_share_a_motion_stay_together() -> None:
    # The three pairs of a question of four motions, where the first was chosen; nine questions, and one that the last
    # pair joins to the first question by its worse motion.
    pairs = listed([(10 * q, 10 * q + other) for q in range(9) for other in (1, 2, 3)] + [(500, 1)])
    parts = pairs.split()
    assert {name: len(part) for name, part in parts.items()} == {"train": 22, "validation": 3, "test": 3}
    assert torch.equal(parts["test"].all().better[0], poses(80)) and torch.equal(parts["train"].better(1)[0], poses(0))
    assert len(parts["train"].joined(parts["test"])) == 25


def test_a_sample_of_a_list_has_no_pair_twice() -> None:
    pairs = listed([(q, 100 + q) for q in range(6)])
    batch = pairs.sample(np.random.default_rng(0), 6)
    assert {row.numpy().tobytes() for row in batch.better} == {poses(q).numpy().tobytes() for q in range(6)}
    assert len(pairs.sample(np.random.default_rng(0), 9)) == 9


def entry(**changed: Any) -> dict[str, Any]:
    return {"motion_better": poses(0), "motion_worse": poses(1)} | changed


def test_published_lists_are_read(tmp_path: Path) -> None:
    torch.save([entry(), entry(motion_worse=poses(2).double())], tmp_path / "list.pth")
    pairs = read_pairs(tmp_path / "list.pth")
    assert len(pairs) == 2
    torch.testing.assert_close(pairs.all().worse[1], poses(2))
    assert pairs.all().worse.dtype == torch.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds an empty list, expected a list of pairs"),
        ({"a": 1}, "holds a dict with a, expected a list"),
        ([entry(), {"motion_better": poses(0)}], "pair 1 is a dict with motion_better, expected motion_better and"),
        ([entry(motion_worse=poses(1, 5))], "pair 0: its motions have 6 and 5 frames"),
        ([entry(motion_worse=torch.zeros(6, 22, 3))], r"motion_worse is a tensor \[6, 22, 3\], expected a tensor"),
        ([entry(motion_worse=3)], "motion_worse is a int"),
        ([entry(motion_better=torch.full((6, 25, 3), torch.nan))], "pair 0: motion_better has values that are not"),
        ([entry(motion_better=CriticTrainingSettings)], "holds Python objects"),
    ],
)
def test_other_files_are_one_clear_error(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=message) as raised:
        read_pairs(path)
    assert f"pairs_path {path}" in str(raised.value)


def test_a_missing_list_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.pth: no such file"):
        read_pairs(tmp_path / "absent.pth")
