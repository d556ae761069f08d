"""What `jobs.deploy` prints: machines for what a run reserves, and the manifests and scripts made of them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.deployment.groups import MachineGroup, Reservation, machine_groups
from cluster.deployment.slurm import slurm_script
from jobs.command_line import main as cli
from jobs.service.deploying import written
from jobs.trainings.deploy import DeployConfig
from motions.base.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def deployed(*words: str) -> str:
    return written(cli.parse(DeployConfig, words, "jobs.deploy").settings)


def test_every_kind_of_actor_has_machines_of_its_own() -> None:
    groups = machine_groups([Reservation("rollout", 3, 0.5, 0.0), Reservation("learner", 1, 4.0, 2.0)], 4)
    assert groups == [MachineGroup("rollout", 3, 1, 0, 4), MachineGroup("learner", 1, 4, 2, 4)]


def test_actors_that_take_fractions_of_a_gpu_share_it() -> None:
    """0.6 and 0.3 share a card, the second 0.6 has another: two thirds would not fit beside it."""
    given = [Reservation("rollout", 2, 1.0, 0.6), Reservation("reward", 1, 0.5, 0.3), Reservation("x", 1, 1.0, 0.0)]
    assert machine_groups(given, 4) == [MachineGroup("gpu", 2, 2, 1, 8), MachineGroup("x", 1, 1, 0, 4)]
    with pytest.raises(UserError, match="above 1 only whole numbers"):
        machine_groups([Reservation("learner", 1, 1.0, 1.5)], 4)


def groups_in(text: str) -> dict[str, dict[str, Any]]:
    spec = yaml.safe_load(text)["spec"]
    return {group["groupName"]: group for group in spec.get("rayClusterSpec", spec)["workerGroupSpecs"]}


def container(group: dict[str, Any]) -> dict[str, Any]:
    return group["template"]["spec"]["containers"][0]


def test_a_job_has_groups_for_the_actors_of_its_preset() -> None:
    groups = groups_in(deployed("kuberay", "--preset", "demo", "--set", "num_rollout_actors=5"))
    assert {name: group["replicas"] for name, group in groups.items()} == {"rollout": 5, "reward": 2, "learner": 1}
    two = groups_in(deployed("kuberay", "--preset", "demo", "--set", "num_learners=2"))
    assert two["learner"]["replicas"] == 2
    shared = groups_in(deployed("kuberay", "--preset", "single_gpu"))
    assert list(shared) == ["gpu"] and shared["gpu"]["replicas"] == 1
    assert container(shared["gpu"])["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container(shared["gpu"])["image"] == "kinetune:cuda"


def test_a_job_can_be_started_again_on_shared_storage() -> None:
    text = deployed("kuberay", "--preset", "demo", "--name", "mine", "--set", "num_steps=7", "--retries", "2")
    spec = yaml.safe_load(text)["spec"]
    words = shlex.split(spec["entrypoint"])
    assert words[:3] == ["python", "-m", "jobs.grpo"]
    assert {"--resume", "--num_steps=7", "/shared/runs/mine"} <= set(words) and spec["backoffLimit"] == 2
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "kinetune-token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
        assert {"name": "runs", "mountPath": "/shared"} in container(group)["volumeMounts"]


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        (("--job", "sft", "--set", "motion=[walk]", "num_workers=3"), {"worker": 3}),
        (("--job", "trpo", "--set", "num_env_runners=4", "num_learners=2"), {"runner": 4, "learner": 2}),
        (("--job", "pretrain", "--preset", "pretrain_small"), {}),
    ],
)
def test_other_trainings_have_their_own_groups(words: tuple[str, ...], groups: dict[str, int]) -> None:
    found = groups_in(deployed("kuberay-cluster", *words))
    assert {name: group["replicas"] for name, group in found.items()} == groups


def test_a_slurm_script_is_one_that_bash_reads(tmp_path: Path) -> None:
    groups = [MachineGroup("rollout", 4, 1, 0, 4), MachineGroup("learner", 1, 2, 1, 8)]
    text = slurm_script("mine", groups, ["python", "-m", "jobs.grpo", "--save_dir", "/shared/a b"], 3)
    assert "--nodes=4\n" in text and "--gpus-per-node=1\n" in text and "--cpus-per-task=5\n" in text
    assert "'/shared/a b' &" in text and "--time=3:00:00" in text
    script = tmp_path / "job.sh"
    script.write_text(text)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_mistakes_of_a_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (("slurm", "--preset", "demo"), "save_dir is required"),
        (("kuberay", "--save_dir", "runs/mine"), "is relative"),
        (("kuberay", "--name", "Mine"), "--name Mine"),
        (("kuberay", "--set", "num_stps=4"), "did you mean --num_steps"),
        (("nomad",), "expected one of kuberay, kuberay-cluster, slurm"),
    ):
        code = cli.main(DeployConfig, lambda config: print(written(config)), "", "jobs.deploy", argv=list(words))
        assert code == 2 and message in capsys.readouterr().err


SHIPPED = {
    "kuberay/job.yaml": ("kuberay", "--preset", "demo", "--name", "kinetune-demo"),
    "kuberay/cluster.yaml": ("kuberay-cluster", "--preset", "demo"),
    "slurm.sh": ("slurm", "--preset", "demo", "--save_dir", "/shared/runs/demo"),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_manifests_are_what_the_command_prints(name: str) -> None:
    assert (ROOT / "docker" / name).read_text(encoding="utf-8") == deployed(*SHIPPED[name])


def test_images_hold_what_the_project_needs_and_do_not_run_as_root() -> None:
    printed = subprocess.run(
        ["python3", str(ROOT / "docker" / "dependencies.py"), str(ROOT / "pyproject.toml")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert any(line.startswith("ray[") for line in printed) and any(line.startswith("torch") for line in printed)
    for name in ("cpu", "cuda"):
        lines = (ROOT / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8").splitlines()
        assert "USER ray" in lines and not any(line.startswith("COPY . ") for line in lines)


def test_compose_keeps_its_ports_to_the_machine_and_needs_a_token() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    for name in ("head", "worker"):
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token" and services[name]["cap_drop"] == ["ALL"]
    for service in services.values():
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            assert not source.startswith(".") or (ROOT / "docker" / source).exists(), source


@pytest.fixture(scope="module")
def schemas() -> Path:
    """KubeRay's schemas; `KINETUNE_SCHEMAS` names their folder."""
    folder = Path(os.environ.get("KINETUNE_SCHEMAS", ROOT.parent / "shared" / "schemas"))
    if not folder.is_dir():
        pytest.skip(f"no schemas in {folder} (set KINETUNE_SCHEMAS)")
    return folder


