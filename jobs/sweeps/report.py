"""`report.html` of a search: the best trial, all trials, importance of options, parallel coordinates, and the front."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.sweeps.records import TrialRecord
from jobs.report.document import Chart, Series, Tile, charts_data, render_page, table
from jobs.sweeps.confirming import Confirmed, read_confirmation
from jobs.sweeps.plots import importance_bars, parallel_coordinates, scatter
from jobs.sweeps.summary import (
    BEST,
    FEWEST_TRIALS,
    best_so_far,
    best_trial,
    domains_of,
    front,
    importance,
    read_sweep,
)
from motions.base.atomic import atomic_write
from motions.base.plain_yaml import plain_yaml

REPORT = "report.html"
MOST_CURVES = 12
"""Trials whose values over the steps are drawn: the best ones."""


def write_sweep_report(folder: Path) -> Path:
    """Writes the report of a search as far as it has come; returns its path.

    Raises:
        UserError: the folder holds no search.
    """
    document, trials = read_sweep(folder)
    with atomic_write(folder / REPORT) as file:
        file.write(page(folder, document, trials).encode())
    return folder / REPORT


def page(folder: Path, document: Mapping[str, Any], trials: Sequence[TrialRecord]) -> str:
    """The page of a search."""
    metric, mode = document["metric"], document["mode"]
    ranked = ranked_trials(trials, metric, mode)
    best = best_trial(trials, metric, mode) if ranked else None
    confirmed = read_confirmation(folder, metric)
    states = {state: sum(trial.state == state for trial in trials) for state in ("finished", "stopped", "failed")}
    running = sum(trial.state == "running" for trial in trials)
    words = ", ".join(f"{count} {state}" for state, count in {**states, "running": running}.items() if count)
    return render_page(
        f"Search over {len(document['space'])} options of jobs.{document['job']}",
        f"{len(trials)} trials ({words or 'none yet'}), {'largest' if mode == 'max' else 'smallest'} {metric}; "
        f"{sum(trial.seconds for trial in trials) / 3600:.2f} hours of trials together.",
        _tiles(best, confirmed, document, trials),
        [
            _confirmation(confirmed, metric),
            _parallel(ranked, document, metric, best),
            _importance(trials, document, metric),
            _front(trials, document, metric, mode),
            f"<h2>All trials</h2>\n<p>{html.escape(_TABLE_NOTE)}</p>"
            f'<div class="card table scoretable trials">{trials_table(ranked, trials, document, best)}</div>',
        ],
        [
            ("folder", str(folder)),
            ("search", str(document["options"]["search"]["search"])),
            ("scheduler", str(document["options"]["search"]["scheduler"])),
            ("preset", str(document["options"]["trial"]["preset"])),
            ("best configuration", f"python -m jobs.{document['job']} --config {folder / BEST} --save_dir runs/best"),
        ],
        plain_yaml(dict(document)),
        {"skeletons": [], "palettes": {}, "comparisons": [], "charts": _charts(ranked, trials, metric, mode)},
        headings=("How the search went", "The search"),
    )


def ranked_trials(trials: Sequence[TrialRecord], metric: str, mode: str) -> list[TrialRecord]:
    """The trials that measured the metric, best last value first."""
    sign = -1.0 if mode == "max" else 1.0
    return sorted(
        (trial for trial in trials if metric in trial.metrics), key=lambda trial: sign * trial.metrics[metric]
    )


def trials_table(
    ranked: Sequence[TrialRecord], trials: Sequence[TrialRecord], document: Mapping[str, Any], best: TrialRecord | None
) -> str:
    """HTML table of all trials, the best first, those without a value last."""
    metrics = [document["metric"], *(metric for metric, _ in document["against"])]
    paths = list(document["space"])
    rows = []
    for trial in (*ranked, *(trial for trial in trials if trial not in ranked)):
        values = [trial.metrics.get(metric) for metric in metrics]
        cells = [
            f"<td>{html.escape(trial.name)}{'<small>best</small>' if trial is best else ''}</td>",
            f'<td class="{"bad" if trial.state == "failed" else ""}">{trial.state}'
            + "".join(
                f"<small>{html.escape(text)}</small>" for text in (trial.error, *map(_origin, trial.origins)) if text
            )
            + "</td>",
            f"<td>{trial.step}</td>",
            *(f"<td>{'' if value is None else format(value, '.4g')}</td>" for value in values),
            *(f"<td>{html.escape(_shown(trial.options.get(path)))}</td>" for path in paths),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return table(["Trial", "State", "Step", *metrics, *map(_short, paths)], rows)


_TABLE_NOTE = (
    "Values are those of a trial's last report. A stopped trial was ended early by the scheduler, so its value is of "
    "fewer steps; the best trial is chosen among those that made all of them."
)
_CHOSEN_NOTE = (
    "The best value was chosen as the largest of many noisy ones, so it is too good to be expected again. "
    "--confirm_seeds trains it and the start of the search again, with other seeds and other held-out draws."
)


def _tiles(
    best: TrialRecord | None, confirmed: Confirmed | None, document: Mapping[str, Any], trials: Sequence[TrialRecord]
) -> list[Tile]:
    if best is None:
        return [Tile("trials", str(len(trials)), "none has reported yet", "neutral")]
    metric = document["metric"]
    tiles = [Tile(f"best {metric}", f"{best.metrics[metric]:.4g}", best.name, "neutral")]
    if confirmed is not None:
        better = confirmed.difference * (1 if document["mode"] == "max" else -1)
        clear = abs(confirmed.difference) > confirmed.half_width
        verdict = "neutral" if not clear else "good" if better > 0 else "bad"
        tiles.append(
            Tile(
                "against the start, other seeds",
                f"{confirmed.difference:+.3g}",
                f"± {confirmed.half_width:.2g} (95 %, {len(confirmed.pairs)} seeds)",
                verdict,
            )
        )
    found = importance(trials, domains_of(document), metric)
    if found:
        name, most = next(iter(found.items()))
        tiles.append(Tile("matters most", _short(name), f"explains {most.share:.0%} by itself", "neutral"))
    tiles.append(Tile("trials", str(len(trials)), f"{sum(t.state == 'failed' for t in trials)} failed", "neutral"))
    return tiles


def _confirmation(confirmed: Confirmed | None, metric: str) -> str:
    if confirmed is None:
        return f"<p>{html.escape(_CHOSEN_NOTE)}</p>"
    rows = [
        f"<tr><td>{seed}</td><td>{first:.4g}</td><td>{second:.4g}</td><td>{second - first:+.3g}</td></tr>"
        for seed, (first, second) in zip(confirmed.seeds, confirmed.pairs, strict=True)
    ]
    return (
        "<h2>Is the best setting really better?</h2>\n"
        f"<p>{html.escape(confirmed.words(metric))}</p>"
        f'<div class="card table">{table(["Seed", "Start of the search", "Best setting", "Difference"], rows)}</div>'
    )


def _parallel(ranked: Sequence[TrialRecord], document: Mapping[str, Any], metric: str, best: TrialRecord | None) -> str:
    if len(ranked) < 2 or best is None:
        return ""
    drawing = parallel_coordinates(ranked, domains_of(document), metric, best.name)
    return (
        "<h2>Parallel coordinates</h2>\n<p>One line for each trial, from its options to the metric on the right; the "
        "darker, the better. Point at a line to see its values.</p>"
        f'<div class="card plot">{drawing}</div>'
    )


def _importance(trials: Sequence[TrialRecord], document: Mapping[str, Any], metric: str) -> str:
    found = importance(trials, domains_of(document), metric)
    text = (
        f"Fewer than {FEWEST_TRIALS} trials: not estimated."
        if found is None
        else f"Share of the variance of {metric} over all trials that an option explains by itself (adjusted R squared "
        "of a parabola, or of the means of a choice), and the sign of its rank correlation. Options that matter only "
        "together are not seen, and trials that were stopped early count with their last value."
    )
    bars = "" if found is None else f'<div class="card plot">{importance_bars(found)}</div>'
    return f"<h2>Importance of the options</h2>\n<p>{html.escape(text)}</p>{bars}"


def _front(trials: Sequence[TrialRecord], document: Mapping[str, Any], metric: str, mode: str) -> str:
    parts = []
    for other, other_mode in document["against"]:
        found = front(trials, [(metric, mode), (other, other_mode)])
        if found:
            names = ", ".join(trial.name for trial in found)
            words = f"{metric} ({mode}) against {other} ({other_mode}). No complete trial beats these in both: {names}."
            drawing = scatter(trials, other, metric, [trial.name for trial in found])
            parts.append(f'<p>{html.escape(words)}</p><div class="card plot">{drawing}</div>')
    return "\n".join(["<h2>Best compromises</h2>", *parts]) if parts else ""


def _charts(
    ranked: Sequence[TrialRecord], trials: Sequence[TrialRecord], metric: str, mode: str
) -> list[dict[str, object]]:
    so_far = best_so_far(trials, metric, mode)
    values = [(number, trial.metrics[metric]) for number, trial in enumerate(trials, 1) if metric in trial.metrics]
    charts = [
        Chart(
            "Best so far",
            f"{metric} of each trial, and the best one up to it",
            [
                Series("best so far", [tuple(map(float, point)) for point in so_far]),
                Series("trial", [tuple(map(float, point)) for point in values], dots=True),
            ],
            x_label="trial",
        ),
        Chart(
            f"{metric} over the steps",
            f"the best {min(MOST_CURVES, len(ranked))} trials",
            [
                Series(trial.name, [tuple(map(float, point)) for point in trial.history])
                for trial in ranked[:MOST_CURVES]
            ],
            x_label="step",
        ),
    ]
    return charts_data(charts)


def _short(path: str) -> str:
    return path.rpartition(".")[2]


def _origin(origin: tuple[str, int]) -> str:
    return f"went on from {origin[0]} after step {origin[1]}"


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
