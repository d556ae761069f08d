"""Searches feedback gains of the balancing expert for a clip: CMA-ES on its returns in simulation.

    python -m jobs.balance --motion walk --output rollouts/imitation/balance_gains/walk.json
    python -m jobs.balance --motion run --start rollouts/imitation/balance_gains/walk.json --output run.json

Every candidate of a generation is tried from the same random phases with the same noise, all in one batched
environment; its value is the mean return. The gains that come with kinetune are in `rollouts/imitation/balance_gains/`;
`jobs.sft --expert balance` uses them.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.balance import BalanceConfig

run = cli.later("jobs.character.balance_search:run")
plan = cli.later("jobs.character.balance_search:plan")

if __name__ == "__main__":
    sys.exit(cli.main(BalanceConfig, run, __doc__, "jobs.balance", plan=plan))
