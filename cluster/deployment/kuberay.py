"""Manifests for KubeRay 1.7 (https://ray-project.github.io/kuberay): a cluster, or a job with a cluster of its own.

Choices: the head runs the driver and no actor; each kind of actor has a worker group of its own, which the autoscaler
lets grow and shrink; run directories lie on a volume that all pods mount; Ray's token comes from a secret; nothing runs
as root. The images hold dependencies only, so that the code that a job brings is the only copy of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.deployment.groups import MachineGroup

API_VERSION = "ray.io/v1"
SHARED = "/shared"
"""Where the volume of the run directories is mounted."""
USER_ID = 1000
RAY_VERSION = "2.60.0"


@dataclass(frozen=True, slots=True)
class Site:
    """What a manifest needs to know of the place where it runs."""

    name: str
    namespace: str
    image: str
    """Image of the pods without GPU."""
    gpu_image: str
    claim: str
    """Name of the volume claim for run directories; several pods write to it (ReadWriteMany)."""
    token_secret: str
    """Name of the secret with Ray's token."""
    most_machines: int
    """Upper bound of each worker group."""


def ray_cluster(site: Site, head: MachineGroup, groups: Sequence[MachineGroup]) -> dict[str, Any]:
    """A `RayCluster` that stays, to which jobs are submitted."""
    return {
        "apiVersion": API_VERSION,
        "kind": "RayCluster",
        "metadata": {"name": site.name, "namespace": site.namespace},
        "spec": cluster_spec(site, head, groups),
    }


def ray_job(
    site: Site, head: MachineGroup, groups: Sequence[MachineGroup], entrypoint: str, code: str, retries: int
) -> dict[str, Any]:
    """A `RayJob`: a cluster that is made for one run and taken down after it.

    Args:
        entrypoint: the command line of the run; it must be able to start again (`--resume`).
        code: address of a .zip with the code, which Ray fetches.
        retries: how often a job that failed is started again, with a new cluster.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": "RayJob",
        "metadata": {"name": site.name, "namespace": site.namespace},
        "spec": {
            "entrypoint": entrypoint,
            "runtimeEnvYAML": f"working_dir: {code}\n",
            "backoffLimit": retries,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": cluster_spec(site, head, groups),
        },
    }


def cluster_spec(site: Site, head: MachineGroup, groups: Sequence[MachineGroup]) -> dict[str, Any]:
    """The part that both kinds of manifest have in common."""
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token", "secretName": site.token_secret},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"upscalingMode": "Default", "idleTimeoutSeconds": 300, "version": "v2"},
        "headGroupSpec": {
            # No CPUs for actors: what the head has is for the driver and for Ray's own processes.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": _pod(site, "ray-head", head, HEAD_PORTS),
        },
        "workerGroupSpecs": [
            {
                "groupName": group.name,
                "replicas": group.machines,
                "minReplicas": 0,
                "maxReplicas": max(group.machines, site.most_machines),
                "rayStartParams": {},
                "template": _pod(site, "ray-worker", group, WORKER_PORTS),
            }
            for group in groups
        ],
    }


HEAD_PORTS = {"gcs": 6379, "dashboard": 8265, "metrics": 8080}
WORKER_PORTS = {"metrics": 8080}


def _pod(site: Site, container: str, group: MachineGroup, ports: dict[str, int]) -> dict[str, Any]:
    resources: dict[str, Any] = {"cpu": str(group.cpus), "memory": f"{group.memory_gb}Gi"}
    if group.gpus:
        resources["nvidia.com/gpu"] = str(group.gpus)
    return {
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": USER_ID, "fsGroup": USER_ID},
            "containers": [
                {
                    "name": container,
                    "image": site.gpu_image if group.gpus else site.image,
                    "ports": [{"containerPort": port, "name": name} for name, port in ports.items()],
                    "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
                    "resources": {"requests": resources, "limits": dict(resources)},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [
                        {"name": "runs", "mountPath": SHARED},
                        {"name": "objects", "mountPath": "/dev/shm"},
                    ],
                }
            ],
            "volumes": [
                {"name": "runs", "persistentVolumeClaim": {"claimName": site.claim}},
                # Kubernetes gives a pod 64 MB of shared memory; Ray's object store needs a third of the memory.
                {
                    "name": "objects",
                    "emptyDir": {"medium": "Memory", "sizeLimit": f"{max(1, group.memory_gb // 3)}Gi"},
                },
            ],
        }
    }
