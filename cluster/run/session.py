"""A complete run for jobs, from connection to close: checks, cluster, plan, directory, telemetry, actors, controller.

    with training_session(config.cluster, config.run, config, roles, workload, algorithm, fingerprint) as controller:
        result = controller.run()

The order lets mistakes be found early: the directory is inspected before Ray starts, the plan is compared with the
cluster before an actor is built, and nothing is written before both are in order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cluster.records.opening import inspect
from cluster.records.run import open_run
from cluster.run.algorithm import Algorithm
from cluster.run.controller import Controller
from cluster.run.plan import Plan, Workload
from cluster.runtime.local import LocalRuntime
from cluster.runtime.protocol import Role, Runtime, StartError
from cluster.settings import ClusterSettings, RolloutRunSettings
from motions.settings import Settings

PREFLIGHT_TICK_S = 1.0


@contextmanager
def training_session(
    cluster: ClusterSettings,
    run: RolloutRunSettings,
    config: Settings,
    roles: Sequence[Role],
    workload: Workload,
    algorithm: Algorithm,
    data_fingerprint: str,
) -> Iterator[Controller]:
    """A controller whose actors are built and whose learner has the state of the last commit.

    Args:
        cluster: where it runs.
        run: how long it goes on and what it keeps.
        config: every option of the job, for `config.yaml`.
        roles: of `training_roles`.
        workload: sizes, for the preflight.
        algorithm: what the steps do.
        data_fingerprint: names data and prompts.

    Raises:
        RunDirectoryError: the directory cannot be used as requested.
        StartError: the cluster is too small, or an actor cannot be built.
        ConnectionFailed: there is no cluster.
        RunFailed: the checkpoint does not fit.
    """
    inspect(run, config=config)
    plan = Plan(tuple(roles), workload)
    with ExitStack() as stack:
        runtime: Runtime
        if cluster.runtime == "local":
            runtime = LocalRuntime()
        else:
            # Imported here because Ray takes half a second to import and a local run does not need it.
            from cluster.runtime.connect import connect
            from cluster.runtime.on_ray import RayRuntime

            stack.enter_context(connect(cluster, plan.num_cpus))
            preflight(plan, cluster.resource_wait_s)
            runtime = RayRuntime.from_settings(cluster)
        opened = stack.enter_context(open_run(run, config, data_fingerprint, run.num_steps, trace=run.trace))
        stack.callback(runtime.close)
        controller = Controller(runtime, roles, algorithm, opened, run)
        controller.start()
        yield controller


def preflight(plan: Plan, wait_s: float) -> None:
    """Compares the plan with the connected cluster.

    Args:
        wait_s: time for a cluster that grows on demand.

    Raises:
        StartError: names the missing amounts.
    """
    import ray

    deadline = time.monotonic() + wait_s
    while True:
        try:
            plan.check(ray.cluster_resources())
            return
        except StartError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(PREFLIGHT_TICK_S)
