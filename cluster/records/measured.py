"""What a run directory says was measured: the last value of every metric."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.records.opening import EVALUATIONS, METRICS

FINAL = "evaluation.json"


def last_metrics(folder: Path) -> dict[str, float]:
    """The last value of every metric of a run by name: those of `metrics.jsonl`, held-out figures as `evaluation/NAME`,
    and those of the finished result, which `evaluation.json` has, as `final/NAME`. A line that a killed process left
    unfinished is passed over."""
    found: dict[str, float] = {}
    for name, prefix in ((METRICS, ""), (EVALUATIONS, "evaluation/")):
        path = folder / name
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            if line.endswith("}"):
                found |= _numbers(json.loads(line), prefix)
    path = folder / FINAL
    if path.is_file():
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = {row["name"]: row.get("after") for row in document.get("rows", ()) if "name" in row}
        found |= _numbers({**rows, **document.get("figures", {})}, "final/")
    return found


def _numbers(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {
        f"{prefix}{name}": float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and name not in ("step", "time", "policy_version")
    }
