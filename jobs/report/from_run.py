"""Reads a run directory and writes its `report.html`.

The page is a pure function of the folder, so it can be written at any time: during the run, at its end, or later from a
copy. The files that it uses are listed in docs/reference/file_formats.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jobs.configs.grpo import GRPOConfig
from jobs.report.breakdown import blind_terms, breakdown_sections, evaluation_row
from jobs.report.document import Chart, Comparison, EvaluationRow, ReportDocument, Series, Tile, render
from jobs.report.records import read_evaluation, read_json, read_metrics, read_rewards
from motions.base.atomic import atomic_write
from motions.base.safe_files import read_array_file
from motions.data.prompts import Prompt, load_prompts
from motions.settings import flat_values
from motions.skeleton.skeletons import Skeleton, get_skeleton
from rewards.evaluation.intervals import counted
from rewards.evaluation.kinematics import KINEMATICS

MAX_COMPARISONS = 10
"""Largest number of compared motions: at 18 kB per 100 frames, ten pairs keep the page under half a megabyte."""

HEADLINES = ("total", "judge_matching", "second_judge", "fid", "low_foot_skate", "joint_speed_mps")


def write_report(run_directory: Path) -> Path:
    """Write `report.html` into a run directory and return its path.

    Raises:
        UserError: the folder holds no `metrics.jsonl` or a line of it is not JSON.
        OSError: the page could not be written.
    """
    document = read_document(run_directory)
    path = run_directory / "report.html"
    with atomic_write(path) as file:
        file.write(render(document).encode("utf-8"))
    return path


def read_document(run_directory: Path) -> ReportDocument:
    """The contents of a run directory's report."""
    records = read_metrics(run_directory)
    configuration = (run_directory / "config.yaml").read_text(encoding="utf-8")
    config = flat_values(GRPOConfig, yaml.safe_load(configuration))
    rewards = read_rewards(run_directory, config)
    evaluation = read_evaluation(run_directory, "text")
    blind = blind_terms(evaluation)
    rows = [evaluation_row(row, blind) for row in evaluation.get("rows", [])]
    num_updates = max((int(record["step"]) for record in records), default=0)
    skeleton = get_skeleton(evaluation.get("skeleton", "humanml3d"))
    return ReportDocument(
        title=f"Fine-tuning of {_policy_name(config)}",
        lead=_lead(config, records, num_updates),
        tiles=_tiles(evaluation.get("rows", []), rows),
        evaluation_note=_evaluation_note(evaluation),
        evaluation=rows,
        charts=make_charts(records, rewards),
        comparisons=_comparisons(run_directory / "samples", skeleton, rewards),
        facts=_facts(run_directory, config, rewards),
        configuration=configuration,
        skeleton=skeleton,
        breakdown=breakdown_sections(evaluation),
    )


