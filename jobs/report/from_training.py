"""Reads the directory of a training that has no report of its own kind and writes its `report.html`.

    metrics.jsonl        curves, and the last value of every metric
    evaluations.jsonl    held-out figures by step, where the training measures some
    evaluation.json      of a cloned character: scores against baselines
    samples/             generated motions, where the training makes some
    manifest.json        the last checkpoint and the best one

Every part but the metrics may be missing; the page is a pure function of the folder.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.records.measured import read_records
from cluster.records.opening import EVALUATIONS
from jobs.report.control_page import score_section
from jobs.report.document import Chart, Series, Tile, charts_data, facts_table, render_page
from jobs.report.from_control import COLUMNS, score_rows, table_note
from jobs.report.records import read_json, read_metrics
from motions.base.atomic import atomic_write
from motions.base.errors import UserError

MAX_POINTS = 400
"""Points of a curve; of more steps the means of neighbours are shown."""

MAX_SAMPLES = 6
"""Pictures of generated motions on the page."""

ChartsOf = Callable[[Sequence[Mapping[str, Any]]], list[Chart]]


def write_training_report(folder: Path, title: str, headlines: Sequence[str], charts: ChartsOf | None = None) -> Path:
    """Write `report.html` into a run directory and return its path.

    Args:
        headlines: metrics whose last values stand on top.
        charts: of the records of `metrics.jsonl`; by default a chart for each metric.

    Raises:
        UserError: the folder holds no `metrics.jsonl`, or a line of it is not JSON.
        OSError: the page could not be written.
    """
    records, evaluations = read_metrics(folder), read_records(folder / EVALUATIONS)
    if not records:
        raise UserError(f"{folder / 'metrics.jsonl'} is empty: nothing was trained")
    configuration = (folder / "config.yaml").read_text(encoding="utf-8")
    last = {name: value for record in records for name, value in record.items()}
    drawn = (metric_charts if charts is None else charts)(records)
    drawn += [replace(chart, title=f"Held-out: {chart.title}") for chart in metric_charts(evaluations)]
    page = render_page(
        title,
        f"{last['step']} steps in {_seconds(records) / 60:.1f} minutes of training.",
        _tiles(records, headlines),
        [_samples(folder / "samples"), _scores(folder), _final(last, evaluations)],
        _facts(folder),
        configuration,
        {"comparisons": [], "charts": charts_data([thinned(chart) for chart in drawn])},
    )
    path = folder / "report.html"
    with atomic_write(path) as file:
        file.write(page.encode("utf-8"))
    return path


def metric_charts(records: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A chart for each metric; those of one name before the slash share one."""
    groups: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    for record in records:
        for name, value in record.items():
            if name not in ("step", "time"):
                group, _, member = name.rpartition("/")
                groups.setdefault(group or name, {}).setdefault(member, []).append((record["step"], value))
    return [
        Chart(group, "", [Series(name, points) for name, points in members.items()], x_label="step")
        for group, members in groups.items()
    ]


def thinned(chart: Chart) -> Chart:
    """The chart with at most `MAX_POINTS` finite points in each curve, means of neighbours where there are more."""
    return replace(chart, series=[replace(series, points=_means(series.points)) for series in chart.series])


def _means(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    finite = [point for point in points if all(math.isfinite(value) for value in point)]
    if len(finite) <= MAX_POINTS:
        return finite
    parts = np.array_split(np.array(finite, dtype=np.float64), MAX_POINTS)
    return [tuple(part.mean(axis=0).tolist()) for part in parts]


def _seconds(records: Sequence[Mapping[str, Any]]) -> float:
    return sum(value for record in records for name, value in record.items() if name.startswith("seconds"))


def _tiles(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Tile]:
    tiles = []
    for name in names:
        values = [record[name] for record in records if name in record]
        if values:
            tiles.append(Tile(name.replace("_", " "), f"{values[-1]:.4g}", f"first {values[0]:.4g}", "neutral"))
    return tiles


def _final(last: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> str:
    figures = {f"held-out {name}": value for name, value in evaluations[-1].items()} if evaluations else {}
    rows = [(name, f"{value:.6g}") for name, value in {**last, **figures}.items() if not name.endswith("step")]
    return f'<h2>Last values</h2>\n<div class="card table facts">{facts_table(rows)}</div>'


def _scores(folder: Path) -> str:
    evaluation = read_json(folder / "evaluation.json")
    if evaluation.get("kind", "character") != "character" or not evaluation:
        return ""
    return score_section(table_note(evaluation), COLUMNS, score_rows(evaluation))


def _samples(folder: Path) -> str:
    pictures = sorted(folder.glob("sample*_rep00.gif"))[:MAX_SAMPLES]
    if not pictures:
        return ""
    texts = (folder / "results.txt").read_text(encoding="utf-8").splitlines()
    figures = "".join(
        f'<figure class="card"><img alt="{html.escape(text)}" '
        f'src="data:image/gif;base64,{base64.b64encode(picture.read_bytes()).decode("ascii")}">'
        f"<figcaption>{html.escape(text)}</figcaption></figure>"
        for picture, text in zip(pictures, texts, strict=False)
    )
    link = '<a href="samples/index.html">in the player</a>'
    return f"<h2>Samples</h2>\n<p>Generated from held-out captions; they can be orbited {link}.</p>{figures}"


def _facts(folder: Path) -> list[tuple[str, str]]:
    manifest = read_json(folder / "manifest.json")
    facts = [("Run directory", str(folder)), ("Seed", str(manifest.get("seed")))]
    if best := manifest.get("best"):
        facts.append(
            ("Best checkpoint", f"{best['folder']}: {best['metric']} {best['value']:.6g} at step {best['step']}")
        )
    if versions := manifest.get("versions"):
        facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))))
    return facts
