"""Paints a recorded scene by Stable Diffusion with a ControlNet for poses: what `jobs.enhance` does.

Sources: Rombach et al. 2022 (latent diffusion), Zhang et al. 2023 (ControlNet), Guo et al. 2023 (AnimateDiff).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from envs.body.mujoco_model import PARTS
from envs.settings import BODY_NAMES
from jobs.films.settings import EnhanceConfig, PaintingSettings
from jobs.scenes.cameras import FIELD_DEG, View
from jobs.scenes.filming import Take, poses_between, prepare, times_of, view_of
from jobs.scenes.parsing import check_free
from jobs.scenes.settings import FilmSettings
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.optional import optional
from motions.files.mp4 import mp4_bytes
from motions.pose_maps import NUM_POINTS, pose_map
from motions.skeleton.rotations import quat_rotate
from rollouts.devices import resolve_device

ENHANCED, POSES, POSTER = "enhanced.mp4", "poses.mp4", "enhanced.png"
_FILES = (ENHANCED, POSES, POSTER)
_POINTS = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)
"""OpenPose's key points."""
_FACE = {
    "nose": (1.0, 0.0, 0.0),
    "right_eye": (0.85, -0.35, 0.35),
    "left_eye": (0.85, 0.35, 0.35),
    "right_ear": (0.0, -1.0, 0.1),
    "left_ear": (0.0, 1.0, 0.1),
}
"""From the centre of the head, ahead, to the left and up, in radii of the head."""
_SHEET = 6
_MULTIPLE = 8
"""Sizes of pictures are multiples of this many pixels, the reduction of Stable Diffusion's latent space."""


def run(config: EnhanceConfig) -> None:
    """Writes the film, the pictures of the poses, and a sheet of frames."""
    take = _check(config)
    folder = config.files.save_dir or config.files.simulation
    pipeline = load_pipeline(config.painting)
    maps = pose_maps(take, config.pictures.film)
    prompt = config.painting.prompt or take.scene.text
    frames = painted(pipeline, maps, prompt, config.painting)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"save_dir {folder}: {error.strerror}") from error
    for name, pictures in ((ENHANCED, frames), (POSES, maps)):
        with atomic_write(folder / name) as file:
            file.write(mp4_bytes(pictures, config.pictures.fps))
    chosen = np.linspace(0, len(frames) - 1, _SHEET).round().astype(int)
    sheet = np.concatenate([np.concatenate([row[place] for place in chosen], axis=1) for row in (maps, frames)], axis=0)
    content = io.BytesIO()
    Image.fromarray(sheet).save(content, "PNG")
    with atomic_write(folder / POSTER) as file:
        file.write(content.getvalue())
    print(f"{len(frames)} frames of {prompt!r}")
    print("\n".join(str(folder / name) for name in _FILES))


def plan(config: EnhanceConfig) -> None:
    """Checks the recording and that the models' library is there, and prints what would be painted."""
    take = _check(config)
    folder = config.files.save_dir or config.files.simulation
    film = config.pictures.film
    prompt = config.painting.prompt or take.scene.text
    print(f"{len(times_of(take, film))} frames of {film.width} x {film.height}: {prompt!r}")
    print(f"would write {', '.join(str(folder / name) for name in _FILES)}")


def _check(config: EnhanceConfig) -> Take:
    """The recording.

    Raises:
        UserError: results exist, diffusers is missing, a size is no multiple of 8, there is no prompt, nobody acts in
            the scene, or whatever `jobs.scenes.filming.prepare` finds.
    """
    check_free(config.files.save_dir or config.files.simulation, _FILES, None, overwrite=config.files.overwrite)
    for name in ("width", "height"):
        if (size := getattr(config.pictures, name)) % _MULTIPLE:
            raise UserError(f"{name} is {size}; expected a multiple of {_MULTIPLE}")
    take = prepare(config.files)
    if not take.bodies.shape[1]:
        raise UserError("nobody acts in this scene, so there are no poses to paint")
    if not (config.painting.prompt or take.scene.text).strip():
        raise UserError("the scene has no text: give --prompt")
    optional("diffusers", "enhance", "jobs.enhance")
    resolve_device(config.painting.device)
    return take


def key_points(bodies: np.ndarray) -> np.ndarray:
    """OpenPose's key points [..., 18, 3] of humanoids' bodies [..., 15, 7], in the same space."""
    places, turns = bodies[..., :3], bodies[..., 3:]
    head = BODY_NAMES.index("neck")
    radius = PARTS["neck"].size[0]
    found = np.zeros((*bodies.shape[:-2], NUM_POINTS, 3))
    for number, name in enumerate(_POINTS):
        if name == "neck":
            shoulders = [BODY_NAMES.index("right_shoulder"), BODY_NAMES.index("left_shoulder")]
            found[..., number, :] = places[..., shoulders, :].mean(axis=-2)
        elif name in _FACE:
            offset = np.array(PARTS["neck"].centre) + radius * np.array(_FACE[name])
            turned = quat_rotate(torch.from_numpy(turns[..., head, :]), torch.from_numpy(offset)).numpy()
            found[..., number, :] = places[..., head, :] + turned
        else:
            found[..., number, :] = places[..., BODY_NAMES.index(name), :]
    return found


