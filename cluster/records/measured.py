"""What a run directory says was measured: the records of its files, and the last value of every metric."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.records.checkpoints import RunDirectoryError
from cluster.records.opening import EVALUATIONS, METRICS

FINAL = "evaluation.json"


def read_records(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file; none where there is no file. A last line that a killed process left unfinished is
    passed over.

    Raises:
        RunDirectoryError: another line is not JSON.
    """
    *lines, rest = path.read_text(encoding="utf-8").split("\n") if path.is_file() else [""]
    try:
        records = [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise RunDirectoryError(f"{path} has a line that is not JSON: {error}") from error
    with suppress(json.JSONDecodeError):
        records.append(json.loads(rest))
    return records


def last_metrics(folder: Path) -> dict[str, float]:
    """The last value of every metric of a run by name: those of `metrics.jsonl`, held-out figures as `evaluation/NAME`,
    and those of the finished result, which `evaluation.json` has, as `final/NAME`."""
    found: dict[str, float] = {}
    for name, prefix in ((METRICS, ""), (EVALUATIONS, "evaluation/")):
        for record in read_records(folder / name):
            found |= _numbers(record, prefix)
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
