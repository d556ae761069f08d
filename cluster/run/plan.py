"""Computes what a run needs before anything starts: actors, resources, batch sizes, message sizes, memory.

It is pure arithmetic, so `--dry_run` is fast and needs no Ray; `Plan.shortage` compares it with a cluster's resources.
Message sizes are exact (they follow from the shapes), memory is an estimate.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from cluster.run.roles import is_learner, learners_of
from cluster.runtime.protocol import Role, StartError
from cluster.settings import SupervisionSettings

PROCESS_MB = 400
"""Resident memory of an actor that has imported PyTorch, before it holds a model (measured: 380 MB with 2.13, CPU)."""
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """Sizes of one step.

    Example:
        Workload(num_prompts=8, group_size=16, trained_steps=2, denoising_steps=10, guided=True, max_frames=120,
                 num_features=263, text_elements=384, model_parameters=600_000, trainable_parameters=50_000)
    """

    num_prompts: int
    """Number P of groups per step."""
    group_size: int
    """Number N of samples per group."""
    trained_steps: int
    """Number S of recorded denoising steps per sample."""
    denoising_steps: int
    guided: bool
    """Whether classifier-free guidance runs two sequences through the network for every sample and step."""
    max_frames: int
    num_features: int
    text_elements: int
    """Number of floats of one encoded text."""
    model_parameters: int
    trainable_parameters: int
    num_epochs: int = 1
    groups_per_optimizer_step: int = 0
    """Groups per optimizer step; 0 means all."""
    micro_batch_size: int = 32
    """(Sample, step) pairs per forward and backward."""
    num_eval_groups: int = 0
    """Number of groups of an evaluation."""
    noise_draws: int = 0
    """Noised states of each final motion, where an update trains those and no recorded steps."""
    num_parts: int = 1
    """Parts of an update that have optimizer steps of their own: recorded steps, where each is trained by itself."""
    staleness: int = 0
    """Steps whose groups are made while those of an earlier one are used."""

    @property
    def samples(self) -> int:
        """Number of samples per step, P * N."""
        return self.num_prompts * self.group_size

    @property
    def pairs(self) -> int:
        """Number of (sample, step) or (sample, noised state) pairs per step, P * N * S."""
        return self.samples * self.states_per_sample

    @property
    def states_per_sample(self) -> int:
        """Number S of states of a sample that an update trains."""
        return self.noise_draws or self.trained_steps

    @property
    def optimizer_steps(self) -> int:
        """Number of optimizer steps per update."""
        window = self.groups_per_optimizer_step or self.num_prompts
        return self.num_epochs * ceil(self.num_prompts * self.num_parts / window)

    @property
    def micro_batches(self) -> int:
        """Number of forward and backward passes per optimizer step (the last one of an update may have fewer)."""
        window = min(self.groups_per_optimizer_step or self.num_prompts, self.num_prompts)
        return ceil(window * self.group_size * self.states_per_sample / self.num_parts / self.micro_batch_size)

    @property
    def rollout_flops(self) -> float:
        """Operations of the network in a step's rollouts: two for each parameter, frame and evaluation."""
        sequences = self.samples * self.denoising_steps * (2 if self.guided else 1)
        return 2.0 * self.model_parameters * self.max_frames * sequences

    @property
    def update_flops(self) -> float:
        """Operations of the network in an update: six for each parameter, frame and evaluation, as a gradient costs
        twice its forward."""
        sequences = self.pairs * self.num_epochs * (2 if self.guided else 1)
        return 6.0 * self.model_parameters * self.max_frames * sequences

    @property
    def motion_bytes(self) -> int:
        """Size of the `GroupMotions` of one group."""
        return self.group_size * (self.max_frames * self.num_features * FLOAT_BYTES + 8)

    @property
    def trajectory_bytes(self) -> int:
        """Size of the `Trajectory` of one group: states before and after each recorded step, log-probabilities; or the
        final motions."""
        state = self.max_frames * self.num_features * FLOAT_BYTES
        if self.noise_draws:
            return self.group_size * state + self.request_bytes
        return self.group_size * self.trained_steps * (2 * state + FLOAT_BYTES) + self.request_bytes

    @property
    def request_bytes(self) -> int:
        """Size of the `RolloutRequest` of one group, which is mostly the encoded text."""
        return self.text_elements * FLOAT_BYTES

    @property
    def version_bytes(self) -> int:
        """Size of a `PolicyVersion`."""
        return self.trainable_parameters * FLOAT_BYTES

    @property
    def step_bytes(self) -> int:
        """Use of the object store at the end of a step's rollouts, with the old and the new weights, and with those
        that are made meanwhile."""
        groups = (1 + self.staleness) * self.num_prompts
        return groups * (self.motion_bytes + self.trajectory_bytes) + (2 + self.staleness) * self.version_bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """Roles and workload of a run."""

    roles: tuple[Role, ...]
    workload: Workload

    @property
    def num_cpus(self) -> float:
        """Number of CPUs that all actors reserve."""
        return sum(role.count * role.num_cpus for role in self.roles)

    @property
    def num_gpus(self) -> float:
        """Number of GPUs that all actors reserve."""
        return sum(role.count * role.num_gpus for role in self.roles)

    @property
    def num_learners(self) -> int:
        """Number of learners that make an update together."""
        return len(learners_of(self.roles))

    @property
    def memory_bytes(self) -> int:
        """Estimated host memory of all actors and the object store: processes, models, optimizer; no activations."""
        load = self.workload
        total = sum(role.count for role in self.roles) * PROCESS_MB * 10**6 + load.step_bytes
        total += sum(role.count * load.model_parameters * FLOAT_BYTES for role in self.roles if not _is_reward(role))
        # Gradient and the two moments of Adam.
        return total + self.num_learners * 3 * load.trainable_parameters * FLOAT_BYTES

    def needs(self) -> dict[str, float]:
        """Required resources in Ray's names and units."""
        return {
            "CPU": self.num_cpus,
            "GPU": self.num_gpus,
            "object_store_memory": float(self.workload.step_bytes),
            "memory": float(self.memory_bytes - self.workload.step_bytes),
        }

    def shortage(self, resources: Mapping[str, float]) -> list[str]:
        """One line per resource that the cluster lacks, with the missing amount and what to change."""
        lines = []
        for name, needed in self.needs().items():
            there = resources.get(name, 0.0)
            # Ray counts CPUs and GPUs in units of 1e-4.
            if needed > there + 1e-4:
                lines.append(_shortage_line(name, needed, there, self.roles))
        largest = max((role.num_gpus for role in self.roles), default=0.0)
        if largest and 0 < resources.get("GPU", 0.0) < largest:
            lines.append(f"one actor wants {largest:g} GPU")
        return lines

    def check(self, resources: Mapping[str, float]) -> None:
        """Checks that the cluster is large enough.

        Raises:
            StartError: the cluster is too small; names what is missing.
        """
        if lines := self.shortage(resources):
            raise StartError("the cluster is too small for this run: " + "; ".join(lines))

    def lines(self, resources: Mapping[str, float] | None = None) -> list[str]:
        """The plan as text: actors, batch, messages, memory, and (with `resources`) what is missing."""
        text = ["actors"]
        for role in self.roles:
            if role in learners_of(self.roles)[1:]:
                continue  # as the first one, whose line counts them
            count = self.num_learners if is_learner(role) else role.count
            gpus = f", {role.num_gpus:g} GPU" if role.num_gpus else ""
            threads = f"{role.threads} thread{'s' if role.threads > 1 else ''}"
            text.append(f"  {count} x {role.name:<18} {role.num_cpus:g} CPU{gpus} each, {threads}")
        text.append(f"  together {self.num_cpus:g} CPU, {self.num_gpus:g} GPU")
        text += [*self._batch_lines(), *self._message_lines()]
        text.append(f"memory of all processes: about {_size(self.memory_bytes)} and the activations of a micro-batch")
        if resources is not None:
            missing = self.shortage(resources)
            text.append("cluster: " + ("; ".join(missing) if missing else "has room for this"))
        return text

    def _batch_lines(self) -> Sequence[str]:
        load = self.workload
        window = min(load.groups_per_optimizer_step or load.num_prompts, load.num_prompts)
        windows = load.optimizer_steps // load.num_epochs
        sequences = 2 if load.guided else 1
        shared = f"  {self.num_learners} learners share the micro-batches of each optimizer step"
        if (idle := self.num_learners - load.micro_batches) > 0:
            shared += f", and {idle} of them have none: give a smaller micro_batch_size, or fewer learners"
        return [
            "one step",
            f"  {load.num_prompts} prompts x {load.group_size} samples = {load.samples} motions of up to "
            f"{load.max_frames} frames x {load.num_features} features",
            f"  rollout: {load.samples} motions x {load.denoising_steps} denoising steps x {sequences} "
            f"{'(guided)' if load.guided else '(unguided)'} = {load.samples * load.denoising_steps * sequences} "
            "network evaluations",
            f"  update: {load.samples} motions x {load.states_per_sample} "
            f"{'noised states' if load.noise_draws else 'trained steps'} = {load.pairs} pairs",
            f"  update: {load.num_epochs} epoch(s) x {windows} window(s) of {window} groups = "
            f"{load.optimizer_steps} optimizer step(s) of up to {load.micro_batches} micro-batches of "
            f"{load.micro_batch_size} pairs",
            *([shared] if self.num_learners > 1 else []),
            f"  evaluation: {load.num_eval_groups} groups",
            *(["  rollouts of the next step are made during the update (staleness 1)"] if load.staleness else []),
        ]

    def _message_lines(self) -> Sequence[str]:
        load = self.workload
        return [
            "messages",
            f"  request          {_size(load.request_bytes):>10}  per group, controller to rollout",
            f"  motions          {_size(load.motion_bytes):>10}  per group, rollout to each reward",
            f"  trajectory       {_size(load.trajectory_bytes):>10}  per group, rollout to learner",
            f"  policy version   {_size(load.version_bytes):>10}  per step, learner to every rollout actor",
            f"  object store     {_size(load.step_bytes):>10}  in use at the end of a step's rollouts",
        ]