def projected(points: np.ndarray, view: View, frame: int, width: int, height: int) -> np.ndarray:
    """Places in pixels [..., 2] of points [..., 3] as the camera of a frame sees them; NaN behind the camera."""
    ahead = view.targets[frame] - view.eyes[frame]
    ahead = ahead / np.linalg.norm(ahead)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right = right / np.linalg.norm(right)
    seen = (points - view.eyes[frame]) @ np.stack((right, np.cross(right, ahead), ahead), axis=1)
    depth = np.where(seen[..., 2] > 1e-3, seen[..., 2], np.nan)
    focus = height / 2 / np.tan(np.radians(FIELD_DEG) / 2)
    return np.stack((width / 2 + focus * seen[..., 0] / depth, height / 2 - focus * seen[..., 1] / depth), axis=-1)


def pose_maps(take: Take, film: FilmSettings) -> list[np.ndarray]:
    """Pictures of the humanoids' poses, one for each frame of the film."""
    times = times_of(take, film)
    view = view_of(take, times, film)
    bodies = poses_between(take.bodies.reshape(len(take.bodies), -1, 7), times * take.fps)
    points = key_points(bodies.reshape(len(times), -1, len(BODY_NAMES), 7))
    size = (film.width, film.height)
    return [pose_map(projected(own, view, frame, *size), *size) for frame, own in enumerate(points)]


def load_pipeline(settings: PaintingSettings) -> Any:
    """A pipeline of diffusers on its device.

    Raises:
        UserError: diffusers is missing, or a model cannot be found, is of another kind or has no safetensors.
    """
    diffusers = optional("diffusers", "enhance", "jobs.enhance")
    diffusers.utils.logging.disable_progress_bar()
    parts = {"controlnet": _loaded(diffusers.ControlNetModel, "controlnet", settings.controlnet)}
    kind = diffusers.StableDiffusionControlNetPipeline
    if settings.motion_adapter is not None:
        parts["motion_adapter"] = _loaded(diffusers.MotionAdapter, "motion_adapter", settings.motion_adapter)
        kind = diffusers.AnimateDiffControlNetPipeline
    else:
        # What it does to pictures of skeletons is not foreseeable; nothing here comes from strangers.
        parts["safety_checker"] = None
    pipeline = _loaded(kind, "base_model", settings.base_model, **parts)
    pipeline.scheduler = diffusers.UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(resolve_device(settings.device))


def _loaded(kind: Any, name: str, place: str, **parts: Any) -> Any:
    try:
        return kind.from_pretrained(place, use_safetensors=True, **parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{name} {place} is no {kind.__name__} that can be loaded: {str(error).strip()[:300]}"
        ) from error


@torch.inference_mode()
def painted(pipeline: Any, maps: Sequence[np.ndarray], prompt: str, settings: PaintingSettings) -> list[np.ndarray]:
    """Frames [H, W, 3] uint8, one for each picture of poses."""
    common = {
        "prompt": prompt,
        "negative_prompt": settings.negative_prompt,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance_scale,
        "controlnet_conditioning_scale": settings.conditioning_scale,
        "height": maps[0].shape[0],
        "width": maps[0].shape[1],
        "output_type": "np",
    }
    pictures = [Image.fromarray(one) for one in maps]
    if settings.motion_adapter is None:
        # The same noise for all frames: what does not depend on the pose stays where it is.
        noise = _noise(pipeline, settings.seed, 0, maps[0].shape)
        frames = [pipeline(image=one, latents=noise, **common).images[0] for one in pictures]
        return [_bytes(frame) for frame in frames]
    # Frames have the same noise in each window that has them.
    noises = [_noise(pipeline, settings.seed, number, maps[0].shape) for number in range(len(maps))]
    mixed = np.zeros((len(maps), *maps[0].shape), np.float32)
    total = np.zeros((len(maps), 1, 1, 1), np.float32)
    for start, end in windows(len(maps), settings.window, settings.overlap):
        own = pipeline(
            conditioning_frames=pictures[start:end],
            num_frames=end - start,
            latents=torch.stack(noises[start:end], dim=2),
            **common,
        ).frames[0]
        weights = fade(end - start, settings.overlap, first=start == 0, last=end == len(maps))[:, None, None, None]
        mixed[start:end] += weights * own
        total[start:end] += weights
    return [_bytes(frame) for frame in mixed / total]


def windows(num_frames: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Half-open ranges of frames that cover all, each `size` long as far as there are so many, and share at least
    `overlap` with the next one."""
    starts = range(0, max(num_frames - overlap, 1), size - overlap)
    ends = [min(start + size, num_frames) for start in starts]
    return [(max(0, end - size), end) for end in ends]


def fade(length: int, overlap: int, *, first: bool, last: bool) -> np.ndarray:
    """Weights of the frames of a window, which rise where it follows another and fall where another follows it."""
    ramp = np.arange(1, overlap + 1, dtype=np.float32) / (overlap + 1)
    weights = np.ones(length, np.float32)
    most = min(overlap, length)
    if not first:
        weights[:most] = np.minimum(weights[:most], ramp[:most])
    if not last:
        weights[length - most :] = np.minimum(weights[length - most :], ramp[:most][::-1])
    return weights


def _noise(pipeline: Any, seed: int, frame: int, shape: tuple[int, ...]) -> Tensor:
    """Noise [1, C, h, w] of a frame, by counters and not by the number of calls before."""
    size = (shape[0] // pipeline.vae_scale_factor, shape[1] // pipeline.vae_scale_factor)
    values = np.random.default_rng([seed, frame]).standard_normal((1, pipeline.unet.config.in_channels, *size))
    return torch.from_numpy(values.astype(np.float32)).to(pipeline.device)


def _bytes(frame: np.ndarray) -> np.ndarray:
    return np.round(np.clip(frame, 0.0, 1.0) * 255.0).astype(np.uint8)
