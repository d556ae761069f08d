"""The checks of `jobs.doctor`: functions of what was measured, so that each can be tested without the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LEAST_PYTHON = (3, 11)
LEAST_SHARED_BYTES = 2 * 10**9
LEAST_DISK_BYTES = 5 * 10**9
LEAST_MEMORY_BYTES = 4 * 10**9
LEAST_OPEN_FILES = 4096
AGENT_PORT = 52365
DASHBOARD_PORT = 8265


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    what: str
    found: str
    remedy: str = ""
    """What to do; empty where nothing is lacking."""

    @property
    def line(self) -> str:
        """The finding on one line."""
        mark = "lacking" if self.remedy else "ok"
        return f"{mark:<8} {self.what}: {self.found}" + (f". {self.remedy}" if self.remedy else "")


def python(version: tuple[int, int, int]) -> Finding:
    """The interpreter's version."""
    shown = ".".join(map(str, version))
    if version[:2] < LEAST_PYTHON:
        return Finding("Python", shown, "Use Python 3.11 or later: make PYTHON=python3.11 .venv")
    return Finding("Python", shown)


def packages(required: Mapping[str, bool | str | None]) -> Finding:
    """What is installed of what the project needs.

    Args:
        required: requirement as pip writes it -> True where it is met, the version that is there where that is another
            one, None where there is none.
    """
    missing = [name for name, found in required.items() if found is None]
    others = [f"{name} (there is {found})" for name, found in required.items() if isinstance(found, str)]
    if not missing and not others:
        return Finding("packages", f"all {len(required)} that are needed")
    words = [f"without {', '.join(missing)}"] if missing else []
    words += [f"of other versions than {', '.join(others)}"] if others else []
    wrong = [name for name, found in required.items() if found is not True]
    install = " ".join(f"'{name}'" for name in wrong)
    return Finding("packages", "; ".join(words), f"Install them: pip install -c constraints.txt {install}")


def graphics(torch_build: str, num_usable: int, num_present: int) -> Finding:
    """PyTorch and the GPUs of the machine.

    Args:
        torch_build: version of PyTorch, such as `2.13.0+cpu`.
        num_usable: GPUs that PyTorch can use.
        num_present: GPUs that the driver shows.
    """
    found = f"PyTorch {torch_build}, {num_usable} GPU usable of {num_present} present"
    if num_usable >= num_present:
        return Finding("GPU", found)
    if "+cpu" in torch_build:
        return Finding("GPU", found, "Install PyTorch's CUDA build: see https://pytorch.org/get-started/locally")
    return Finding("GPU", found, "Check CUDA_VISIBLE_DEVICES, and that the driver is as new as PyTorch's CUDA")


def amount(what: str, there: float, least: float, remedy: str) -> Finding:
    """Something of which there must be so many bytes."""
    found = f"{there / 1e9:.1f} GB"
    return Finding(what, found, "" if there >= least else f"At least {least / 1e9:g} GB are wanted. {remedy}")


def open_files(limit: int) -> Finding:
    """How many files a process may have open; each actor takes some dozens in Ray's own processes."""
    remedy = "" if limit >= LEAST_OPEN_FILES or limit < 0 else f"Raise it before Ray starts: ulimit -n {2**16}"
    return Finding("open files", "unlimited" if limit < 0 else f"up to {limit}", remedy)


def token(mode: str | None, has_token: bool, readable_by_others: bool, joins: bool) -> Finding:
    """Ray's authentication token.

    Args:
        mode: of `RAY_AUTH_MODE`, if it is set.
        has_token: whether a token is in the environment or in its file.
        joins: whether a cluster that runs already will be used.
    """
    if mode == "disabled":
        return Finding(
            "token", "RAY_AUTH_MODE=disabled", "Whoever reaches the cluster's ports can run code on it: unset it"
        )
    if readable_by_others:
        return Finding("token", "others can read ~/.ray/auth_token", "Run chmod 600 ~/.ray/auth_token")
    if joins and not has_token:
        return Finding(
            "token", "none", "Copy the head's ~/.ray/auth_token here, and set RAY_AUTH_MODE=token for ray job submit"
        )
    return Finding("token", "there is one" if has_token else "none yet; one is made with the first cluster")


def ports(taken: Iterable[int]) -> Finding:
    """Fixed ports of Ray that something uses already."""
    used = set(taken)
    if AGENT_PORT in used:
        return Finding(
            "ports",
            f"{AGENT_PORT} is taken",
            "If that is no cluster of yours, jobs submitted here get no agent: start Ray with "
            f"--dashboard-agent-listen-port {AGENT_PORT + 1}",
        )
    if DASHBOARD_PORT in used:
        return Finding(
            "ports", f"{DASHBOARD_PORT} is taken; the dashboard of a new cluster will have the next free one"
        )
    return Finding("ports", f"{DASHBOARD_PORT} and {AGENT_PORT} are free")


def upload(megabytes: float, most: float, folder: str) -> Finding:
    """Size of what `ray job submit --working-dir .` sends."""
    found = f"{megabytes:.1f} MB from {folder}"
    return Finding(
        "upload", found, "" if megabytes <= most else f"More than {most:g} MB: name what is no code in .rayignore"
    )


def rights(folder: str, problem: str | None) -> Finding:
    """Whether runs can be written."""
    return Finding("run folder", folder if problem is None else problem, "" if problem is None else "Choose --save_dir")


def versions(nodes: Mapping[str, Mapping[str, str]]) -> Finding:
    """Whether all nodes of a cluster have the same versions.

    Args:
        nodes: address -> library -> version.
    """
    differing = {
        name: {address: found.get(name, "none") for address, found in nodes.items()}
        for name in sorted({name for found in nodes.values() for name in found})
        if len({found.get(name, "none") for found in nodes.values()}) > 1
    }
    if not differing:
        return Finding("versions", f"the same on {len(nodes)} nodes")
    words = [f"{name} {_by_value(found)}" for name, found in differing.items()]
    return Finding("versions", "; ".join(words), "Install the same on every node: pip install -c constraints.txt")


def nodes(there: Sequence[Mapping[str, float]]) -> Finding:
    """The nodes of a cluster that are alive."""
    totals = {name: sum(node.get(name, 0.0) for node in there) for name in ("CPU", "GPU")}
    found = f"{len(there)} with {totals['CPU']:g} CPU and {totals['GPU']:g} GPU together"
    return Finding("nodes", found, "" if there else "Start Ray on them: ray start --head")


def startable(what: str, problem: str | None) -> Finding:
    """Whether a run could start."""
    return Finding(
        what,
        "could start" if problem is None else re.sub(r"\s+", " ", problem).rstrip("."),
        "" if problem is None else "Mend this, then ask again",
    )


def _by_value(found: Mapping[str, str]) -> str:
    groups: dict[str, list[str]] = {}
    for address, version in found.items():
        groups.setdefault(version, []).append(address)
    return ", ".join(f"{version} on {' '.join(addresses)}" for version, addresses in groups.items())