def _is_reward(role: Role) -> bool:
    return role.name.startswith("reward:")


def _shortage_line(name: str, needed: float, there: float, roles: Sequence[Role]) -> str:
    if name == "CPU":
        per_role = ", ".join(f"{role.count} x {role.num_cpus:g} for {role.name}" for role in roles)
        return f"{needed - there:g} CPU missing: {needed:g} needed ({per_role}), {there:g} there"
    if name == "GPU":
        per_role = ", ".join(f"{role.count} x {role.num_gpus:g} for {role.name}" for role in roles if role.num_gpus)
        return f"{needed - there:g} GPU missing: {needed:g} needed ({per_role}), {there:g} there"
    what = {"object_store_memory": "object store", "memory": "memory (estimated)"}[name]
    return f"{_size(needed - there)} {what} missing: {_size(needed)} needed, {_size(there)} there"


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def cluster_resources(settings: SupervisionSettings, plan: Plan) -> dict[str, float]:
    """Resources, in Ray's names, of the cluster that the run would join, or of this machine if it would start one."""
    from cluster.runtime.ray_job import in_ray_job

    joins = settings.ray_address != "local"
    if settings.ray_address == "auto":
        joins = in_ray_job() or "RAY_ADDRESS" in os.environ
    if settings.runtime == "ray" and joins:
        from cluster.runtime.connect import connect

        with connect(settings) as connection:
            return connection.resources
    import torch

    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    store = 0.3 * memory if settings.object_store_mb is None else settings.object_store_mb * 1e6
    return {
        # A cluster on this machine shares its cores if the plan needs more than there are.
        "CPU": max(float(os.cpu_count() or 1), plan.num_cpus),
        "GPU": float(torch.cuda.device_count()),
        "memory": memory,
        "object_store_memory": store,
    }
