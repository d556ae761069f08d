"""The result of an evaluation as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.evaluation.published import PUBLISHED
from rewards.evaluation.protocol.replications import Summary

COLUMNS = {
    "r_precision_1": "R@1 ↑",
    "r_precision_2": "R@2 ↑",
    "r_precision_3": "R@3 ↑",
    "fid": "FID ↓",
    "fid_unit": "FID, unit vectors ↓",
    "matching_score": "Matching ↓",
    "diversity": "Diversity →",
    "multimodality": "MultiModality ↑",
}
"""Metrics of the main table, in their order."""

FIGURES = {
    "logic_accuracy": "Logic-Acc: share of segments whose nearest text is their own ↑",
    "logic_accuracy_by_motion": "Logic-Acc, mean of each motion's share ↑",
    "segment_cosine": "Cosine of segments and their own texts ↑",
    "r_neg": "R_neg: similarity to other segments' texts beyond the texts' own ↓",
    "margin_active": "Share of segment pairs in which R_neg is active ↓",
    "border_jerk_mps3": "Jerk where segments meet, m/s³ →",
    "fid_mismatched": "FID against single motions (mismatched ground truth)",
    "fid_unit_mismatched": "FID of unit vectors against single motions (mismatched ground truth)",
    "skating_ratio": "Skating ratio ↓",
    "penetrate_mm": "Penetrate, joints, mm ↓",
    "float_mm": "Float, joints, mm ↓",
    "skate_mm": "Skate, joints, mm ↓",
    "low_foot_skate": "Squared sliding speed of low feet, (m/s)² ↓",
    "jerk_mps3": "Jerk, m/s³ →",
    "joint_speed_mps": "Joint speed, m/s →",
    "foot_height_m": "Height of the feet, m →",
}
"""Metrics of the second table, in their order; others follow."""


@dataclass(frozen=True)
class EvaluationResult:
    """All that an evaluation found."""

    title: str
    rows: Mapping[str, Mapping[str, Summary]]
    """Metrics by name, of `ground truth` (if there is one) and the model."""
    facts: Mapping[str, Any]
    """How it was made."""
    notes: Sequence[str] = ()
    """What a reader of the numbers must know."""
    comparable: bool = False
    """Whether the published figures were made in the same way."""
    prompts: Sequence[Mapping[str, Any]] = field(default=())
    """Figures of each composite prompt."""


def as_json(result: EvaluationResult) -> dict[str, Any]:
    """All numbers, with those of every replication."""
    rows = {
        row: {
            name: {"mean": one.mean, "interval_95": one.interval, "values": list(one.values)}
            for name, one in metrics.items()
        }
        for row, metrics in result.rows.items()
    }
    return {
        "kind": "generated motions",
        "title": result.title,
        **result.facts,
        "rows": rows,
        "notes": list(result.notes),
        "published": [{"name": row.name, "source": row.source, **row.figures} for row in PUBLISHED],
        "published_are_comparable": result.comparable,
        "prompts": list(result.prompts),
    }


def as_log(result: EvaluationResult) -> str:
    """Lines of text, one for each metric and row, with mean and interval."""
    lines = [result.title, *(f"{name}: {value}" for name, value in result.facts.items()), ""]
    for row, metrics in result.rows.items():
        lines += [f"---> [{row}] {name}: {shown(one)}" for name, one in _ordered(metrics).items()]
    return "\n".join([*lines, "", *(f"note: {note}" for note in result.notes)]) + "\n"


def as_markdown(result: EvaluationResult) -> str:
    """The table with the published rows beside ours, and the table of figures."""
    columns = {name: head for name, head in COLUMNS.items() if name != "multimodality" or _has(result, name)}
    lines = [f"# {result.title}", "", *(f"* {name}: {value}" for name, value in result.facts.items()), ""]
    lines += [*_row(["", *columns.values()]), "|" + "---|" * (len(columns) + 1)]
    for row, metrics in result.rows.items():
        cells = [shown(metrics[name]) if name in metrics else "" for name in columns]
        lines += _row([f"**{row}**", *cells])
    for published in PUBLISHED:
        cells = [f"{published.figures[name]:g}" if name in published.figures else "" for name in columns]
        lines += _row([f"{published.name} ({published.source})", *cells])
    lines += [
        "",
        "Mean ± half of the 95 % interval over the replications; → nearer to real motions is better.",
        "The published figures were made in the same way."
        if result.comparable
        else "**The published figures are of other data or another network: they cannot be compared with ours.**",
        "",
    ]
    others = dict.fromkeys(name for metrics in result.rows.values() for name in _ordered(metrics))
    others = [name for name in others if name not in COLUMNS]
    lines += [*_row(["", *(f"**{row}**" for row in result.rows)]), "|" + "---|" * (len(result.rows) + 1)]
    for name in others:
        cells = [shown(metrics[name]) if name in metrics else "" for metrics in result.rows.values()]
        lines += _row([_meaning(name), *cells])
    return "\n".join([*lines, "", *(f"* {note}" for note in result.notes)]).rstrip() + "\n"


def shown(one: Summary) -> str:
    """Mean and half of the interval."""
    return f"{one.mean:.4g}" + ("" if one.interval is None else f" ± {one.interval:.2g}")


def _ordered(metrics: Mapping[str, Summary]) -> dict[str, Summary]:
    known = [name for name in (*COLUMNS, *FIGURES) if name in metrics]
    return {name: metrics[name] for name in dict.fromkeys((*known, *metrics))}


def _meaning(name: str) -> str:
    place = name.removeprefix("segment_cosine_")
    return f"Cosine of segment {place} and its text ↑" if place != name else FIGURES.get(name, name)


def _has(result: EvaluationResult, name: str) -> bool:
    return any(name in metrics for metrics in result.rows.values()) or result.comparable


def _row(cells: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]
