"""Each check of `jobs.doctor` with and without what it looks for, and one look at this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from jobs import doctor
from jobs.command_line import main as cli
from jobs.service import checks
from jobs.service.checks import Finding
from jobs.service.doctor import installed, start_problem
from jobs.trainings.doctor import DoctorConfig


@pytest.mark.parametrize(
    ("good", "bad", "remedy"),
    [
        (checks.python((3, 11, 2)), checks.python((3, 10, 9)), "Python 3.11"),
        (
            checks.packages({"ray>=2.60": True}),
            checks.packages({"ray>=2.60": "2.9", "optuna>=4": None}),
            "'ray>=2.60' 'optuna>=4'",
        ),
        (checks.graphics("2.13.0+cpu", 0, 0), checks.graphics("2.13.0+cpu", 0, 2), "CUDA build"),
        (checks.graphics("2.13.0+cu128", 2, 2), checks.graphics("2.13.0+cu128", 1, 2), "CUDA_VISIBLE_DEVICES"),
        (checks.amount("disk", 6e9, 5e9, "Free some"), checks.amount("disk", 4e9, 5e9, "Free some"), "Free some"),
        (checks.open_files(-1), checks.open_files(1024), "ulimit -n"),
        (checks.token(None, True, False, True), checks.token(None, False, False, True), "RAY_AUTH_MODE=token"),
        (checks.token(None, False, False, False), checks.token(None, True, True, False), "chmod 600"),
        (checks.token("token", True, False, True), checks.token("disabled", True, False, True), "unset it"),
        (checks.ports([8265]), checks.ports([52365]), "--dashboard-agent-listen-port 52366"),
        (checks.upload(3.0, 200.0, "/a"), checks.upload(300.0, 200.0, "/a"), ".rayignore"),
        (checks.rights("/a", None), checks.rights("/a", "/a is not writable"), "--save_dir"),
        (checks.nodes([{"CPU": 4.0}]), checks.nodes([]), "ray start --head"),
        (
            checks.versions({"a": {"torch": "2.8"}, "b": {"torch": "2.8"}}),
            checks.versions({"a": {"torch": "2.8"}, "b": {"torch": "2.9"}, "c": {"torch": "2.8"}}),
            "Install the same",
        ),
        (checks.startable("run", None), checks.startable("run", "no such file"), "Mend this"),
    ],
)
def test_a_lack_has_a_remedy_on_its_line(good: Finding, bad: Finding, remedy: str) -> None:
    assert not good.remedy and good.line.startswith("ok ")
    assert remedy in bad.line and bad.line.startswith("lacking ") and "\n" not in bad.line


def test_differing_versions_are_named_with_their_nodes() -> None:
    found = checks.versions({"10.0.0.1": {"torch": "2.8"}, "10.0.0.2": {}, "10.0.0.3": {"torch": "2.8"}})
    assert found.found == "torch 2.8 on 10.0.0.1 10.0.0.3, none on 10.0.0.2"


def test_requirements_are_compared_with_what_is_installed() -> None:
    found = installed([Requirement("numpy>=1.26"), Requirement("numpy>=99"), Requirement("no-such-package[x]>=1")])
    assert found["numpy>=1.26"] is True
    assert isinstance(found["numpy>=99"], str)
    assert found["no-such-package[x]>=1"] is None


def test_the_machine_is_examined_and_what_lacks_sets_the_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a_file"
    file.touch()
    argv = ["--save_dir", str(file), "--ray_address", "local"]
    assert cli.main(DoctorConfig, doctor.run, doctor.__doc__, "jobs.doctor", argv=argv, outputs=()) == 2
    printed = capsys.readouterr()
    for what in ("Python", "packages", "GPU", "memory", "open files", "disk of the runs", "token", "ports", "upload"):
        assert f"{what}:" in printed.out
    assert "lacking  run folder" in printed.out
    assert "run folder" in printed.err


def test_a_run_that_cannot_start_is_told_why(tmp_path: Path) -> None:
    options = tmp_path / "options.yaml"
    options.write_text(f"motion: [{tmp_path}/no_clip.txt]\n")
    config = DoctorConfig.of(job="sft", config=options, save_dir=tmp_path, ray_address="local")
    problem = start_problem(config)
    assert problem is not None and "no_clip.txt" in problem
    options.write_text("motion: [walk]\nruntime: local\nhidden_size: [8]\n")
    assert start_problem(config) is None
