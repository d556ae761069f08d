"""Makes Ray actors of plain classes; the only module that does.

Ray restarts nothing by itself (`max_restarts=0`); the pool replaces a dead actor, so that one place detects, counts and
handles deaths. Calls may overtake each other while their inputs are missing: a reward whose rollout is late must not
delay the next one. A second thread answers `stack` while a call runs.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.actor import ActorProxy
from ray.exceptions import GetTimeoutError, RayError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.runtime.actor_host import ActorHost, ProcessInfo, environment
from cluster.runtime.protocol import Factory, Role, Shape

CONTROL = "control"
STACK_TIMEOUT_S = 5.0


class HostActor:
    """An `ActorHost` in a process of its own."""

    def __init__(self, name: str, factory: Factory, threads: int, deterministic: bool) -> None:
        self._name = name
        self._host = ActorHost(name, factory, threads, deterministic)

    @ray.method
    def build(self) -> ProcessInfo:
        """Builds the object: see `ActorHost.build`."""
        return self._host.build()

    # Ray's types end at methods with ten fixed arguments; `Actor.call` below is typed like this method.
    def call(self, method: str, label: str, num_outputs: int, shape: Shape, *parts: Any) -> tuple[Any, ...]:
        """Calls a method: see `ActorHost.call`."""
        return self._host.call(method, label, num_outputs, shape, *parts)

    @ray.method(concurrency_group=CONTROL)
    def stack(self) -> str:
        """Stack of the current call: see `ActorHost.stack`."""
        return self._host.stack()

    def __repr__(self) -> str:
        """Prefix that Ray puts before the actor's lines in the log."""
        return self._name


class Actor:
    """Typed handle of a running `HostActor`."""

    def __init__(self, role: Role, name: str, group: PlacementGroup, bundle: int) -> None:
        self.name = name
        self._role = role.name
        # Ray's types know neither `concurrency_groups` nor that the proxy is a handle.
        decorate: Any = ray.remote
        remote = decorate(concurrency_groups={CONTROL: 1})(HostActor).options(
            num_cpus=role.num_cpus,
            num_gpus=role.num_gpus,
            max_restarts=0,
            max_task_retries=0,
            allow_out_of_order_execution=True,
            runtime_env={"env_vars": environment(role.threads)},
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, bundle),
        )
        self._actor: Any = remote.remote(name, role.factory, role.threads, role.deterministic)
        self._proxy: ActorProxy[HostActor] = self._actor

    def build(self) -> ray.ObjectRef[ProcessInfo]:
        """Starts to build the object."""
        return self._proxy.build.remote()

    def call(self, method: str, label: str, num_outputs: int, shape: Shape, parts: list[Any]) -> list[ray.ObjectRef]:
        """Starts a call; returns references of the outputs, followed by that of the statistics."""
        # Ray publishes the name on a port that asks for no token, so it is without the prompt that the label may hold.
        options = self._actor.call.options(num_returns=num_outputs + 1, name=f"{self._role}.{method}")
        return options.remote(method, label, num_outputs, shape, *parts)

    def stack(self) -> str:
        """Stack of the current call, or the reason why it is unavailable."""
        try:
            return ray.get(self._proxy.stack.remote(), timeout=STACK_TIMEOUT_S)
        except (GetTimeoutError, RayError) as error:
            return f"no stack: {type(error).__name__}"

    def kill(self) -> None:
        """Kills the process; its calls fail with `ActorDiedError`."""
        ray.kill(self._actor)
