"""The parts of a text-to-motion evaluation as tables: by kind of prompt, by sampler, and by clip."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.report.document import EvaluationRow, Verdict, evaluation_table, table
from rewards.evaluation.intervals import counted

SAMPLER_COLUMNS = {
    "total": "Total",
    "judge_matching": "Judge",
    "second_judge": "Second judge",
    "fid": "FID",
    "second_fid": "FID, second judge",
    "low_foot_skate": "Low-foot skate",
    "skating_ratio": "Skating ratio",
    "jerk_mps3": "Jerk",
    "joint_speed_mps": "Speed",
    "foot_height_m": "Foot height",
    "diversity_m": "Diversity",
}
"""Figures of the table of samplers, with its column heads."""

DISTANCES = {"judge_matching": "fid", "second_judge": "second_fid"}
"""The distance in each judge's embedding."""

KIND_TITLES = {"single": "Prompts of one action", "composite": "Composite prompts"}


def evaluation_row(row: Mapping[str, Any], blind: Mapping[str, str] | None = None) -> EvaluationRow:
    """A row of `evaluation.json`.

    Args:
        blind: what to say beside quantities whose values are no evidence, by name.
    """
    interval, warning = row.get("interval"), (blind or {}).get(row["name"])
    return EvaluationRow(
        name=row["name"].replace("_", " "),
        meaning=row["meaning"] if warning is None else f"{row['meaning']}. {warning}",
        before=row["before"],
        after=row["after"],
        interval=None if interval is None else (interval[0], interval[1]),
        verdict=verdict(row) if warning is None else "neutral",
        nearer=None if row["better"] != "nearer" or row["nearer"] is None else (row["nearer"][0], row["nearer"][1]),
        real=row.get("real"),
    )


def verdict(row: Mapping[str, Any]) -> Verdict:
    """Good or bad only if the interval excludes 0: that of the change, or of how much nearer it came to real motions.
    Neither without an interval."""
    interval = row.get("nearer") if row["better"] == "nearer" else row.get("interval")
    if row["better"] == "neutral" or interval is None:
        return "neutral"
    sign, (low, high) = -1 if row["better"] == "lower" else 1, interval
    worst, best = (low, high) if sign > 0 else (-high, -low)
    return "good" if worst > 0 else "bad" if best < 0 else "neutral"


