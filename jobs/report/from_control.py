"""Reads the directory of a controller's run and writes its `report.html`.

    clone/metrics.jsonl        one line per validation: round, samples, loss, val_rmse, std
    world_model/metrics.jsonl  one line per iteration: steps, rollout/*, imagined/*, model/*, seconds/*
    trpo/metrics.jsonl         one line per iteration: steps, rollout/*, trust region and critic, seconds/*
    evaluation.json            results of `rewards.evaluation.character`
    imitations.npz             joints of reference and policy from some starts
    imitation.webp             the animation, with `imitation.json` about its renderer

Every part may be missing; the page is a pure function of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cluster.records.measured import read_records
from cluster.records.opening import METRICS
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.report.control_page import ControlDocument, Imitation, ScoreColumn, ScoreRow, render
from jobs.report.document import Chart, Series, Tile, Verdict
from jobs.report.records import read_evaluation
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.safe_files import read_array_file
from motions.humanoid.points import humanoid_skeleton
from motions.settings import flat_values

COLUMNS: tuple[ScoreColumn, ...] = (
    ScoreColumn("reward", "reward", "mean imitation reward of the steps it lived, 0 to 1", 3, 1),
    ScoreColumn("normalised_return", "return", "sum of rewards over all steps the episode could have", 3, 1),
    ScoreColumn("survival_s", "survival, s", "seconds until the fall or the end of the episode", 2, 1),
    ScoreColumn("success", "success", "share of episodes without a fall", 2, 1),
    ScoreColumn("joint_error", "joints, rad", "mean angle between joints and the reference's", 3, -1),
    ScoreColumn("joint_error_1s", "joints, 1st s", "the same of the first second only", 3, -1),
    ScoreColumn("root_error", "root, m", "distance of the root from the reference's", 3, -1),
    ScoreColumn("body_error", "bodies, m", "mean distance of all bodies from the reference's", 3, -1),
)
TILE_NAMES = {
    "normalised_return": "normalised return",
    "survival_s": "survival, s",
    "success": "episodes without a fall",
    "joint_error": "joint error, rad",
}
MEANINGS = {
    "trained": "at the end of the training",
    "clone": "after cloning with DAgger",
    "world model": "after the training by a world model",
    "expert": "labels the clone's data: reference with balance feedback",
    "open loop": "the reference as target, with velocity feed-forward",
    "hold pose": "the first pose as target for ever",
    "zero action": "actions of 0",
}


def write_control_report(folder: Path) -> Path:
    """Write `report.html` into the run's folder and return its path.

    Raises:
        UserError: there is no evaluation in the folder.
        OSError: the page could not be written.
    """
    document = read_control_document(folder)
    path = folder / "report.html"
    with atomic_write(path) as file:
        file.write(render(document).encode("utf-8"))
    return path


def read_control_document(folder: Path) -> ControlDocument:
    """The contents of the report."""
    if not (folder / "evaluation.json").is_file():
        raise UserError(f"{folder} holds no evaluation.json: it is no finished run of jobs.deepmimic")
    evaluation = read_evaluation(folder, "character")
    config_file = folder / "config.yaml"
    configuration = config_file.read_text(encoding="utf-8") if config_file.is_file() else ""
    config = flat_values(DeepMimicConfig, yaml.safe_load(configuration) or {})
    clone, model, trpo = (read_records(folder / name / METRICS) for name in ("clone", "world_model", "trpo"))
    hz = float(config.get("control_hz", 30))
    rows = score_rows(evaluation)
    for clip, other in evaluation.get("other_clips", {}).items():
        rows += score_rows(other, f", {clip}")
    video, note = _video(folder)
    return ControlDocument(
        title=f"A controller for {evaluation['motion']}",
        lead=_lead(evaluation, clone, model, trpo),
        tiles=_tiles(evaluation),
        columns=COLUMNS,
        rows=rows,
        table_note=table_note(evaluation),
        pushes=_pushes(evaluation),
        charts=[*clone_charts(clone), *world_model_charts(model), *trpo_charts(trpo)],
        imitations=_imitations(folder / "imitations.npz"),
        video=video,
        video_note=note,
        facts=_facts(folder, evaluation, {"world_model": model, "trpo": trpo}),
        configuration=configuration,
        skeleton=humanoid_skeleton(hz),
    )


def table_note(evaluation: Mapping[str, Any]) -> str:
    """What the figures of the table are."""
    return (
        f"Means over {len(evaluation['phases'])} episodes from fixed starts on the clip, "
        f"{evaluation['horizon_s']:g} s each, acting by the mean. Reward: of the steps before a fall. "
        "Return: normalised, the sum of rewards over all steps the episode could have had. Errors: of the steps "
        "before the fall."
    )


def clone_charts(records: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Curves of the cloning; the horizontal axis counts optimizer steps over all rounds."""
    points: dict[str, list[tuple[float, ...]]] = {}
    start, last = 0.0, 0.0
    for before, record in zip([None, *records], records, strict=False):
        if before is not None and record["round"] != before["round"]:
            start += last
        last = float(record["optimizer_steps"])
        for key in ("loss", "val_loss", "rmse", "val_rmse", "std"):
            points.setdefault(key, []).append((start + last, float(record[key])))
    if not points:
        return []
    likelihood = [Series("training", points["loss"]), Series("validation", points["val_loss"])]
    error = [Series("training", points["rmse"]), Series("validation", points["val_rmse"])]
    text = "Validation: whole seconds of rollouts that are never trained on."
    return [
        Chart("Cloning: negative log-likelihood", text, likelihood, x_label="optimizer step"),
        Chart("Cloning: error of the mean", "In units of action.", error, zero=True, x_label="optimizer step"),
        Chart(
            "Cloning: standard deviation", "Mean over joints.", [Series("std", points["std"])], x_label="optimizer step"
        ),
    ]


