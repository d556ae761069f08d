"""Videos of an environment need no MoviePy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
import pytest

from envs import RecordVideo


class Clock(gymnasium.Env[np.ndarray, int]):
    """Shows the step's number by its brightness; an episode has 5 steps."""

    observation_space = gymnasium.spaces.Box(0, 9, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
        self.render_mode = "rgb_array"
        self.now = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.now = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.now += 1
        return np.full(1, self.now, np.float32), 0.0, self.now == 5, False, {}

    def render(self) -> np.ndarray:
        return np.full((48, 65, 3), 40 * self.now, np.uint8)


def play(env: gymnasium.Env[np.ndarray, int], episodes: int) -> None:
    for _ in range(episodes):
        env.reset(seed=0)
        while not env.step(0)[2]:
            pass
    env.close()


def brightness(path: Path) -> tuple[list[int], float]:
    """Of each frame, and the frames per second."""
    with av.open(str(path)) as video:
        rate = video.streams.video[0].average_rate
        assert rate is not None
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert {picture.shape for picture in pictures} == {(48, 64, 3)}
    return [round(float(picture.mean()) / 40) for picture in pictures], float(rate)


@pytest.fixture(autouse=True)
def no_moviepy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moviepy", None)


def test_episodes_are_recorded_frame_by_frame(tmp_path: Path) -> None:
    play(RecordVideo(Clock(), str(tmp_path / "videos"), episode_trigger=lambda number: number == 1), 3)
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["rl-video-episode-1.mp4"]
    assert brightness(tmp_path / "videos" / "rl-video-episode-1.mp4") == ([0, 1, 2, 3, 4, 5], 30.0)


def test_gymnasium_s_options_work(tmp_path: Path) -> None:
    options = {"step_trigger": lambda step: step == 3, "video_length": 2, "name_prefix": "clip", "fps": 10}
    play(RecordVideo(Clock(), str(tmp_path / "videos"), **options), 1)
    assert brightness(tmp_path / "videos" / "clip-step-3.mp4")[1] == 10.0
