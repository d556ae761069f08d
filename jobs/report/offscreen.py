"""Renders states of a MuJoCo model without a screen; `jobs.report.character` runs it as a process of its own.

    MUJOCO_GL=egl python -m jobs.report.offscreen task.npz pictures.npz 400 400

`task.npz` holds `model` (MJCF text) and `states0`, `states1`, ... [T, nq]; the images are written to `pictures.npz` as
`pictures0`, ... [T, height, width, 3] uint8. Exit code 1 with a traceback if there is no GL library.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from envs.body.mujoco_import import Model, mujoco

SKY = '<asset><texture type="skybox" builtin="flat" rgb1="0.98 0.98 0.97" rgb2="0.98 0.98 0.97" width="8" height="8"/>'
CAMERA = {"distance": 2.9, "azimuth": 65.0, "elevation": -12.0}


def main(task: str, target: str, width: int, height: int) -> None:
    """Reads the task and writes the images."""
    with np.load(task) as content:
        model = mujoco.MjModel.from_xml_string(str(content["model"]).replace("<asset>", SKY, 1))
        sequences = [content[f"states{index}"] for index in range(len(content.files) - 1)]
    renderer = mujoco.Renderer(model, height=height, width=width)
    pictures = {f"pictures{index}": render(renderer, model, states) for index, states in enumerate(sequences)}
    np.savez(target, allow_pickle=False, **pictures)
    renderer.close()


def render(renderer: Any, model: Model, states: np.ndarray) -> np.ndarray:
    """Images of the states; the camera follows the character."""
    data, camera = mujoco.MjData(model), mujoco.MjvCamera()
    camera.distance, camera.azimuth, camera.elevation = CAMERA["distance"], CAMERA["azimuth"], CAMERA["elevation"]
    pictures = []
    for state in states:
        data.qpos[:] = state
        mujoco.mj_forward(model, data)
        camera.lookat[:] = (state[0], state[1], 0.85)
        renderer.update_scene(data, camera)
        pictures.append(renderer.render())
    return np.stack(pictures)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
