"""Every fixture is met; a changed, unreadable or unknown one is not; what is not built is pending."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import parity
from benchmarks.fixtures.quantity import Pending, Quantity, compare
from benchmarks.fixtures.registry import FORMATS, find_format

TUNING_LOSSES = ("sigmoid", "relu", "kl_prev_cur", "kl_stats", "direct_py")
PENDING = {
    "motion_critic": {"gru_eval", *(f"tuning_losses/{name}" for name in TUNING_LOSSES)},
}
"""What may be pending in formats that are built, by module of benchmarks/fixtures: parts whose subject is not."""


def humanml_fixture(parity_dir: Path) -> dict:
    for path in parity.fixture_files(parity_dir):
        fixture = parity.load_fixture(path)
        if "humanml" in fixture:
            return dict(fixture)
    pytest.skip(f"no feature fixture in {parity_dir}")


def test_every_fixture_is_met(parity_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["--fixtures", str(parity_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[-1] == "ok" and "features" in line for line in lines)
    assert lines[-1].split(" ok, ")[1].startswith("0 missed")


def test_what_is_built_is_ok_and_never_pending(parity_dir: Path) -> None:
    checked: dict[str, int] = {}
    for path in parity.fixture_files(parity_dir):
        fixture = parity.load_fixture(path)
        name = getattr(find_format(fixture), "__name__", "").rpartition(".")[2]
        entries = list(parity.check_file(path))
        pending = {entry.name for entry in entries if isinstance(entry, Pending)}
        assert pending <= PENDING.get(name, set()), path.name
        assert all(entry.ok for entry in entries if isinstance(entry, Quantity)), path.name
        checked[name] = checked.get(name, 0) + len(entries) - len(pending)
    built = ("deepmimic", "humanml_features", "mdm", "motion_critic", "t2m_evaluator", "tmr")
    assert [name for name in built if not checked.get(name)] == []


def test_a_changed_value_is_a_miss_under_any_file_name(
    parity_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixture = humanml_fixture(parity_dir)
    name = next(iter(fixture["humanml"]["cases"]))
    fixture["humanml"]["cases"][name]["recovered_from_ric"][3, 2, 1] += 1e-2
    torch.save(fixture, tmp_path / "renamed.pt")
    assert parity.main(["--fixtures", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert output.splitlines()[-1].endswith(f"missed: renamed/humanml/{name}/recovered_from_ric")
    assert output.count("MISSED") == 1


def scaled(value: Any) -> Any:
    """The value with every floating-point tensor or array in it 1 % larger."""
    if isinstance(value, torch.Tensor):
        return value * 1.01 if value.is_floating_point() else value
    if isinstance(value, np.ndarray):
        return value * 1.01 if value.dtype.kind == "f" else value
    if isinstance(value, dict):
        return {key: scaled(each) for key, each in value.items()}
    return [scaled(each) for each in value] if isinstance(value, list) else value


def test_every_built_format_misses_a_changed_fixture(
    parity_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in parity.fixture_files(parity_dir):
        entry = find_format(fixture := parity.load_fixture(path))
        if entry is None:
            continue
        changed = tmp_path / f"changed{path.suffix}"
        if path.suffix == ".npz":
            np.savez(changed, **scaled(dict(fixture)))
        else:
            torch.save(scaled(dict(fixture)), changed)
        assert parity.main(["--fixtures", str(tmp_path)]) == 1, path.name
        changed.unlink()
        assert "MISSED" in capsys.readouterr().out, path.name


def test_other_clips_and_lengths_of_a_format_are_met(parity_dir: Path, tmp_path: Path) -> None:
    fixture = humanml_fixture(parity_dir)
    del fixture["kit"]
    cases = fixture["humanml"]["cases"]
    fixture["humanml"]["cases"] = {"another": cases[next(iter(cases))]}
    for key in ("features", "joints"):
        fixture["humanml"]["recover_batch"][key] = fixture["humanml"]["recover_batch"][key][:1, :, :7]
    torch.save(fixture, tmp_path / "short.pt")
    assert parity.main(["--fixtures", str(tmp_path)]) == 0


def test_an_unreadable_file_is_an_error_and_the_others_are_still_checked(
    parity_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.pt").write_bytes(b"not a tensor file")
    (tmp_path / "broken.npz").write_bytes(b"PK not an archive")
    np.savez(tmp_path / "pickled.npz", value=np.array([{}], dtype=object))
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"what": 1}, tmp_path / "unknown.pt")
    torch.save(humanml_fixture(parity_dir), tmp_path / "zz.pt")
    assert parity.main(["--fixtures", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    for name in ("broken.pt", "broken.npz", "pickled.npz", "list.pt", "unknown.pt"):
        assert f"error: {tmp_path / name}: " in captured.err
    assert "zz/humanml/raw_directions" in captured.out
    assert "5 missed" in captured.out


def test_a_fixture_that_lacks_a_part_is_an_error(
    parity_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixture = humanml_fixture(parity_dir)
    del fixture["humanml"]["target_offsets"]
    torch.save(fixture, tmp_path / "partial.pt")
    assert parity.main(["--fixtures", str(tmp_path)]) == 1
    assert "KeyError: 'target_offsets'" in capsys.readouterr().err


def test_a_folder_without_fixtures_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    assert parity.main(["--fixtures", str(tmp_path)]) == 1
    assert "no fixtures" in capsys.readouterr().err
    assert parity.main(["--fixtures", str(tmp_path / "absent")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_at_most_one_format_recognises_a_file(parity_dir: Path) -> None:
    for path in parity.fixture_files(parity_dir):
        fixture = parity.load_fixture(path)
        assert sum(entry.recognises(fixture) for entry in FORMATS) == 1, path.name
        assert find_format(fixture) is not None


def test_compare_is_strict() -> None:
    assert compare("x", [1.0, 2.0], np.array([1.0, 2.5]), 0.1) == Quantity("x", 0.5, 0.1)
    assert not compare("x", torch.ones(2), torch.ones(1), 1.0).ok
    assert not compare("x", float("nan"), 0.0, 1.0).ok
    assert not compare("x", float("nan"), float("nan"), 1.0).ok
    assert compare("x", torch.tensor([True]), [True], 0.0).ok
    assert compare("x", float("-inf"), float("-inf"), 0.0).ok
    assert "pending: later" in parity.format_line("file", Pending("x", "later"))