def make_charts(records: list[dict[str, Any]], rewards: list[dict[str, Any]]) -> list[Chart]:
    """The training charts, from the records of `metrics.jsonl`; a chart without numbers is left out.

    Terms with units or scales of their own get a chart next to that of the rewards between -1 and 1, and so does every
    kinematic figure.
    """
    terms = {name: term for reward in rewards for name, term in reward["terms"].items()}
    own_scale = {name for name, term in terms.items() if term["own_scale"]}
    shown = _named(records, "evaluation/", only=own_scale)
    mixed = ", ".join(reward["name"] for reward in rewards if reward["weight"])
    charts = [
        Chart(
            "Reward",
            "Training: mean over the step's samples. Held-out: fixed captions and seeds, band: 95 %.",
            [
                *_series(records, {"reward/total": "training"}),
                *_banded(records, "evaluation/total", "held-out"),
            ],
        ),
        Chart(
            "Reward terms, training",
            f"The total mixes {mixed}; the others are parts of rewards.",
            _series(records, _named(records, "reward/", skip={"total", *own_scale})),
        ),
        Chart(
            "Reward terms, held-out",
            "The same terms on held-out captions with fixed seeds.",
            _series(records, _named(records, "evaluation/", skip={"total", *own_scale, *KINEMATICS}), dots=True),
        ),
        Chart(
            "Physical quantities, held-out",
            "; ".join(terms[key.removeprefix("evaluation/")]["meaning"] for key in shown) + ".",
            _series(records, shown, dots=True),
            zero=True,
        ),
        *(
            Chart(
                f"{_without_unit(name).capitalize()}, held-out",
                f"{term.meaning}.",
                _series(records, {f"evaluation/{name}": _without_unit(name)}, dots=True),
                zero=True,
            )
            for name, term in KINEMATICS.items()
        ),
        Chart(
            "KL to the base policy",
            "Exact Gaussian KL per element, mean over trained steps.",
            _series(records, {"policy/kl_reference": "KL"}),
            zero=True,
        ),
        Chart(
            "Denoising error",
            "Squared error of clean motions that the policy predicts from noised final ones; losses of final motions.",
            _series(records, {"policy/denoising_error": "error"}),
            zero=True,
        ),
        Chart(
            "Reward that is followed",
            "Total reward of the motions that an update denoises with a gradient; losses that follow the reward's "
            "gradient. Before the last step these are predictions.",
            _series(records, {"policy/tuned_reward": "reward"}),
        ),
        Chart(
            "Loss on real clips",
            "MDM's training loss on clips of the data, which mdm_loss_weight keeps.",
            _series(records, {"policy/mdm_loss": "loss"}),
            zero=True,
        ),
        Chart(
            "Importance ratio",
            "Before clipping; the first update of a rollout starts at exactly 1.",
            _series(
                records, {"policy/ratio_mean": "mean", "policy/ratio_min": "smallest", "policy/ratio_max": "largest"}
            ),
        ),
        Chart(
            "Clip fraction",
            "Share of (sample, step) pairs whose ratio left the clip range.",
            _series(records, {"policy/clip_fraction": "clipped"}),
            zero=True,
        ),
        Chart("Gradient norm", "Before clipping.", _series(records, {"policy/grad_norm": "norm"}), zero=True),
        Chart(
            "Seconds per update",
            "Wall time by stage, with the evaluation and the checkpoint after the update; the rest of the step is the "
            "controller's.",
            _series(_by_step(records), _named(records, "seconds/", skip={"step"}), missing=0.0),
            kind="stack",
        ),
    ]
    return [chart for chart in charts if chart.series]


def _named(
    records: list[dict[str, Any]], prefix: str, *, skip: Collection[str] = (), only: Collection[str] | None = None
) -> dict[str, str]:
    """Keys of the records behind a prefix, with words for each; those of bounds are left out."""
    bounds = ("_low", "_high")
    keys = {key for record in records for key in record if key.startswith(prefix) and not key.endswith(bounds)}
    names = {key: key.removeprefix(prefix) for key in sorted(keys)}
    return {
        key: name.replace("_", " ")
        for key, name in names.items()
        if name not in skip and (only is None or name in only)
    }