def strict(schema: Any) -> Any:
    """A schema of Kubernetes for a JSON validator: unknown keys are errors, which Kubernetes drops in silence."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {key: strict(value) for key, value in schema.items() if key not in ("format", "default")}
    closed = "properties" in kept and isinstance(kept["properties"], dict) and kept.get("type") == "object"
    if closed and "additionalProperties" not in kept and not kept.get("x-kubernetes-preserve-unknown-fields"):
        kept["additionalProperties"] = False
    return kept


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (SHIPPED["kuberay/job.yaml"], "rayjob"),
        (SHIPPED["kuberay/cluster.yaml"], "raycluster"),
        (("kuberay", "--preset", "single_gpu"), "rayjob"),
    ],
)
def test_manifests_fit_kuberays_schemas(words: tuple[str, ...], kind: str, schemas: Path) -> None:
    schema = strict(json.loads((schemas / f"kuberay_v1.7.0_{kind}_v1.json").read_text(encoding="utf-8")))
    # `jsonschema.validate` would check the schema itself each time, which takes a minute.
    validator = jsonschema.Draft202012Validator(schema)
    manifest = yaml.safe_load(deployed(*words))
    assert [error.message for error in validator.iter_errors(manifest)] == []
    manifest["spec"]["rayClustrSpec"] = {}
    assert ["rayClustrSpec" in error.message for error in validator.iter_errors(manifest)] == [True]