ChartSpec = list[tuple[str, str, dict[str, str], bool]]
"""Charts by title, note, metrics with the names of their lines, and whether the axis begins at 0."""


def trpo_charts(records: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Curves of reinforcement learning, over environment steps in thousands if the records have them."""
    spec: ChartSpec = [
        *_rollout_charts(records),
        ("KL of an update", "Mean KL(old || new).", {"policy/kl": "KL", "policy/kl_clone": "KL to the clone"}, True),
        (
            "critic and exploration",
            "Explained variance of the returns; standard deviation in units of action.",
            {"critic/explained_variance": "explained variance", "policy/std": "std"},
            True,
        ),
    ]
    return _step_charts(records, "TRPO", spec)


def world_model_charts(records: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Curves of a training by a world model, over environment steps in thousands."""
    spec: ChartSpec = [
        *_rollout_charts(records),
        (
            "imagined steps",
            "Reward before a fall; share of imagined rollouts without one.",
            {"imagined/reward": "reward", "imagined/alive": "no fall"},
            True,
        ),
        ("loss of the model", "Over recorded stretches of some steps.", {"model/loss": "loss"}, True),
        ("gradient of the policy", "Its norm before clipping.", {"policy/grad_norm": "norm"}, True),
    ]
    return _step_charts(records, "World model", spec)


def _rollout_charts(records: Sequence[Mapping[str, Any]]) -> ChartSpec:
    return [
        ("reward per step", "Mean of the iteration, with exploration.", {"rollout/reward": "reward"}, True),
        ("return of an episode", "Sum of rewards.", {"rollout/return": "return"}, True),
        ("length of an episode", "Control steps until the fall or the limit.", {"rollout/length": "steps"}, True),
        ("reward terms", "Each before weighting.", _named(records, "env/reward_"), False),
        (
            "tracking errors",
            "Joints in radians, root and bodies in metres.",
            {"env/joint_error": "joints", "env/root_error": "root", "env/body_error": "bodies"},
            True,
        ),
        ("seconds of an iteration", "Wall time.", _named(records, "seconds/"), True),
    ]


def _step_charts(records: Sequence[Mapping[str, Any]], method: str, spec: ChartSpec) -> list[Chart]:
    steps = np.cumsum([float(record.get("rollout/steps", 0.0)) for record in records])
    counted = bool(len(steps)) and steps[-1] > 0
    axis = steps / 1e3 if counted else np.array([float(record.get("step", i)) for i, record in enumerate(records)])
    charts = []
    for title, note, names, zero in spec:
        series = [
            Series(
                name, [(float(x), float(record[key])) for x, record in zip(axis, records, strict=True) if key in record]
            )
            for key, name in names.items()
            if any(key in record for record in records)
        ]
        label = "thousand steps" if counted else "iteration"
        if series:
            charts.append(Chart(f"{method}: {title}", note, series, zero=zero, x_label=label))
    return charts


def _named(records: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, str]:
    keys = sorted({key for record in records for key in record if key.startswith(prefix)})
    return {key: key.removeprefix(prefix).replace("_", " ") for key in keys}


def _lead(
    evaluation: Mapping[str, Any],
    clone: Sequence[Mapping[str, Any]],
    model: Sequence[Mapping[str, Any]],
    trpo: Sequence[Mapping[str, Any]],
) -> str:
    parts = []
    if clone:
        parts.append(f"cloned from {int(clone[-1]['samples']):,} labelled states in {clone[-1]['round'] + 1} rounds")
    for records, method in ((model, "a world model"), (trpo, "TRPO")):
        if records:
            steps = sum(float(record.get("rollout/steps", 0.0)) for record in records)
            parts.append(f"trained by {method} for {steps / 1e6:.2f} million steps")
    how = ", then ".join(parts) or "evaluated as it was"
    return f"The simulated humanoid imitates {evaluation['motion']}: {how}."


def _tiles(evaluation: Mapping[str, Any]) -> list[Tile]:
    policy = evaluation["push_policy"]
    if policy is None:
        return []
    mine, base = (evaluation["policies"][name]["mean"] for name in (policy, "open loop"))
    tiles = []
    for column in COLUMNS:
        if column.key not in TILE_NAMES:
            continue
        better = column.better * (mine[column.key] - base[column.key])
        verdict: Verdict = "good" if better > 0 else "bad" if better < 0 else "neutral"
        value, other = (f"{scores[column.key]:.{column.digits}f}" for scores in (mine, base))
        tiles.append(Tile(f"{policy}: {TILE_NAMES[column.key]}", value, f"open loop: {other}", verdict))
    return tiles


def score_rows(evaluation: Mapping[str, Any], suffix: str = "") -> list[ScoreRow]:
    """Rows of the table; `suffix` follows their names."""
    return [
        ScoreRow(f"{name}{suffix}", MEANINGS.get(name, ""), dict(score["mean"]))
        for name, score in evaluation["policies"].items()
    ]


def _pushes(evaluation: Mapping[str, Any]) -> list[ScoreRow]:
    rows = []
    for force, shares in evaluation["pushes"].items():
        values = {"all directions": shares["all"]}
        values |= {_direction(name): share for name, share in shares.items() if name != "all"}
        rows.append(ScoreRow(force, f"on the chest, {evaluation['push_policy']}", values))
    return rows


def _direction(degrees: str) -> str:
    return {"0": "forward", "90": "to the left", "180": "backward", "270": "to the right"}.get(
        degrees, f"{degrees} deg"
    )


def _imitations(path: Path) -> list[Imitation]:
    if not path.is_file():
        return []
    content = read_array_file(path)
    return [
        Imitation(
            title=f"from phase {phase:.2f}",
            reference=content[f"reference{index}"],
            policy=content[f"policy{index}"],
            score=f"survives {len(content[f'policy{index}']) / float(content['control_hz']):.1f} s",
        )
        for index, phase in enumerate(content["phases"])
    ]


def _video(folder: Path) -> tuple[bytes | None, str]:
    path = folder / "imitation.webp"
    if not path.is_file():
        return None, ""
    about = json.loads((folder / "imitation.json").read_text(encoding="utf-8"))
    drawn = "rendered by MuJoCo" if about["renderer"] == "mujoco" else "drawn without GL"
    return path.read_bytes(), f"Reference and policy from phase {about['phase']:.2f}, {drawn}."


def _seconds(record: Mapping[str, Any]) -> float:
    return sum(value for name, value in record.items() if name.startswith("seconds/"))


def _facts(
    folder: Path, evaluation: Mapping[str, Any], trainings: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[tuple[str, str]]:
    facts = [("Run directory", str(folder)), ("Clip", evaluation["motion"])]
    path = folder / "stages.json"
    if path.is_file():
        stages = json.loads(path.read_text(encoding="utf-8"))
        # For a training that was stopped and resumed the iterations' times are complete, the stage's only the last
        # part.
        stages |= {name: sum(map(_seconds, records)) for name, records in trainings.items() if name in stages}
        for name, seconds in stages.items():
            facts.append((f"Wall time of {name.replace('_', ' ')}", f"{seconds / 60:.1f} min"))
    return facts
