"""Several runs in one report: their curves, their evaluations, and the options in which they differ."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.records.measured import read_json_lines
from cluster.records.opening import CONFIG, read_config
from jobs.configs.service.compare import CompareConfig
from jobs.report.document import Chart, Series, charts_data, render_page, table
from jobs.report.from_training import thinned
from jobs.report.records import read_json
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.files.writing import check_free

PAGE, TABLE, DATA = "compare.html", "compare.md", "compare.json"
DRAWN = ("reward/", "evaluation/", "policy/kl_reference", "policy/grad_norm")
"""Beginnings of the metrics that are drawn by default."""
_OWN = ("save_dir", "resume", "overwrite", "command")
"""Options that differ between any two runs and say nothing."""
EVALUATION_KIND = "generated motions"
_READING = (
    "Where a run was measured before and after its training, both stand there, with the 95 % interval of the change; ± "
    "is half of that of a mean over replications. Runs were evaluated on the same prompts only if their options say so."
)


@dataclass(frozen=True)
class Figure:
    """A quantity of one run: its value, and the half-width or the bounds of its 95 % interval."""

    value: float
    interval: str = ""


@dataclass(frozen=True)
class ComparedRun:
    """What is shown of one run."""

    name: str
    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    """Flat, by name."""
    records: list[dict[str, Any]] = field(default_factory=list)
    """Of `metrics.jsonl`."""
    figures: dict[str, Figure] = field(default_factory=dict)
    """Of its evaluation."""
    before: dict[str, Figure] = field(default_factory=dict)
    """The same before the training, where that was measured."""


def run(config: CompareConfig) -> None:
    """Reads the runs and writes the report."""
    folder = config.save_dir
    check_free(folder, [PAGE, TABLE, DATA])
    runs = read_runs(config.runs)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        PAGE: page(runs, config.metrics),
        TABLE: markdown(runs),
        DATA: json.dumps(plain(runs), indent=2, ensure_ascii=False) + "\n",
    }
    print(texts[TABLE])
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text.encode())
        print(folder / name)


def plan(config: CompareConfig) -> None:
    """Reads the runs, and says what would be written."""
    check_free(config.save_dir, [PAGE, TABLE, DATA])
    for one in read_runs(config.runs):
        print(f"{one.name}: {one.path}, {len(one.records)} records, {len(one.figures)} figures of its evaluation")
    print(f"would write {', '.join(str(config.save_dir / name) for name in (PAGE, TABLE, DATA))}")


def read_runs(words: Sequence[Path]) -> list[ComparedRun]:
    """The runs in their order.

    Raises:
        UserError: a path is neither a run nor an evaluation, or two runs have one name.
    """
    runs = []
    for word in words:
        name, equals, path = str(word).partition("=")
        # A path may hold an equals sign, too.
        named = bool(equals) and not word.exists()
        runs.append(read_run(Path(path) if named else word, name if named else None))
    names = [one.name for one in runs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two runs are called {repeated[0]}; name one as NAME=PATH")
    return runs


def read_run(path: Path, name: str | None = None) -> ComparedRun:
    """One run directory, or one result of `jobs.evaluate`.

    Raises:
        UserError: it is neither, or a file of it is broken.
    """
    if not path.exists():
        raise UserError(f"run {path}: there is no such file or folder")
    if path.is_file() or not (path / "metrics.jsonl").is_file():
        return _evaluated(path, name)
    options = read_config(path) if (path / CONFIG).is_file() else {}
    rows = read_json(path / "evaluation.json").get("rows", [])
    rows = [row for row in rows if isinstance(row, dict) and {"before", "after", "name"} <= row.keys()]
    return ComparedRun(
        name or path.absolute().name,
        path,
        dict(_flat(options)),
        read_json_lines(path / "metrics.jsonl"),
        {row["name"]: Figure(row["after"], _bounds(row.get("interval"))) for row in rows},
        {row["name"]: Figure(row["before"]) for row in rows},
    )


def _evaluated(path: Path, name: str | None) -> ComparedRun:
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    found: list[ComparedRun] = []
    for file in files:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"run {file}: it is not JSON: {error}") from error
        if isinstance(content, dict) and content.get("kind") == EVALUATION_KIND:
            rows = {
                row: {metric: _summary(one) for metric, one in metrics.items()}
                for row, metrics in content["rows"].items()
            }
            options = {key: content[key] for key in ("model", "data", "network", "sampler", "replications", "seed")}
            found.append(ComparedRun(name or path.absolute().stem, file, options, figures=rows["model"]))
    if len(found) > 1:
        paths = ", ".join(str(one.path) for one in found)
        raise UserError(f"run {path} holds {len(found)} evaluations; give the file of one: {paths}")
    if found:
        return found[0]
    raise UserError(
        f"run {path}: there is no metrics.jsonl, so it is no run directory, and no result of jobs.evaluate either"
    )


def _summary(one: Mapping[str, Any]) -> Figure:
    half = one["interval_95"]
    return Figure(one["mean"], "" if half is None else f"± {half:.2g}")


def _bounds(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"change {interval[0]:+.2g} to {interval[1]:+.2g}"


def _flat(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in options.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found


def differing(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """Options in which runs differ, each with its value in every run; a run without it has none."""
    names = dict.fromkeys(name for one in runs for name in one.options)
    values = {name: [_shown(one.options.get(name, "")) for one in runs] for name in names}
    return {name: own for name, own in values.items() if len(set(own)) > 1 and name.rpartition(".")[2] not in _OWN}


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def figure_names(runs: Sequence[ComparedRun]) -> list[str]:
    """Quantities of the runs' evaluations, in the order in which they appear."""
    return list(dict.fromkeys(name for one in runs for name in one.figures))


