"""Signs that a policy learns to please the reward instead of moving better.

While the held-out reward rises over three evaluations, a judge that never was a reward should not fall, and no
kinematic figure should move away from that of real motions. What does so beyond its 95 % interval is said; with
`stop_on_hacking` the run ends there.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rewards.evaluation.intervals import Resamples, bounds
from rewards.evaluation.kinematics import KINEMATICS

EVALUATIONS = 3
JUDGES = ("judge_matching", "second_judge")

Record = Mapping[str, Any]
"""A line of evaluations.jsonl: `step`, `prompts` [P], `total` [P][S], `terms` [P] of name -> [S]."""


def signs_of_hacking(
    records: Sequence[Record],
    real: Mapping[str, float],
    clips: Sequence[str | None] | None = None,
    judges: Sequence[str] = JUDGES,
) -> list[str]:
    """One sentence for each sign in the last three evaluations; none where the reward did not rise twice.

    Args:
        records: the evaluations so far, with equal prompts; with others (a group was dropped) nothing is compared.
        real: figures of real motions of the same prompts. Without one, a figure that should be low worsens by rising,
            and one without a direction cannot worsen.
        clips: of the prompts, as for `Resamples`.
        judges: terms that should not fall.
    """
    last = list(records)[-EVALUATIONS:]
    if len(last) < EVALUATIONS or any(record["prompts"] != last[0]["prompts"] for record in last):
        return []
    totals = [float(np.mean(record["total"])) for record in last]
    if not all(later > earlier for earlier, later in itertools.pairwise(totals)):
        return []
    texts = last[0]["prompts"]
    resamples = Resamples(texts, clips if clips is not None and len(clips) == len(texts) else None)
    steps = f"from step {last[0]['step']} to {last[-1]['step']}"
    span = f"{steps}, while the reward rose from {totals[0]:.3g} to {totals[-1]:.3g}"
    signs = []
    for name in (*judges, *KINEMATICS):
        if any(name not in term for record in (last[0], last[-1]) for term in record["terms"]):
            continue
        first, now = (np.array([term[name] for term in record["terms"]], np.float64) for record in (last[0], last[-1]))
        values = f"{first.mean():.3g} to {now.mean():.3g}"
        if name in judges:
            high = resamples.interval(now - first)[1]
            if high < 0:
                signs.append(f"{name} fell from {values} {span}")
        elif name in real or KINEMATICS[name].better == "lower":
            aim = real.get(name, 0.0)
            worse = bounds(np.abs(resamples.means(now) - aim) - np.abs(resamples.means(first) - aim))[0]
            if worse > 0:
                beside = f" (real motions: {aim:.3g})" if name in real else ""
                signs.append(f"{name} worsened from {values}{beside} {span}")
    return signs