def _without_unit(name: str) -> str:
    """Words of a figure's name; its unit is in its meaning."""
    for unit in ("_mps3", "_mps", "_m"):
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def _by_step(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record per step: update, evaluation and checkpoint are separate lines of the file."""
    merged: dict[int, dict[str, Any]] = {}
    for record in records:
        merged.setdefault(int(record["step"]), {}).update(record)
    return list(merged.values())


def _series(
    records: list[dict[str, Any]], names: dict[str, str], *, dots: bool = False, missing: float | None = None
) -> list[Series]:
    series = []
    for key, name in names.items():
        points: list[tuple[float, ...]] = []
        for record in records:
            value = record.get(key, missing)
            if value is not None:
                points.append((float(record["step"]), float(value)))
        if any(key in record for record in records):
            series.append(Series(name, points, dots))
    return series


def _banded(records: list[dict[str, Any]], key: str, name: str) -> list[Series]:
    points: list[tuple[float, ...]] = [
        (float(r["step"]), float(r[key]), float(r[f"{key}_low"]), float(r[f"{key}_high"]))
        for r in records
        if key in r and f"{key}_low" in r and f"{key}_high" in r
    ]
    return [Series(name, points, dots=True)] if points else []


def _tiles(raw_rows: list[dict[str, Any]], rows: list[EvaluationRow]) -> list[Tile]:
    tiles = []
    for headline in HEADLINES:
        for raw, row in zip(raw_rows, rows, strict=True):
            if raw["name"] == headline:
                change = f"{row.after - row.before:+.3g} from {row.before:.3g}"
                if row.interval is not None:
                    change += f" (95 %: {row.interval[0]:+.2g} to {row.interval[1]:+.2g})"
                tiles.append(Tile(row.name, f"{row.after:.3g}", change, row.verdict))
    return tiles


def _policy_name(config: dict[str, Any]) -> str:
    return "the built-in policy" if config.get("model_path") == "builtin" else Path(str(config["model_path"])).name


def _lead(config: dict[str, Any], records: list[dict[str, Any]], num_updates: int) -> str:
    seconds = sum(float(record.get("seconds/step", 0.0)) for record in records)
    adapters = f"LoRA of rank {config['lora_r']}" if config.get("use_lora") else "all weights"
    follows = any("policy/tuned_reward" in record for record in records)
    method = f"the loss {config['policy_loss']}" if follows else "GRPO"
    return (
        f"{num_updates} updates of {method} ({adapters}), {config['batch_size']} prompts with {config['group_size']} "
        f"samples each per update, in {seconds / 60:.1f} minutes of training."
    )


def _evaluation_note(evaluation: dict[str, Any]) -> str:
    if not evaluation:
        return "This run has no held-out evaluation yet."
    texts = evaluation.get("num_texts")
    different = "" if texts is None else f" ({counted(texts, 'different text')})"
    caution = f" Careful: {evaluation['caution']}." if evaluation.get("caution") else ""
    names = {row["name"] for row in evaluation["rows"]}
    judged = "; the judge never was a reward" if "judge_matching" in names else ""
    nearer = any(row["better"] == "nearer" for row in evaluation["rows"])
    kinematic = (
        " A kinematic figure is better where it is nearer to that of real motions of the same prompts; the interval of "
        "how much nearer it came decides its colour."
    )
    return (
        f"{counted(evaluation['num_prompts'], 'held-out prompt')}{different} with "
        f"{counted(evaluation['num_seeds'], 'fixed seed')} each, "
        f"{evaluation['sampler']}. Intervals: paired bootstrap over clips and their texts.{caution}"
        f"{kinematic if nearer else ''} Green and red mark changes whose interval excludes 0{judged}; "
        "without an interval there is no colour."
    )


def _facts(run_directory: Path, config: dict[str, Any], rewards: list[dict[str, Any]]) -> list[tuple[str, str]]:
    manifest = read_json(run_directory / "manifest.json")
    reward = " + ".join(f"{reward['weight']} x {reward['label']}" for reward in rewards if reward["weight"])
    facts = [
        ("Run directory", str(run_directory)),
        ("Policy", str(config["model_path"])),
        ("Reward", reward),
        ("KL penalty, clip range", f"{config['kl_penalty']}, {config['clip_epsilon']}"),
        ("Learning rate", f"{config['learning_rate']}"),
        ("Seed", str(config["seed"])),
    ]
    versions = manifest.get("versions", {})
    if versions:
        facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))))
    return facts


def _comparisons(samples: Path, skeleton: Skeleton, rewards: list[dict[str, Any]]) -> list[Comparison]:
    if not (samples / "before.npz").is_file() or not (samples / "after.npz").is_file():
        return []
    prompts = load_prompts(samples / "prompts.jsonl", fps=skeleton.fps)
    before, after = (read_array_file(samples / f"{name}.npz") for name in ("before", "after"))
    chosen = _from_best_to_worst(before, after)
    shown = ("total", *(reward["name"] for reward in rewards))
    return [_comparison(before, after, int(i), prompts[int(before["prompt_index"][i])], shown) for i in chosen]


def _from_best_to_worst(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> list[int]:
    """First samples of prompts, evenly spaced from the largest rise of the total to the largest fall."""
    first = np.unique(before["prompt_index"], return_index=True)[1]
    fall = before["terms/total"][first] - after["terms/total"][first]
    ranked = first[np.argsort(fall, kind="stable")]
    shown = np.linspace(0, len(ranked) - 1, min(MAX_COMPARISONS, len(ranked)))
    return [int(ranked[round(place)]) for place in shown]


def _comparison(
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    index: int,
    prompt: Prompt,
    shown: Collection[str],
) -> Comparison:
    length = int(before["lengths"][index])
    return Comparison(
        title=prompt.text,
        segments=[
            (segment.text, start, end) for segment, (start, end) in zip(prompt.segments, prompt.boundaries, strict=True)
        ],
        before=before["joints"][index, :length],
        after=after["joints"][index, :length],
        before_scores=_scores(before, index, shown),
        after_scores=_scores(after, index, shown),
    )


def _scores(samples: Mapping[str, np.ndarray], index: int, shown: Collection[str]) -> str:
    names = {name: name.removeprefix("terms/") for name in samples if name.startswith("terms/")}
    return " · ".join(f"{short} {samples[name][index]:.2f}" for name, short in names.items() if short in shown)
