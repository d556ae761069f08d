"""What `jobs.doctor` does: measures the machine, and the cluster if there is one, and prints every finding."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import resource
import shutil
import socket
import stat
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import ray
import torch
from packaging.requirements import Requirement
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.records.opening import check_place
from cluster.records.run_directory import library_versions
from cluster.runtime.connect import MAX_UPLOAD_MB, ROOT, connect, upload_megabytes
from cluster.runtime.ray_job import in_ray_job
from jobs.command_line import main as cli
from jobs.configs.data import MDM_DATASETS
from jobs.service import checks
from jobs.service.checks import Finding
from jobs.trainings.doctor import DoctorConfig
from jobs.trainings.training_jobs import CONFIGS, plan_of
from motions.base.errors import UserError, is_mendable
from motions.data.folder_check import check_folder

NODE_TIMEOUT_S = 30.0


def run(config: DoctorConfig) -> None:
    """Prints every finding.

    Raises:
        UserError: something is lacking.
    """
    lacking = []
    for finding in findings(config):
        print(finding.line, flush=True)
        if finding.remedy:
            lacking.append(finding.what)
    if lacking:
        raise UserError(f"{len(lacking)} of the above are lacking: {', '.join(lacking)}")


def findings(config: DoctorConfig) -> Iterator[Finding]:
    """The findings one by one, those that take longest last."""
    if config.check_data is not None:
        folder = MDM_DATASETS.get(str(config.check_data), config.check_data)
        yield from (Finding(found.what, found.found, found.remedy) for found in check_folder(folder))
        return
    joins = joins_cluster(config)
    yield checks.python((sys.version_info.major, sys.version_info.minor, sys.version_info.micro))
    yield checks.packages(installed(requirements()))
    yield checks.graphics(torch.__version__, torch.cuda.device_count(), present_gpus())
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    yield checks.amount("memory", memory, checks.LEAST_MEMORY_BYTES, "Runs would be killed: use a larger machine")
    shared = Path("/dev/shm")
    if shared.is_dir():
        there = float(shutil.disk_usage(shared).total)
        remedy = "Ray would keep objects on the disk: in a container give --shm-size=4g"
        yield checks.amount("shared memory", there, checks.LEAST_SHARED_BYTES, remedy)
    yield checks.open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    for what, place in (("disk of Ray's sessions", Path("/tmp")), ("disk of the runs", existing(config.save_dir))):
        remedy = f"Free some in {place}, or choose another folder"
        yield checks.amount(what, float(shutil.disk_usage(place).free), checks.LEAST_DISK_BYTES, remedy)
    yield checks.rights(str(config.save_dir), place_problem(config.save_dir))
    yield token_finding(joins)
    if not joins:
        yield checks.ports(port for port in (checks.DASHBOARD_PORT, checks.AGENT_PORT) if answers(port))
    yield checks.upload(upload_megabytes(Path.cwd()), MAX_UPLOAD_MB, str(Path.cwd()))
    if joins:
        yield from cluster_findings(config)
    if config.preset is not None or config.config is not None:
        named = f"jobs.{config.job} with {config.preset or config.config}"
        yield checks.startable(named, start_problem(config))


def joins_cluster(config: DoctorConfig) -> bool:
    """Whether runs here would use a cluster that runs already."""
    if config.cluster.ray_address == "auto":
        return in_ray_job() or "RAY_ADDRESS" in os.environ
    return config.cluster.ray_address != "local"


def requirements() -> list[Requirement]:
    """What the project needs, from `pyproject.toml` beside the code or from the installed project's metadata."""
    path = ROOT / "pyproject.toml"
    if path.is_file():
        words = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        words = [word for word in importlib.metadata.requires("kinetune") or () if "extra ==" not in word]
    return [Requirement(word) for word in words]


def installed(required: list[Requirement]) -> dict[str, bool | str | None]:
    """Each requirement, and whether it is met: see `checks.packages`."""
    found: dict[str, bool | str | None] = {}
    for one in required:
        words = f"{one.name}{f'[{chr(44).join(sorted(one.extras))}]' if one.extras else ''}{one.specifier}"
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            found[words] = None
        else:
            found[words] = True if one.specifier.contains(version, prereleases=True) else version
    return found


def present_gpus() -> int:
    """Number of NVIDIA GPUs that the driver shows, whatever PyTorch sees of them."""
    return sum(1 for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal())


def existing(folder: Path) -> Path:
    """A folder, or the nearest one around it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def place_problem(folder: Path) -> str | None:
    """Why runs cannot be written into a folder; None if they can."""
    try:
        check_place(folder / "run")
    except UserError as error:
        return str(error)
    return None


def token_finding(joins: bool) -> Finding:
    """What `checks.token` says of this user's token."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    has_file = path.is_file()
    others = has_file and bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    return checks.token(os.environ.get("RAY_AUTH_MODE"), has_file or "RAY_AUTH_TOKEN" in os.environ, others, joins)


def answers(port: int) -> bool:
    """Whether something on this machine listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def cluster_findings(config: DoctorConfig) -> Iterator[Finding]:
    """The nodes of the cluster that runs already, and their versions."""
    try:
        with connect(config.cluster):
            alive = [node for node in ray.nodes() if node["Alive"]]
            yield checks.nodes([node["Resources"] for node in alive])
            yield checks.versions(versions_of(alive))
    except UserError as error:
        yield checks.startable("cluster", str(error))


def versions_of(alive: list[dict[str, object]]) -> dict[str, dict[str, str]]:
    """Versions of the libraries by node; a node that does not answer in time has none."""
    ask = ray.remote(num_cpus=0)(library_versions)
    asked = {
        str(node["NodeManagerAddress"]): ask.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(str(node["NodeID"]), soft=False)
        ).remote()
        for node in alive
    }
    answered, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=NODE_TIMEOUT_S)
    return {address: ray.get(call) if call in answered else {} for address, call in asked.items()}


def start_problem(config: DoctorConfig) -> str | None:
    """Why a run with the preset or the file could not start here; None if it could. What its dry run prints is
    dropped."""
    model = CONFIGS[config.job]
    given = {"": {"save_dir": config.save_dir / "doctor", **place_of_cluster(config, model)}}
    try:
        settings = cli.load_settings(model, f"jobs.{config.job}", given, preset=config.preset, file=config.config)
        with contextlib.redirect_stdout(io.StringIO()):
            plan_of(config.job)(settings)
    except Exception as error:
        if not is_mendable(error):
            raise
        return str(error)
    return None


def place_of_cluster(config: DoctorConfig, model: type) -> dict[str, str]:
    """The address of the cluster as an option of the training, where it has one."""
    return {"ray_address": config.cluster.ray_address} if "cluster" in model.model_fields else {}
