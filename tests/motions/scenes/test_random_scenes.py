"""The planner on random scenes that can be satisfied."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import scene_planning
from motions.scenes.objects import load_objects


def test_random_scenes_are_solved(capsys: pytest.CaptureFixture[str]) -> None:
    rng, objects = np.random.default_rng(3), load_objects()
    hidden = [scene_planning.random_scene(rng, objects) for _ in range(30)]
    kinds = {one.relation for scene in hidden for one in scene.scene.relations}
    assert kinds == set(scene_planning.NAMES) and max(len(scene.scene.entities) for scene in hidden) == 8
    layouts = [scene_planning.solve(scene, seed=0)[0] for scene in hidden]
    assert sum(layout.is_met for layout in layouts) >= 29
    assert min(scene_planning.lowest(layout) for layout in layouts) > -1e-9
    assert scene_planning.main(["--scenes", "5"]) == 0
    assert "5 scenes with" in capsys.readouterr().out
