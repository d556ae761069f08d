"""The folder of a supervised training.

It is a run directory (`cluster/records/run_directory.py`: configuration, metrics, the learner's state, a lock) and the
finished model's folder at once: what MDM or TMR tools read (`model#########.pt` and `args.json`, or `last_weights/`)
lies on top, beside `training_curves_latest.png`. A training that was stopped continues from its last checkpoint to the
same bits: batches are functions of (seed, step), and the learner's state holds the rest.
"""

from __future__ import annotations

from torch import nn

from cluster.records.opening import inspect
from cluster.settings import RunSettings
from jobs.command_line.main import settings_yaml
from motions.data.dataset import MotionDataset
from motions.settings import Settings


def describe_training(config: Settings, run: RunSettings, dataset: MotionDataset, network: nn.Module) -> str:
    """What a training would do, for `--dry_run`.

    Raises:
        RunDirectoryError: the folder cannot be used as asked.
    """
    opening = inspect(run, config=config)
    clips = ", ".join(f"{len(dataset.items(split))} {split}" for split in dataset.splits)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return "\n".join(
        [
            settings_yaml(config),
            f"\nsave_dir {run.save_dir}: {opening}",
            f"data {dataset.name}: {clips} clips; skeleton {dataset.skeleton.name}, {dataset.skeleton.fps:g} frames/s",
            f"network: {parameters / 1e6:.2f} M parameters",
        ]
    )
