"""Text-motion metrics on cases whose answer is known by hand; the parity fixtures cover the original's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from motions import metrics


def embeddings(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width))


def test_distances_and_matching_score() -> None:
    text, motion = embeddings(5), embeddings(5, seed=1)
    distances = metrics.distance_matrix(text, motion)
    assert distances[3, 1] == pytest.approx(np.linalg.norm(text[3] - motion[1]))
    assert metrics.matching_score(text, motion) == pytest.approx(np.trace(distances) / 5)
    assert metrics.distance_matrix(text, text).min() >= 0.0


def test_r_precision_counts_within_pools() -> None:
    text = np.eye(64)
    assert metrics.r_precision(text, text).tolist() == [1.0, 1.0, 1.0]
    # The motion of the text before is nearer than the own one, but for the first text of the pool.
    line = np.arange(32.0)[:, None]
    shifted = line + 0.6
    np.testing.assert_allclose(metrics.r_precision(line, shifted, top_k=2), [1 / 32, 1.0])
    # The 8 pairs beyond the last complete pool are not counted, though all of them match.
    both = np.concatenate((shifted, 100.0 + np.arange(8.0)[:, None]))
    text = np.concatenate((line, 100.0 + np.arange(8.0)[:, None]))
    np.testing.assert_allclose(metrics.r_precision(text, both, top_k=1), [1 / 32])
    with pytest.raises(ValueError, match="20 pairs do not fill one pool of 32"):
        metrics.r_precision(embeddings(20), embeddings(20))


def test_frechet_distance_of_known_gaussians() -> None:
    real = embeddings(4000, 3)
    assert metrics.frechet_distance(real, real) == pytest.approx(0.0, abs=1e-6)
    assert metrics.frechet_distance(real, real + np.array([3.0, 0.0, 4.0])) == pytest.approx(25.0)
    # Covariances s^2 I and 9 s^2 I: trace of (s - 3 s)^2.
    variance = np.trace(np.cov(real, rowvar=False))
    centre = real.mean(axis=0)
    assert metrics.frechet_distance(real, centre + 3.0 * (real - centre)) == pytest.approx(4.0 * variance)


def test_frechet_distance_of_fewer_rows_than_numbers() -> None:
    few, others = embeddings(10, 64), 1.0 + embeddings(12, 64, seed=1)
    mean1, cov1 = metrics.moments(few)
    mean2, cov2 = metrics.moments(others)
    values, vectors = np.linalg.eigh(cov1)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    inner = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov2 @ root), 0.0)).sum()
    expected = ((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2.0 * inner
    assert metrics.frechet_distance(few, others) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="real has 1 rows"):
        metrics.frechet_distance(few[:1], others)
    with pytest.raises(ValueError, match="width 64, generated ones 3"):
        metrics.frechet_distance(few, embeddings(5, 3))


def test_frechet_distance_refuses_an_imaginary_root() -> None:
    with pytest.raises(ValueError, match="imaginary"):
        metrics.frechet_distance_of_moments(np.zeros(1), -np.eye(1), np.zeros(1), np.eye(1))


def test_diversity_and_multimodality_use_the_given_draws() -> None:
    line = np.arange(10.0)[:, None]
    pairs = (np.array([0, 1, 2]), np.array([3, 1, 9]))
    assert metrics.diversity(line, indices=pairs) == pytest.approx((3 + 0 + 7) / 3)
    texts = np.stack((line, 2.0 * line))
    assert metrics.multimodality(texts, indices=pairs) == pytest.approx(1.5 * (3 + 0 + 7) / 3)
    drawn = [metrics.diversity(line, num_pairs=5, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert metrics.multimodality(texts, num_pairs=4, rng=np.random.default_rng(0)) > 0
    with pytest.raises(ValueError, match="num_pairs=300"):
        metrics.diversity(line, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="rng or indices"):
        metrics.diversity(line)


def test_retrieval_ranks_by_hand() -> None:
    similarity = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.6], [0.3, 0.7, 0.4]])
    result = metrics.retrieval_metrics(similarity)
    # Ranks of the diagonal: rows 0, 2, 1; columns 0, 1, 1.
    assert result["t2m/R01"] == result["m2t/R01"] == 33.33
    assert result["t2m/R02"] == 66.67 and result["m2t/R02"] == 100.0
    assert result["t2m/MedR"] == 2.0 and result["m2t/MedR"] == 2.0 and result["t2m/len"] == 3.0


def test_retrieval_ties_share_their_mean_rank() -> None:
    constant = metrics.retrieval_metrics(np.ones((5, 5)))
    assert constant["t2m/MedR"] == 3.0 and constant["t2m/R02"] == 0.0 and constant["t2m/R03"] == 100.0


def test_retrieval_threshold_accepts_motions_of_equal_texts() -> None:
    similarity = np.array([[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.0, 0.1, 0.7]])
    same_text = np.eye(3)
    same_text[0, 1] = same_text[1, 0] = 0.99  # A score of 0.995, above the threshold.
    assert metrics.retrieval_metrics(similarity)["t2m/R01"] == 66.67
    assert metrics.retrieval_metrics(similarity, text_similarity=same_text)["t2m/R01"] == 100.0
    assert metrics.retrieval_metrics(similarity, text_similarity=same_text, threshold=0.999)["t2m/R01"] == 66.67


def test_grouped_retrieval_averages_groups_in_the_given_order() -> None:
    similarity = np.eye(6)
    similarity[0, 3] = 2.0  # Wrong across the groups (0 1 2) and (3 4 5), so harmless in that order.
    assert metrics.grouped_retrieval_metrics(similarity, group_size=3)["t2m/R01"] == 100.0
    mixed = metrics.grouped_retrieval_metrics(similarity, group_size=3, order=np.array([0, 3, 1, 2, 4, 5]))
    assert mixed["t2m/R01"] == pytest.approx(83.33)
    assert sorted(metrics.guo_order(40)) == list(range(40))
    assert metrics.guo_order(5).tolist() == [2, 0, 1, 3, 4]
    with pytest.raises(ValueError, match="6 pairs do not fill one group of 32"):
        metrics.grouped_retrieval_metrics(similarity)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="similarity is not finite"):
        metrics.retrieval_metrics(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match=r"\[N, N\]"):
        metrics.retrieval_metrics(np.ones((2, 3)))
    with pytest.raises(ValueError, match="text is not finite"):
        metrics.matching_score(np.full((2, 2), np.inf), np.ones((2, 2)))
    with pytest.raises(ValueError, match="shape"):
        metrics.matching_score(np.ones((2, 2)), np.ones((3, 2)))
