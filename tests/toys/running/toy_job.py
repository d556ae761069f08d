"""A job with a command line whose run is a toy: to see what becomes of a command when the cluster under it dies.

python -m tests.toys.running.toy_job --save_dir DIR --num_steps 20 [--resume]
"""

from __future__ import annotations

import os
import sys
import time

from cluster.run.session import training_session
from jobs.command_line import main as cli
from rollouts.messages import GroupMotions, PolicyVersion, RolloutRequest, Trajectory
from tests.toys.running import cluster_toys as toys
from tests.toys.running.cluster_runs import WORKLOAD, ToyConfig, toy_algorithm

ROLLOUT_S = 0.2
"""Seconds that a rollout takes on a cluster, so that there is time for something to happen."""


LAST_S = float(os.environ.get("TOY_LAST_S", "60"))
"""Seconds that a measurement after the last step takes on a cluster."""
MEASURED = "measured.txt"
"""What it leaves in the run directory."""


class SlowRollouts(toys.ToyRollouts):
    """Rollouts that take their time."""

    def run(self, request: RolloutRequest, version: PolicyVersion) -> tuple[GroupMotions, Trajectory]:
        time.sleep(ROLLOUT_S)
        return super().run(request, version)


def run(config: ToyConfig) -> None:
    """Makes the steps, and a measurement."""
    roles = toys.toy_roles(config, rollout=toys.ToyRollouts if config.runtime == "local" else SlowRollouts)
    with training_session(config, config, config, roles, WORKLOAD, toy_algorithm(), "toy-data") as controller:
        controller.run()
        if config.runtime == "ray":
            time.sleep(LAST_S)
    (config.save_dir / MEASURED).write_text(config.runtime)


if __name__ == "__main__":
    sys.exit(cli.main(ToyConfig, run, __doc__, "tests.toys.running.toy_job"))
