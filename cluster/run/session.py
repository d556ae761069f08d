"""Opens a complete run with a controller: checks, cluster, run directory, actors; and closes all of it at the end.

    with training_session(config.cluster, config.run, config, roles, workload, algorithm, fingerprint) as controller:
        result = controller.run()

The order finds mistakes early: the run directory is inspected before Ray starts, and the plan is compared with the
cluster before an actor is built. Nothing is written before both checks have passed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cluster.records.opening import inspect
from cluster.records.run import open_run
from cluster.run import step_metrics
from cluster.run.algorithm import Algorithm
from cluster.run.controller import Controller
from cluster.run.efficiency import efficiency_of
from cluster.run.plan import Plan, Workload
from cluster.runtime.local import LocalRuntime
from cluster.runtime.protocol import Role, Runtime, StartError
from cluster.settings import ClusterSettings, RolloutRunSettings, SupervisionSettings
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
    """Opens a run and builds its actors; gives a controller whose learner has the state of the last commit.

    Args:
        cluster: connection and resources.
        run: run directory, length and intervals.
        config: every option of the job, for `config.yaml`.
        roles: result of `training_roles`.
        workload: sizes of the run, from which its needs are estimated.
        algorithm: prompts, rewards and advantages of the steps.
        data_fingerprint: hash of data and prompts.

    Raises:
        RunDirectoryError: the directory cannot be used as requested.
        StartError: the cluster is too small, or an actor cannot be built.
        ConnectionFailed: there is no cluster.
        RunFailed: the checkpoint does not fit the learner.
    """
    inspect(run, config=config)
    plan = Plan(tuple(roles), workload)
    with ExitStack() as stack:
        runtime = stack.enter_context(opened_runtime(cluster, plan))
        opened = stack.enter_context(open_run(run, config, data_fingerprint, run.num_steps, trace=run.trace))
        # Before the run directory is: its actors must not outlive it.
        stack.callback(runtime.close)
        opened.telemetry.show(step_metrics.at_start(plan))
        efficiency = efficiency_of(
            workload, cluster.peak_tflops, cluster.threads_per_actor, cluster.gpus_per_rollout_actor, plan.num_learners
        )
        controller = Controller(runtime, roles, algorithm, opened, run, efficiency)
        controller.start()
        yield controller


@contextmanager
def opened_runtime(cluster: SupervisionSettings, plan: Plan) -> Iterator[Runtime]:
    """The runtime that the settings choose, connected and large enough for a plan, whose roles are still to be started.
    At the end it is closed, and a cluster that was started for it ends.

    Raises:
        StartError: the cluster is too small.
        ConnectionFailed: there is no cluster.
    """
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
        stack.callback(runtime.close)
        yield runtime


def preflight(plan: Plan, wait_s: float) -> None:
    """Checks that the connected cluster has the resources that the plan needs.

    Args:
        wait_s: seconds to wait for a cluster that grows on demand.

    Raises:
        StartError: it has too few; the message names what is missing.
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
