"""The benchmark of scans: what it compares, and when it fails."""

from __future__ import annotations

import pytest

from benchmarks import scan


def test_all_backends_are_compared_with_the_plain_loop() -> None:
    differences = scan.compare(2)
    assert set(differences) == {
        *(f"loop, A [{rows}, {columns}]" for rows in "1H" for columns in "1N"),
        *("ssd, A [1, 1]", "ssd, A [H, 1]"),
    }
    assert max(differences.values()) < scan.MAX_DIFFERENCE


def test_missed_targets_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {"frame loop": 4.0, "loop": 2.0, "loop channel": 2.0, "ssd": 1.0, "transformer": 1.0}
    monkeypatch.setattr(scan, "measure_seconds", lambda batch, repeats: seconds)
    monkeypatch.setattr(scan, "measured_peak", lambda name, batch: 10_000_000 if name == "frame loop" else 2_000_000)
    assert scan.main(["--check", "--cases", "1"]) == 0
    seconds |= {"ssd": 1.25}
    assert scan.main(["--check", "--cases", "1"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "missed: ssd is 3.20x as fast as the frame loop, 0.30 too little; "
        "ssd takes 1.25x the transformer's time, 0.05 too much"
    )
    assert scan.main(["--cases", "1"]) == 0


def test_contenders_of_one_form_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain loop really runs in the contender of that name, and memory is measured."""
    monkeypatch.setattr(scan, "FRAMES", 5)
    calls = []
    plain = scan.frame_loop
    monkeypatch.setattr(scan, "frame_loop", lambda *given: (calls.append(1), plain(*given))[1])
    times = scan.measure_seconds(1, 1)
    assert set(times) == set(scan.CONTENDERS) and min(times.values()) > 0
    assert len(calls) == 2 * scan.LAYERS
    assert scan.peak_bytes("ssd", 1) >= 0
