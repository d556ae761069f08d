"""Renders a recorded scene with MuJoCo, without a screen; `jobs.scenes.filming` runs it as a process of its own.

    MUJOCO_GL=egl python -m jobs.scenes.offscreen task.npz pictures.npz

`task.npz` holds `model` (MJCF text whose bodies are all moved by hand), `poses` [T, K, B, 7] (K moments while the
shutter is open), `eyes` and `targets` [T, 3], `size` (width, height). Written are `pictures` [T, H, W, 3] uint8, the
mean of the K moments, and `depths` [T, H, W] float16, metres, of the middle one. Exit code 1 with a traceback if there
is no GL library.
"""

from __future__ import annotations

import sys

import numpy as np

from envs.body.mujoco_import import mujoco
from motions.film import motion_blur


def main(task: str, target: str) -> None:
    """Reads the task and writes the pictures."""
    with np.load(task) as content:
        model = mujoco.MjModel.from_xml_string(str(content["model"]))
        poses, eyes, targets = content["poses"], content["eyes"], content["targets"]
        width, height = content["size"].tolist()
    data, camera = mujoco.MjData(model), mujoco.MjvCamera()
    renderer = mujoco.Renderer(model, height=height, width=width)
    pictures = np.zeros((len(poses), height, width, 3), np.uint8)
    depths = np.zeros((len(poses), height, width), np.float16)
    for frame, moments in enumerate(poses):
        ahead = targets[frame] - eyes[frame]
        camera.lookat[:], camera.distance = targets[frame], np.linalg.norm(ahead)
        camera.azimuth = np.degrees(np.arctan2(ahead[1], ahead[0]))
        camera.elevation = np.degrees(np.arctan2(ahead[2], np.hypot(ahead[0], ahead[1])))
        taken = []
        for number, bodies in enumerate(moments):
            data.mocap_pos[:], data.mocap_quat[:] = bodies[:, :3], bodies[:, 3:]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            taken.append(renderer.render())
            if number == len(moments) // 2:
                renderer.enable_depth_rendering()
                depths[frame] = np.minimum(renderer.render(), 1000.0)
                renderer.disable_depth_rendering()
        pictures[frame] = motion_blur(np.stack(taken)) + 0.5
    np.savez(target, allow_pickle=False, pictures=pictures, depths=depths)
    renderer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
