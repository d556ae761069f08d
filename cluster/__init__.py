"""Execution of runs on Ray: connection, plan, supervised actors, the training loop, run directories and metrics.

The same loop runs on a Ray cluster or in one process, to the same bits. The names below are this layer's public
interface, as in `from cluster import LocalRuntime`.
"""

from typing import TYPE_CHECKING

from motions.base.public_names import lazy_names

if TYPE_CHECKING:
    from cluster.records.run_directory import RunDirectory as RunDirectory
    from cluster.run.algorithm import Algorithm as Algorithm
    from cluster.run.algorithm import BatchSource as BatchSource
    from cluster.run.controller import Controller as Controller
    from cluster.run.plan import Plan as Plan
    from cluster.run.plan import Workload as Workload
    from cluster.runtime.local import LocalRuntime as LocalRuntime
    from cluster.runtime.on_ray import RayRuntime as RayRuntime
    from cluster.runtime.protocol import CallFailed as CallFailed
    from cluster.runtime.protocol import Role as Role
    from cluster.runtime.protocol import Runtime as Runtime
    from cluster.settings import ClusterSettings as ClusterSettings
    from cluster.settings import RunSettings as RunSettings
else:
    __getattr__ = lazy_names(__name__)