def blind_terms(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """What to say beside the scores of networks that do not know the data, by the name of the quantity."""
    found = {}
    for entry in evaluation.get("evidence", []):
        if not entry["counts"]:
            words = f"No evidence: it finds {entry['accuracy']:.0%} of real captions, chance is {entry['chance']:.0%}"
            found[entry["name"]] = words
            found |= {DISTANCES[entry["name"]]: words} if entry["name"] in DISTANCES else {}
    return found


def breakdown_sections(evaluation: Mapping[str, Any]) -> list[str]:
    """HTML of everything that an evaluation says beside its first table; what it lacks is left out."""
    blind = blind_terms(evaluation)
    return [
        *_evidence(evaluation.get("evidence", []), evaluation.get("hacking", [])),
        *_chain(evaluation.get("chain_kl")),
        *_samplers(evaluation.get("samplers", []), evaluation.get("real", {})),
        *_kinds(evaluation.get("kinds", []), blind),
        *_clips(evaluation.get("clips", [])),
    ]


def _evidence(entries: Sequence[Mapping[str, Any]], signs: Sequence[str]) -> list[str]:
    lines = [
        f"{entry['name'].replace('_', ' ')}: finds the caption of {entry['accuracy']:.0%} of {entry['num_motions']} "
        f"real held-out motions (chance {entry['chance']:.0%})"
        + ("" if entry["counts"] else ". No evidence on this data")
        for entry in entries
    ]
    sections = []
    if signs:
        items = "".join(f"<li>{html.escape(sign)}</li>" for sign in signs)
        sections.append(f'<p class="bad">Signs that the policy only pleases the reward:</p><ul>{items}</ul>')
    if lines:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        sections.append(f"<p>What the networks know of this data:</p><ul>{items}</ul>")
    return sections


def _chain(values: Sequence[float] | None) -> list[str]:
    if not values:
        return []
    shown = ", ".join(f"{value:.3g}" for value in values)
    return [
        f"<p>KL to the base by denoising step, from the noisiest, where every step draws noise: {shown}. Steps that "
        "are not trained move as well, because they use the same network.</p>"
    ]


def _samplers(entries: Sequence[Mapping[str, Any]], real: Mapping[str, Any]) -> list[str]:
    if not entries:
        return []
    shown = [name for name in SAMPLER_COLUMNS if any(name in entry["figures"] for entry in entries)]
    kinds = [
        kind
        for kind in KIND_TITLES
        if sum(kind in entry["kinds"] for entry in entries) and len(entries[0]["kinds"]) > 1
    ]

    def cells(figures: Mapping[str, float], by_kind: Mapping[str, Mapping[str, float]]) -> str:
        total, *others = (figures.get(name) for name in shown)
        values = [total, *(by_kind.get(kind, {}).get("total") for kind in kinds), *others]
        return "".join(f"<td>{'' if value is None else f'{value:.3g}'}</td>" for value in values)

    rows = [
        f"<tr><td>{html.escape(entry['policy'])}, {html.escape(entry['sampler'])}<small>{html.escape(entry['note'])}"
        f"</small></td>{cells(entry['figures'], entry['kinds'])}</tr>"
        for entry in entries
    ]
    if real.get("figures"):
        rows.append(f"<tr><td>real held-out motions</td>{cells(real['figures'], real['kinds'])}</tr>")
    total, *others = (SAMPLER_COLUMNS[name] for name in shown)
    heads = ["Policy and sampler", total, *(f"{total}, {kind}" for kind in kinds), *others]
    return [
        "<h2>By sampler</h2>\n<p>The same prompts and noise, the first two motions of each prompt (with fewer motions "
        "the FID is higher). A policy may be better than its base with the sampler of "
        "the training, and worse than the base with the base's own.</p>",
        f'<div class="card table">{table(heads, rows)}</div>',
    ]


def _kinds(entries: Sequence[Mapping[str, Any]], blind: Mapping[str, str]) -> list[str]:
    if len(entries) < 2:
        return []
    sections = ["<h2>By kind of prompt</h2>"]
    for entry in entries:
        note = f"{counted(entry['num_prompts'], 'prompt')}, {counted(entry['num_texts'], 'different text')}"
        note += f". Careful: {entry['caution']}." if entry["caution"] else "."
        rows = [evaluation_row(row, blind) for row in entry["rows"]]
        sections.append(f"<h3>{KIND_TITLES[entry['kind']]}</h3>\n<p>{html.escape(note)}</p>")
        sections.append(f'<div class="card table">{evaluation_table(rows)}</div>')
    return sections


def _clips(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(entries) < 2:
        return []
    shown = [name for name in SAMPLER_COLUMNS if name in entries[0]["before"]]
    rows = []
    for entry in entries:
        cells = "".join(f"<td>{entry['before'][name]:.3g} → {entry['after'][name]:.3g}</td>" for name in shown)
        left_out = "<small>left out of the training</small>" if entry["left_out"] else ""
        rows.append(f"<tr><td>{html.escape(entry['clip'])}{left_out}</td><td>{entry['num_prompts']}</td>{cells}</tr>")
    heads = ["Clip", "Prompts", *(SAMPLER_COLUMNS[name] for name in shown)]
    return [
        "<h2>By clip</h2>\n<p>Prompts of one action, before → after, the clip whose reward fell most first. A few "
        "prompts each: look for what fell, not at the last digit.</p>",
        f'<div class="card table">{table(heads, rows)}</div>',
    ]
