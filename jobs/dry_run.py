"""What `--dry_run` says about a GRPO run, and what it checks: files, prompts, rewards, run directory, cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jobs import cli

if TYPE_CHECKING:
    from cluster.plan import Plan
    from jobs.configs import GRPOConfig


def dry_run(config: GRPOConfig) -> None:
    """Prints settings and plan; loads everything once that the actors will load. Starts no cluster and writes nothing.

    Raises:
        ValueError: a file, prompt or option is wrong, or the run directory cannot be used.
        StartError: the cluster, or this machine where there is none, is too small.
    """
    from cluster.plan import Plan
    from cluster.run_directory import inspect
    from jobs.grpo import prepare

    prepared = prepare(config)
    print(cli.settings_yaml(config))
    print(f"\nsave_dir {config.save_dir}: {inspect(config)}")
    print(f"{len(prepared.batches.prompts)} prompts to learn on, {len(prepared.batches.held_out)} to measure with")
    plan = Plan(tuple(prepared.roles), prepared.workload)
    resources = cluster_resources(config, plan)
    print("\n".join(plan.lines(resources)))
    plan.check(resources)


def cluster_resources(config: GRPOConfig, plan: Plan) -> dict[str, float]:
    """Resources, in Ray's names, of the cluster the run would join, or of this machine if it would start its own."""
    from cluster.run_directory import in_ray_job

    joins = config.ray_address != "local"
    if config.ray_address == "auto":
        joins = in_ray_job() or "RAY_ADDRESS" in os.environ
    if config.runtime == "ray" and joins:
        from cluster.connect import connect

        with connect(config) as connection:
            return connection.resources
    import torch

    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    store = 0.3 * memory if config.object_store_mb is None else config.object_store_mb * 1e6
    return {
        # Cores are shared where the plan asks for more than there are.
        "CPU": max(float(os.cpu_count() or 1), plan.num_cpus),
        "GPU": float(torch.cuda.device_count()),
        "memory": memory,
        "object_store_memory": store,
    }
