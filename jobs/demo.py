"""The demonstration that `make demo` runs: a small policy learns to follow composite prompts, and a report shows it.

    python -m jobs.demo
    python -m jobs.demo --fresh

1. Takes the small weights that ship with kinetune (policy, reward, judge); what is missing is trained first.
2. Starts a Ray cluster of its own and runs `jobs.grpo` with preset `demo` into `--save_dir`.
3. Before and after are measured on held-out captions with fixed seeds, also by a judge that never was a reward.
4. Says in three lines what improved, by how much, and where to look.

What is there already is not done again: a finished run with the same options is only reported, one that was stopped
goes on. `--fresh`, or other options than before, start a new folder beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jobs import pretrain, train_retrieval
from jobs.command_line import main as cli
from jobs.configs.demo import DemoConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig


def run(config: DemoConfig) -> None:
    """Runs what is missing of the demonstration and reports."""
    from jobs.text import demonstration

    demonstration.run_with(config, ensure_weights(config.weights_dir))


def plan(config: DemoConfig) -> None:
    """Says which weights the demonstration takes and what is left to do; checks it where all weights are there."""
    from jobs.text import demonstration

    demonstration.plan(config)


def ensure_weights(folder: Path) -> dict[str, str]:
    """Paths of policy, reward and judge: those that ship, or ones trained below `folder` by the same commands."""
    from jobs.text import demonstration

    return demonstration.ensure_weights(folder, train)


def train(settings: PretrainConfig | RetrievalConfig) -> None:
    """Trains weights that do not ship."""
    if isinstance(settings, PretrainConfig):
        pretrain.run(settings)
    else:
        train_retrieval.run(settings)


if __name__ == "__main__":
    sys.exit(cli.main(DemoConfig, run, __doc__, "jobs.demo", plan=plan))
