"""The files of a run directory that reports read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.records.measured import read_records
from cluster.records.opening import METRICS
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.settings import spellings_of
from rewards.scorers import described_rewards
from rewards.settings import RewardSettings

REWARDS = "rewards.json"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run directory's `metrics.jsonl`.

    Raises:
        UserError: there is no such file, or a line is not JSON.
    """
    path = folder / METRICS
    if not path.is_file():
        raise UserError(f"{path} does not exist: {folder} is not the directory of a run")
    return read_records(path)


def write_rewards(folder: Path, rewards: list[dict[str, Any]]) -> None:
    """`rewards.json` of a run directory: what the report says of the rewards, as `described_rewards` gives it."""
    with atomic_write(folder / REWARDS) as file:
        file.write(json.dumps(rewards, indent=2).encode())


def read_rewards(folder: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The same of a run; of one from before it was written, the built-in rewards by the run's flat options."""
    if (folder / REWARDS).is_file():
        return json.loads((folder / REWARDS).read_text(encoding="utf-8"))
    known = spellings_of(RewardSettings)
    options = {name: value for name, value in config.items() if name in known and name != RewardSettings.naming}
    return described_rewards(RewardSettings.of(options))


def read_json(path: Path) -> dict[str, Any]:
    """A .json file; nothing where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_evaluation(folder: Path, kind: str) -> dict[str, Any]:
    """The `evaluation.json` of a run directory; nothing where there is none.

    Args:
        kind: what the file must be an evaluation of. Files from before they said so are taken as they are.

    Raises:
        UserError: it is an evaluation of something else.
    """
    path = folder / "evaluation.json"
    evaluation = read_json(path)
    found = evaluation.get("kind", kind)
    if found != kind:
        raise UserError(f"{path} is an evaluation of kind {found!r}; this report shows those of kind {kind!r}")
    return evaluation
