"""The semantic scorer: which texts and segments are compared, how often the encoders run, and the order of rewards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from motions.skeleton.skeletons import HUMANML3D, KIT
from rewards.messages import RewardError
from rewards.settings import RewardSettings
from rewards.tmr.checkpoints import save_tmr
from rewards.tmr.components import TMRCheckpointError
from rewards.tmr.scorer import Embedder, SemanticScorer, load_embedder
from rewards.tmr.similarity import cosine, euclidean
from rollouts.messages import GroupMotions
from rollouts.settings import CheckpointSettings
from rollouts.text.encoders import PromptTooLongError
from rollouts.text.padding import pad_tokens
from tests.toys.small_tmr import CONFIG, WordEncoder, WordModel, prompt_of, random_group, small_tmr

WALK_KICK = prompt_of(("walks forward", 20), ("kicks high", 14), ("sits down", 9))
WALK = prompt_of(("walks forward", 30))
DENSE = RewardSettings.of(use_dense_reward=True)


def scorer(settings: RewardSettings, encoder: WordEncoder | None = None) -> SemanticScorer:
    return SemanticScorer(Embedder(small_tmr(), encoder or WordEncoder()), settings, HUMANML3D)


def motion_embedding(features: np.ndarray) -> np.ndarray:
    tmr = small_tmr().eval()
    with torch.no_grad():
        return tmr.encode_motion(torch.from_numpy(features)[None], torch.tensor([len(features)])).mu.numpy()


def text_embedding(text: str) -> np.ndarray:
    with torch.no_grad():
        return small_tmr().eval().encode_text(*pad_tokens(WordEncoder().encode_tokens([text]))).mu.numpy()


def test_global_reward_is_the_score_of_the_whole_motion() -> None:
    motions = random_group(WALK, [30, 22])
    terms = scorer(RewardSettings()).score(motions).terms
    for index, length in enumerate([30, 22]):
        cos = cosine(text_embedding("walks forward"), motion_embedding(motions.features[index, :length]))[0, 0]
        assert terms["semantic"][index] == pytest.approx(cos / 2 + 0.5, abs=1e-6)
    np.testing.assert_array_equal(terms["r_pos"], terms["semantic"])
    assert not terms["r_neg"].any()
    assert set(terms) == {"semantic", "r_pos", "r_neg"}


def test_global_reward_of_a_composite_joins_the_texts() -> None:
    encoder = WordEncoder()
    scorer(RewardSettings(), encoder).score(random_group(WALK_KICK, [43]))
    assert encoder.asked == ["walks forward kicks high sits down"]


def test_dense_reward_compares_segments_with_their_texts() -> None:
    motions = random_group(WALK_KICK, [43, 43], seed=1)
    terms = scorer(DENSE).score(motions).terms
    texts = np.concatenate([text_embedding(segment.text) for segment in WALK_KICK.segments])
    margins = cosine(texts, texts)
    for index in range(2):
        clips = [motion_embedding(motions.features[index, start:end]) for start, end in WALK_KICK.boundaries]
        scores = cosine(np.concatenate(clips), texts)
        excess = np.maximum(scores - margins, 0.0)
        np.fill_diagonal(excess, 0.0)
        r_pos, r_neg = np.diagonal(scores).mean(), excess.max(axis=1).mean()
        assert terms["r_pos"][index] == pytest.approx(r_pos, abs=1e-6)
        assert terms["r_neg"][index] == pytest.approx(r_neg, abs=1e-6)
        assert terms["semantic"][index] == pytest.approx(r_pos - 0.5 * r_neg, abs=1e-6)
        assert terms["margin_active"][index] == pytest.approx((excess > 0).sum() / 6)
        assert terms["logic_accuracy"][index] == pytest.approx((scores.argmax(axis=1) == np.arange(3)).mean())
    assert terms["r_neg"].any(), "the case shows no penalty: choose another seed"


def test_alpha_weighs_the_penalty() -> None:
    motions = random_group(WALK_KICK, [43])
    assert scorer(DENSE).score(motions).terms["r_neg"][0] > 0
    results = [
        scorer(RewardSettings.of(use_dense_reward=True, alpha=alpha)).score(motions).terms for alpha in (0.0, 2.0)
    ]
    np.testing.assert_array_equal(results[0]["semantic"], results[0]["r_pos"])
    np.testing.assert_allclose(results[1]["semantic"], results[0]["r_pos"] - 2.0 * results[0]["r_neg"], atol=1e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_euclidean_matching(dense: bool) -> None:
    settings = RewardSettings.of(
        reward_type="matching",
        tmr_similarity_type="euclidean",
        tmr_normalization="exponential",
        tmr_scale=3.0,
        use_dense_reward=dense,
    )
    motions = random_group(WALK, [30])
    distance = euclidean(text_embedding("walks forward"), motion_embedding(motions.features[0]))[0, 0]
    terms = scorer(settings).score(motions).terms
    assert terms["semantic"][0] == pytest.approx(np.exp(-distance / 3.0), abs=1e-6)
    matching = RewardSettings.of(reward_type="matching", use_dense_reward=dense)
    cos = RewardSettings.of(use_dense_reward=dense)
    np.testing.assert_array_equal(
        scorer(matching).score(motions).terms["semantic"], scorer(cos).score(motions).terms["semantic"]
    )


def test_one_encoder_call_for_all_segments_and_each_text_once() -> None:
    encoder = WordEncoder()
    judge = scorer(DENSE, encoder)
    calls: list[tuple[int, ...]] = []
    judge.embedder.tmr.motion_encoder.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape))
    groups = [
        random_group(WALK_KICK, [43] * 4),
        random_group(prompt_of(("kicks high", 12), ("walks forward", 8)), [20]),
    ]
    judge.score_many(groups)
    assert calls == [(4 * 3 + 2, 20, 263)]
    judge.score(groups[0])
    assert sorted(encoder.asked) == ["kicks high", "sits down", "walks forward"]


@pytest.mark.parametrize("dense", [False, True])
def test_every_sample_gets_its_own_reward(dense: bool) -> None:
    """With unequal lengths in mixed order: the public code hands rewards to other samples here."""
    judge = scorer(RewardSettings.of(use_dense_reward=dense))
    lengths = [41, 43, 38, 60, 43, 39]
    motions = random_group(WALK_KICK, lengths)
    together = judge.score(motions).terms
    assert len(set(np.round(together["semantic"], 4))) == len(lengths)
    for index, length in enumerate(lengths):
        alone = GroupMotions(motions.features[[index], :length], motions.lengths[[index]], WALK_KICK, 0, 0.0)
        for name, values in judge.score(alone).terms.items():
            assert values[0] == pytest.approx(together[name][index], abs=1e-6)
    order = [3, 5, 0, 2, 4, 1]
    shuffled = GroupMotions(motions.features[order], motions.lengths[order], WALK_KICK, 0, 0.0)
    np.testing.assert_allclose(judge.score(shuffled).terms["semantic"], together["semantic"][order], atol=1e-6)
    many = judge.score_many([shuffled, random_group(WALK, [30, 12], seed=3), motions])
    np.testing.assert_allclose(many[0].terms["semantic"], together["semantic"][order], atol=1e-6)
    np.testing.assert_allclose(many[2].terms["semantic"], together["semantic"], atol=1e-6)
    assert len(many[1].terms["semantic"]) == 2


def test_padding_and_motion_after_the_last_segment() -> None:
    motions = random_group(WALK_KICK, [43, 50])
    dirty = GroupMotions(motions.features.copy(), motions.lengths, WALK_KICK, 0, 0.0)
    dirty.features[0, 43:] = np.nan
    np.testing.assert_array_equal(
        scorer(DENSE).score(dirty).terms["semantic"], scorer(DENSE).score(motions).terms["semantic"]
    )
    dirty.features[1, 43:] += 1.0  # Belongs to no segment, but to the whole motion.
    assert scorer(DENSE).score(dirty).terms["semantic"][1] == scorer(DENSE).score(motions).terms["semantic"][1]
    whole = scorer(RewardSettings())
    assert whole.score(dirty).terms["semantic"][1] != whole.score(motions).terms["semantic"][1]


def test_max_motion_length_cuts() -> None:
    motions = random_group(WALK, [30])
    short = GroupMotions(motions.features[:, :16], np.array([16]), WALK, 0, 0.0)
    for dense in (False, True):
        cut = scorer(RewardSettings.of(max_motion_length=16, use_dense_reward=dense)).score(motions).terms["semantic"]
        expected = scorer(RewardSettings.of(use_dense_reward=dense)).score(short).terms["semantic"]
        np.testing.assert_allclose(cut, expected, atol=1e-6)


def test_scoring_is_repeatable_to_the_bit() -> None:
    motions = random_group(WALK_KICK, [43, 41, 40])
    first, again = scorer(DENSE), scorer(DENSE)
    again.score(random_group(WALK, [30]))  # What was scored before leaves no trace.
    for name, values in first.score(motions).terms.items():
        np.testing.assert_array_equal(again.score(motions).terms[name], values)


def test_motions_that_cannot_be_judged() -> None:
    with pytest.raises(RewardError, match=r"sample 1: segment 2 \('sits down'\) has 3 frames"):
        scorer(DENSE).score(random_group(WALK_KICK, [43, 37]))
    broken = random_group(WALK, [30, 25])
    broken.features[1, 24, 7] = np.nan
    with pytest.raises(RewardError, match=r"'semantic', prompt 'walks forward', sample 1: the motion has values"):
        scorer(RewardSettings()).score(broken)
    with pytest.raises(RewardError, match=r"expected \[N, T, 263\]"):
        scorer(RewardSettings()).score(random_group(WALK, [30], num_features=251))


def test_a_network_that_yields_nan_is_named() -> None:
    judge = scorer(RewardSettings())
    judge.embedder.tmr.motion_encoder.projection.weight.fill_(torch.nan)
    with pytest.raises(RewardError, match=r"'semantic', term 'semantic', prompt 'walks forward', sample 0: nan"):
        judge.score(random_group(WALK, [30]))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="skeleton kit"):
        SemanticScorer(Embedder(small_tmr(), WordEncoder()), RewardSettings(), KIT)
    other = WordEncoder()
    other.fingerprint = "words-2"
    with pytest.raises(ValueError, match="was trained on words"):
        Embedder(small_tmr(), other)
    other.fingerprint, other.dim = WordEncoder.fingerprint, 7
    with pytest.raises(ValueError, match="7 numbers"):
        Embedder(small_tmr(), other)


def test_settings_name_the_weights(tmp_path: Path) -> None:
    tmr = small_tmr(4, with_decoder=True)
    tmr.text_encoder_name = "tests.toys.small_tmr:WordModel"
    save_tmr(tmp_path, tmr)
    weights = tmp_path / "last_weights"
    words = "tests.toys.small_tmr:WordModel"
    by_folder = RewardSettings.of(tmr_checkpoint_path=str(tmp_path), tmr_text_model=words)
    by_files = RewardSettings.of(
        tmr_text_model=words,
        tmr_text_encoder_path=str(weights / "text_encoder.pt"),
        tmr_motion_encoder_path=str(weights / "motion_encoder.pt"),
        tmr_movement_encoder_path=str(weights / "motion_decoder.pt"),
    )
    expected = Embedder(small_tmr(4), WordEncoder()).embed_texts(["walks forward"])
    for settings in (by_folder, by_files):
        np.testing.assert_array_equal(load_embedder(settings).embed_texts(["walks forward"]), expected)
    scored = SemanticScorer.from_settings(by_folder, HUMANML3D).score(random_group(WALK, [30]))
    assert scored.scorer == "semantic" and scored.terms["semantic"].shape == (1,)
    with pytest.raises(PromptTooLongError, match="at most 16"):
        load_embedder(by_folder).embed_texts(["walks " * 17])
    cut = load_embedder(by_folder, CheckpointSettings(truncate_text=True)).embed_texts(["walks " * 17, "walks " * 16])
    np.testing.assert_array_equal(cut[0], cut[1])
    (weights / "motion_decoder.pt").rename(weights / "other.pt")
    with pytest.raises(TMRCheckpointError, match="no such file"):
        load_embedder(by_files)
    moved = RewardSettings.of(
        by_files.flat() | {"tmr_movement_encoder_path": None, "tmr_stats_path": str(tmp_path / "nowhere")}
    )
    with pytest.raises(TMRCheckpointError, match="nowhere"):
        load_embedder(moved)
    assert CONFIG.text_dim == WordModel.dim