def _cell(one: ComparedRun, name: str) -> str:
    figure, before = one.figures.get(name), one.before.get(name)
    if figure is None:
        return ""
    first = "" if before is None else f"{before.value:.4g} → "
    return f"{first}{figure.value:.4g}" + (f" {figure.interval}" if figure.interval.startswith("±") else "")


def markdown(runs: Sequence[ComparedRun]) -> str:
    """The table of evaluations, and that of options that differ."""
    heads = ["| | " + " | ".join(one.name for one in runs) + " |", "|---" * (len(runs) + 1) + "|"]
    lines = ["# Runs side by side", "", *heads]
    for name in figure_names(runs):
        lines.append(f"| {name} | " + " | ".join(_cell(one, name) for one in runs) + " |")
    lines += ["", "Where a run was measured before and after its training, both stand there.", "", *heads]
    for name, values in differing(runs).items():
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def plain(runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """All figures and options that differ, as JSON."""
    return {
        "runs": {
            one.name: {
                "path": str(one.path),
                "figures": {name: figure.value for name, figure in one.figures.items()},
                "before": {name: figure.value for name, figure in one.before.items()},
            }
            for one in runs
        },
        "options": differing(runs),
    }


def charts(runs: Sequence[ComparedRun], metrics: Sequence[str] = ()) -> list[Chart]:
    """A chart for each metric, with a curve for each run that has it.

    Raises:
        UserError: no run has a metric that was asked for.
    """
    names = dict.fromkeys(name for one in runs for record in one.records for name in record)
    if unknown := [name for name in metrics if name not in names]:
        raise UserError(f"metrics {unknown[0]}: no run has it; there are {', '.join(sorted(names)[:40]) or 'none'}")
    bounds = ("_low", "_high")
    chosen = metrics or [name for name in names if name.startswith(DRAWN) and not name.endswith(bounds)]
    found = []
    for name in chosen:
        curves = {
            one.name: [(float(record["step"]), float(record[name])) for record in one.records if name in record]
            for one in runs
        }
        series = [Series(run_name, [*points]) for run_name, points in curves.items() if points]
        found.append(thinned(Chart(name, "", series)))
    return found


def page(runs: Sequence[ComparedRun], metrics: Sequence[str] = ()) -> str:
    """The report as one HTML page that needs no network."""
    heads = ["Quantity", *(one.name for one in runs)]
    rows = [_html_row(name, [_detail(one, name) for one in runs]) for name in figure_names(runs)]
    options = [_html_row(name, [html.escape(value) for value in own]) for name, own in differing(runs).items()]
    sections = []
    if rows:
        sections.append(f'<h2>Evaluations</h2>\n<p>{_READING}</p>\n<div class="card table">{table(heads, rows)}</div>')
    if options:
        sections.append(
            f'<h2>Options that differ</h2>\n<div class="card table">{table(["Option", *heads[1:]], options)}</div>'
        )
    drawn = charts(runs, metrics)
    return render_page(
        "Runs side by side",
        f"{len(runs)} runs: {', '.join(one.name for one in runs)}.",
        [],
        sections,
        [(one.name, str(one.path)) for one in runs],
        "\n".join(f"{name}: {', '.join(values)}" for name, values in differing(runs).items()),
        {"comparisons": [], "charts": charts_data(drawn)},
        headings=("Curves", "Runs"),
    )


def _html_row(name: str, cells: Sequence[str]) -> str:
    return f"<tr><td>{html.escape(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _detail(one: ComparedRun, name: str) -> str:
    text = html.escape(_cell(one, name))
    figure = one.figures.get(name)
    if figure is None or figure.interval.startswith("±") or not figure.interval:
        return text
    return f"{text}<small>{html.escape(figure.interval)}</small>"
