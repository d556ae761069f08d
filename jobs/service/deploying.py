"""What `jobs.deploy` does: reads what a run's options reserve, and writes a manifest or a script around its command."""

from __future__ import annotations

import shlex
from pathlib import Path

from cluster.deployment.groups import MachineGroup, Reservation, machine_groups
from cluster.deployment.kuberay import SHARED, Site, ray_cluster, ray_job
from cluster.deployment.slurm import slurm_script
from jobs.command_line import main as cli
from jobs.command_line.values import read_assignments
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.sft import SFTConfig
from jobs.configs.trpo import RunnerSettings, SamplingProcessSettings, TRPOJobConfig
from jobs.configs.world_model import WorldModelJobConfig
from jobs.trainings.deploy import DeployConfig
from jobs.trainings.training_jobs import CONFIGS
from motions.base.plain_yaml import plain_yaml
from motions.settings import Settings
from rewards.scorers import rewards_of

HEAD_CPUS = 2
WAIT_S = 1800
"""Seconds that a run waits for a cluster that is still growing."""


def run(config: DeployConfig) -> None:
    """Prints the manifest or the script.

    Raises:
        UserError: the run's options are not legal.
    """
    print(written(config), end="")


def written(config: DeployConfig) -> str:
    """The text of the manifest or the script."""
    settings, folder = settings_of(config), folder_of(config)
    place = config.place
    groups = machine_groups(reservations(settings), place.memory_gb_per_actor)
    if config.target == "slurm":
        return slurm_script(place.name, groups, command(config, settings, folder), config.run.hours)
    site = Site(
        name=place.name,
        namespace=place.namespace,
        image=place.image,
        gpu_image=place.gpu_image,
        claim=place.claim,
        token_secret=place.token_secret,
        most_machines=place.most_machines,
    )
    head = MachineGroup("head", 1, HEAD_CPUS, driver_gpus(settings), place.memory_gb_per_actor)
    if config.target == "kuberay-cluster":
        return plain_yaml(ray_cluster(site, head, groups))
    entrypoint = shlex.join(command(config, settings, folder))
    return plain_yaml(ray_job(site, head, groups, entrypoint, config.run.code, config.run.retries))


def folder_of(config: DeployConfig) -> Path:
    """The run directory on shared storage."""
    return config.run.save_dir or Path(SHARED) / "runs" / config.place.name


def settings_of(config: DeployConfig) -> Settings:
    """The options of the run.

    Raises:
        UserError: one of them is not legal.
    """
    model = CONFIGS[config.run.job]
    given = {"set": read_assignments("--set", config.run.set, model), "": {"save_dir": folder_of(config)}}
    return cli.load_settings(model, f"jobs.{config.run.job}", given, preset=config.run.preset)


def command(config: DeployConfig, settings: Settings, folder: Path) -> list[str]:
    """Words of the run's command line."""
    words = ["python", "-m", f"jobs.{config.run.job}"]
    if config.run.preset is not None:
        words += ["--preset", config.run.preset]
    for word in config.run.set:
        name, _, value = word.partition("=")
        words += [f"--{name}={value}"]
    words += ["--save_dir", str(folder), "--resume"]
    if isinstance(settings, GRPOConfig) and config.target == "kuberay":
        words += ["--resource_wait_s", str(WAIT_S)]
    return words


def reservations(settings: Settings) -> list[Reservation]:
    """The actors of a run; none where all is done in the driver."""
    found: list[Reservation] = []
    if isinstance(settings, GRPOConfig):
        cluster = settings.cluster
        rewards = len(rewards_of(settings.rewards)) * cluster.num_reward_actors
        found += [
            Reservation(
                "rollout",
                cluster.num_rollout_actors,
                cluster.cpus_per_rollout_actor,
                cluster.gpus_per_rollout_actor,
            ),
            Reservation("reward", rewards, cluster.cpus_per_reward_actor, cluster.gpus_per_reward_actor),
            Reservation("learner", cluster.num_learners, cluster.cpus_per_learner, cluster.gpus_per_learner),
        ]
    if isinstance(settings, (SFTConfig, DeepMimicConfig)):
        workers = settings.workers
        found.append(Reservation("worker", workers.num_workers, workers.cpus_per_worker, workers.gpus_per_worker))
    if isinstance(settings, (TRPOJobConfig, WorldModelJobConfig, DeepMimicConfig)):
        found += _processes(settings.processes)
    return [one for one in found if one.count]


def driver_gpus(settings: Settings) -> int:
    """GPUs of the driver: 1 where no actor learns and the options ask for a GPU."""
    if isinstance(settings, (TRPOJobConfig, DeepMimicConfig)):
        processes = settings.processes
        return int(processes.num_learners == 0 and processes.gpus_per_learner > 0)
    device = settings.flat().get("device")
    return int(device == "cuda" and not reservations(settings))


def _processes(processes: RunnerSettings) -> list[Reservation]:
    found = [Reservation("runner", processes.num_env_runners, processes.cpus_per_env_runner, 0.0)]
    if isinstance(processes, SamplingProcessSettings):
        gpus = processes.gpus_per_learner if processes.num_learners else 0.0
        found.append(Reservation("learner", processes.num_learners, processes.cpus_per_learner, gpus))
    return found
