"""Videos of environments."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled

from motions.base.atomic import atomic_write
from motions.files.mp4 import mp4_bytes


class RecordVideo(gymnasium.wrappers.RecordVideo):
    """Gymnasium's wrapper of the same name and arguments, whose videos need no MoviePy: PyAV writes them, in H.264.

    Example:
        env = RecordVideo(gymnasium.make("kinetune/DeepMimic-v0", render_mode="rgb_array"), "videos")
    """

    def __init__(self, env: gymnasium.Env[Any, Any], video_folder: str, **options: Any) -> None:
        # That MoviePy can be imported is the last thing that Gymnasium's wrapper checks.
        with suppress(DependencyNotInstalled):
            super().__init__(env, video_folder, **options)

    def stop_recording(self) -> None:
        """Ends the recording and writes its video, if it has a frame."""
        if self.recorded_frames:
            content = mp4_bytes(map(np.asarray, self.recorded_frames), self.frames_per_sec)
            with atomic_write(Path(self.video_folder) / f"{self._video_name}.mp4") as file:
                file.write(content)
        self.recorded_frames, self.recording, self._video_name = [], False, None
        if self.gc_trigger and self.gc_trigger(self.episode_id):
            gc.collect()
