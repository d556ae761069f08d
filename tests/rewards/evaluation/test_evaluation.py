"""Evaluation's measures on motions whose answer is known, and the paired comparison of two policies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.report.breakdown import evaluation_row, verdict
from motions.data.prompts import Prompt, Segment, load_prompts
from motions.skeleton.skeletons import HUMANML3D
from rewards.declared.physics import PHYSICS
from rewards.evaluation.breakdown import rows_by_clip, rows_by_kind
from rewards.evaluation.comparison import compare, figures, shared_places, write_evaluation
from rewards.evaluation.intervals import Resamples
from rewards.evaluation.kinematics import kinematic_figures
from rewards.evaluation.text import Evaluation, group_diversity_m
from rollouts.messages import GroupMotions


def walking(speed_mps: float, num_frames: int = 21, lift_m: float = 0.0) -> np.ndarray:
    """Joints [T, 22, 3] that move along z at a constant speed; all but the root stand `lift_m` higher."""
    joints = np.zeros((num_frames, 22, 3))
    joints[:, :, 2] = np.arange(num_frames)[:, None] * speed_mps / 20.0
    joints[:, 1:, 1] = lift_m
    return joints


def test_joint_speed_counts_valid_frames_only() -> None:
    joints = np.stack([walking(1.5), walking(0.4)])
    joints[0, 11:] = 100.0
    figures = kinematic_figures(joints, np.array([11, 21]), HUMANML3D)
    np.testing.assert_allclose(figures["joint_speed_mps"], [1.5, 0.4])
    np.testing.assert_allclose(figures["low_foot_skate"], [1.5**2, 0.4**2])
    np.testing.assert_allclose(figures["skating_ratio"], [1.0, 0.0])
    np.testing.assert_allclose(figures["jerk_mps3"], 0.0, atol=1e-9)
    lifted = walking(1.0)
    lifted[:, list(HUMANML3D.foot_joints)[:2], 1] = 0.2
    lifted_figures = kinematic_figures(lifted[None], np.array([21]), HUMANML3D)
    np.testing.assert_allclose(lifted_figures["foot_height_m"], 0.1)


def test_diversity_ignores_where_the_root_is() -> None:
    joints = np.stack([walking(1.5), walking(0.0)])
    assert group_diversity_m(joints, np.array([21, 21])) == 0.0
    joints = np.stack([walking(1.0), walking(1.0, lift_m=0.2), walking(1.0, lift_m=0.4)])
    expected = (0.2 + 0.2 + 0.4) / 3 * 21 / 22  # the root has distance 0
    assert group_diversity_m(joints, np.array([21, 21, 21])) == pytest.approx(expected)
    joints[2, 5:] = 100.0
    joints[2, :5] = joints[0, :5]
    assert group_diversity_m(joints, np.array([21, 0, 5])) == pytest.approx(0.0)


def evaluation(gain: float) -> Evaluation:
    prompts = (Prompt("walks", (Segment("walks", 20),)), Prompt("a, then b", (Segment("a", 12), Segment("b", 12))))
    groups = tuple(
        GroupMotions(
            features=np.zeros((3, prompt.num_frames, 263), np.float32),
            lengths=np.full(3, prompt.num_frames),
            prompt=prompt,
            policy_version=0,
            seconds=0.0,
        )
        for prompt in prompts
    )
    total = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32) + np.float32(gain)
    terms = {"total": total, "physics": total / 2, "judge_matching": total, "joint_speed_mps": np.ones((2, 3))}
    latents = np.random.default_rng(0).normal(size=(9, 4)) + gain
    return Evaluation(prompts, groups, terms, np.array([0.5, 0.7]), latents)


def test_within_group_std_is_not_too_low_for_few_samples() -> None:
    assert evaluation(0.0).within_group_std == pytest.approx(0.1)
    drawn = np.random.default_rng(0).normal(5.0, 0.3, (4000, 4))
    mean = replace(evaluation(0.0), terms={"total": drawn}).within_group_std
    # The mean of the square root of four samples' unbiased variance is 0.921 sigma; with S as divisor 0.798.
    assert mean == pytest.approx(0.921 * 0.3, rel=0.01)
    assert replace(evaluation(0.0), terms={"total": drawn[:, :1]}).within_group_std is None


def test_compare_pairs_and_names_every_quantity() -> None:
    real = np.random.default_rng(0).normal(size=(9, 4))
    changes = {change.name: change for change in compare(evaluation(0.0), evaluation(0.2), PHYSICS.terms, real)}
    assert set(changes) == {"total", "judge_matching", "joint_speed_mps", "physics", "diversity_m", "fid"}
    assert changes["total"].difference == pytest.approx(0.2)
    assert changes["total"].interval == pytest.approx((0.2, 0.2))
    assert changes["joint_speed_mps"].ratio == 1.0
    assert changes["fid"].interval is None
    assert changes["fid"].before == pytest.approx(0.0, abs=1e-6)
    assert changes["fid"].after == pytest.approx(4 * 0.2**2, rel=1e-3)
    by_second = [replace(evaluation(gain), distance="second_fid") for gain in (0.0, 0.2)]
    renamed = {change.name: change for change in compare(by_second[0], by_second[1], PHYSICS.terms, real)}
    assert renamed["second_fid"].after == changes["fid"].after and "fid" not in renamed
    shorter = evaluation(0.0)
    with pytest.raises(ValueError, match="same prompts"):
        compare(shorter, Evaluation(shorter.prompts[:1], shorter.groups[:1], shorter.terms, np.ones(1), None), {})


def test_a_kinematic_figure_is_better_where_it_is_nearer_to_real_motions() -> None:
    changes = {
        change.name: change
        for change in compare(evaluation(0.0), evaluation(0.2), {}, real={"total": 0.1, "joint_speed_mps": 1.5})
    }
    assert changes["total"].row()["better"] == "higher"
    assert changes["total"].real == 0.1
    still = changes["joint_speed_mps"].row()
    assert (still["better"], still["real"], still["nearer"]) == ("nearer", 1.5, [0.0, 0.0])
    after = evaluation(0.0)
    faster = replace(after, terms={**after.terms, "joint_speed_mps": np.full((2, 3), 1.4)})
    row = {change.name: change.row() for change in compare(evaluation(0.0), faster, {}, real={"joint_speed_mps": 1.5})}
    assert row["joint_speed_mps"]["nearer"] == pytest.approx([0.4, 0.4])
    assert verdict(row["joint_speed_mps"]) == "good"
    row = {change.name: change.row() for change in compare(evaluation(0.0), faster, {}, real={"joint_speed_mps": 1.0})}
    assert verdict(row["joint_speed_mps"]) == "bad"
    assert evaluation_row(row["joint_speed_mps"]).nearer == pytest.approx((-0.4, -0.4))


def test_what_has_no_interval_has_no_colour() -> None:
    before, after = evaluation(0.0).of([0]), evaluation(0.2).of([0])
    changes = compare(before, after, {}, np.eye(4), real={"joint_speed_mps": 1.5})
    assert [change.interval for change in changes] == [None] * len(changes)
    assert {verdict(change.row()) for change in changes} == {"neutral"}
    assert Resamples([prompt.text for prompt in before.prompts]).caution == "only one text, so no interval can be given"


def test_single_and_composite_prompts_have_rows_of_their_own() -> None:
    before = evaluation(0.0)
    only_composites = before.terms["total"] + np.array([[0.0], [0.3]])
    after = replace(before, terms={**before.terms, "total": only_composites})
    entries = rows_by_kind(before, after, {}, None, {"composite": {"total": 0.9}}, ["walk", None])
    assert [(entry["kind"], entry["num_prompts"], entry["num_texts"]) for entry in entries] == [
        ("single", 1, 1),
        ("composite", 1, 1),
    ]
    single, composite = (next(row for row in entry["rows"] if row["name"] == "total") for entry in entries)
    assert (single["before"], single["after"], single["real"]) == (pytest.approx(0.2), pytest.approx(0.2), None)
    assert (composite["before"], composite["after"], composite["real"]) == (pytest.approx(0.5), pytest.approx(0.8), 0.9)
    assert all("only one text" in entry["caution"] for entry in entries)


def test_each_clip_has_a_row_and_what_fell_most_is_first() -> None:
    one = evaluation(0.0).of([0])
    prompts, groups = one.prompts * 3, one.groups * 3
    total = np.tile(one.terms["total"], (3, 1))
    before = Evaluation(prompts, groups, {"total": total}, np.zeros(3), None)
    after = replace(before, terms={"total": total + np.array([[0.1], [-0.2], [0.3]])})
    rows = rows_by_clip(before, after, ["walk", "kick", "walk"], left_out=["kick"])
    assert [(row["clip"], row["num_prompts"], row["left_out"]) for row in rows] == [
        ("kick", 1, True),
        ("walk", 2, False),
    ]
    assert rows[0]["after"]["total"] - rows[0]["before"]["total"] == pytest.approx(-0.2)
    assert rows[1]["after"]["total"] - rows[1]["before"]["total"] == pytest.approx(0.2)
    assert rows_by_clip(before, after, [None, None, None]) == []


def test_a_part_of_an_evaluation_has_its_own_embeddings() -> None:
    whole = evaluation(0.0)
    part = whole.of([1])
    assert [prompt.text for prompt in part.prompts] == ["a, then b"]
    assert whole.segment_embeddings is not None and part.segment_embeddings is not None
    np.testing.assert_array_equal(part.segment_embeddings, whole.segment_embeddings[3:])
    assert figures(part)["total"] == pytest.approx(0.5)


def test_the_first_samples_of_every_prompt_are_an_evaluation_of_their_own() -> None:
    whole = evaluation(0.0)
    first = whole.first_samples(2, HUMANML3D)
    assert whole.first_samples(3, HUMANML3D) is whole
    np.testing.assert_array_equal(first.terms["total"], whole.terms["total"][:, :2])
    assert [group.features.shape[0] for group in first.groups] == [2, 2] and first.diversity_m.shape == (2,)
    assert whole.segment_embeddings is not None and first.segment_embeddings is not None
    np.testing.assert_array_equal(first.segment_embeddings, whole.segment_embeddings[[0, 1, 3, 4, 5, 6]])


def test_places_that_lost_a_group_on_one_side_are_left_out() -> None:
    assert shared_places({3: "c", 0: "a", 1: "b"}, {0: "a", 3: "c", 2: "d"}) == [0, 3]
    with pytest.raises(ValueError, match="no held-out prompt has rewards both before and after: 1 groups"):
        shared_places([0], [1, 2])


def test_written_files_are_what_the_report_reads(tmp_path: Path) -> None:
    before, after = evaluation(0.0), evaluation(0.2)
    write_evaluation(tmp_path, before, after, compare(before, after, {}), HUMANML3D, "10 steps")
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert (document["num_prompts"], document["num_seeds"], document["sampler"]) == (2, 3, "10 steps")
    assert document["rows"][0]["name"] == "total"
    assert set(document["rows"][0]) == {*("name", "meaning", "before", "after", "interval", "better", "real", "nearer")}
    assert load_prompts(tmp_path / "samples" / "prompts.jsonl", 20.0) == list(before.prompts)
    with np.load(tmp_path / "samples" / "after.npz") as samples:
        assert samples["joints"].shape == (6, 24, 22, 3)
        assert samples["lengths"].tolist() == [20, 20, 20, 24, 24, 24]
        assert samples["prompt_index"].tolist() == [0, 0, 0, 1, 1, 1]
        assert samples["sample_index"].tolist() == [0, 1, 2, 0, 1, 2]
        np.testing.assert_array_equal(samples["terms/total"], after.terms["total"].reshape(-1))
