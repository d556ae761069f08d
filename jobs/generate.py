"""Text in, motions out: samples a policy and writes joints, features, animations and a page that plays them.

    python -m jobs.generate --text "a person walks forward, then kicks" --num_samples 3
    python -m jobs.generate --model_path runs/demo --text_file prompts.txt --save_dir outputs/walks

Written to `--save_dir`: `results.npz` (motion [M, J, 3, T], text, lengths, num_samples, num_repetitions, in the order
and layout of MDM's results.npy, but without pickle), `results.txt`, `results_len.txt`, and for each motion
`sampleSS_repRR.npy` (joints [T, J, 3] in metres), `sampleSS_repRR_features.npy` ([T, D], physical) and
`sampleSS_repRR.gif`; `index.html` plays all of them without any network.

The same policy, prompts and seed give the same bits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster.run_directory import in_ray_job
from jobs import cli
from jobs.configs import GenerateConfig
from motions.atomic import atomic_write

if TYPE_CHECKING:
    from motions.prompts import Prompt
    from motions.skeletons import Skeleton
    from rollouts.messages import GroupMotions


def run(config: GenerateConfig) -> None:
    """Generates and writes the motions of a configuration."""
    from jobs.evaluation import generate
    from rollouts.loading import build_policy, load_base, load_policy_text_encoder
    from rollouts.settings import CheckpointSettings, DenoisingSettings, PolicySettings, SamplingSettings

    folder = _open_folder(config.save_dir, overwrite=config.overwrite)
    checkpoint = config.model_dump(include=set(CheckpointSettings.model_fields))
    settings = PolicySettings(**checkpoint, use_lora=config.adapter_path is not None)
    sampling = SamplingSettings(**config.model_dump(include=set(DenoisingSettings.model_fields)))
    loaded = load_base(settings)
    print(f"policy: {loaded.report}")
    policy = build_policy(loaded, settings, sampling)
    prompts = read_prompts(config, policy.skeleton.fps)
    encoder = load_policy_text_encoder(settings)
    groups = generate(policy, encoder, prompts, config.num_samples, config.seed, stochastic=config.stochastic)
    write_results(folder, groups, policy.skeleton, gif=config.gif)
    print(f"{len(prompts)} prompts x {config.num_samples} motions: open {folder / 'index.html'}")


def read_prompts(config: GenerateConfig, fps: float) -> list[Prompt]:
    """The prompts of `--text` or `--text_file`.

    Raises:
        ValueError: a prompt without frames, or a file that holds none.
    """
    from motions.prompts import Prompt, Segment, load_prompts

    num_frames = round(config.seconds * fps)
    if num_frames < 1:
        raise ValueError(f"seconds is {config.seconds}: at {fps:g} frames per second that is no frame")
    if config.text_file is None:
        return [Prompt(text, (Segment(text, num_frames),)) for text in config.text]
    prompts = load_prompts(config.text_file, fps, default_frames=num_frames)
    if not prompts:
        raise ValueError(f"{config.text_file} holds no prompt")
    return prompts


def write_results(folder: Path, groups: list[GroupMotions], skeleton: Skeleton, *, gif: bool) -> None:
    """Writes every file of the module's docstring into an existing folder.

    Args:
        groups: one per prompt, with the same number of samples each.
    """
    from jobs.evaluation import metre_joints
    from jobs.gallery import GalleryRow, render_gallery

    joints = [metre_joints(group, skeleton) for group in groups]
    num_samples, num_repetitions = len(groups), len(groups[0].lengths)
    longest = max(motions.shape[1] for motions in joints)
    stacked = np.zeros((num_repetitions, num_samples, skeleton.num_joints, 3, longest), np.float32)
    for sample, (group, motions) in enumerate(zip(groups, joints, strict=True)):
        for repetition, length in enumerate(group.lengths.tolist()):
            motion = motions[repetition, :length].astype(np.float32)
            stacked[repetition, sample, :, :, :length] = motion.transpose(1, 2, 0)
            name = f"sample{sample:02d}_rep{repetition:02d}"
            _save_array(folder / f"{name}.npy", motion)
            _save_array(folder / f"{name}_features.npy", group.features[repetition, :length])
            if gif:
                _draw(folder / f"{name}.gif", motion, group.prompt, skeleton)
    _write_index(folder, groups, stacked)
    rows = [GalleryRow(group.prompt, list(motions)) for group, motions in zip(groups, joints, strict=True)]
    with atomic_write(folder / "index.html") as file:
        file.write(render_gallery(rows, skeleton, f"{num_samples} prompts, {num_repetitions} motions each").encode())


def _write_index(folder: Path, groups: list[GroupMotions], stacked: np.ndarray) -> None:
    """`results.npz` and the two text files, repetitions outermost as in MDM's results.npy."""
    texts = [group.prompt.text for group in groups]
    lengths = np.stack([group.lengths for group in groups], axis=1).reshape(-1)
    num_repetitions = len(stacked)
    with atomic_write(folder / "results.npz") as file:
        np.savez(
            file,
            allow_pickle=False,
            motion=stacked.reshape(-1, *stacked.shape[2:]),
            text=np.array(texts * num_repetitions),
            lengths=lengths,
            num_samples=np.array(len(groups)),
            num_repetitions=np.array(num_repetitions),
        )
    for name, lines in (("results.txt", texts * num_repetitions), ("results_len.txt", lengths.tolist())):
        with atomic_write(folder / name) as file:
            file.write("\n".join(map(str, lines)).encode() + b"\n")


def _draw(path: Path, joints: np.ndarray, prompt: Prompt, skeleton: Skeleton) -> None:
    from motions.drawing import draw_frames, save_gif

    captions = [segment.text for segment in prompt.segments for _ in range(segment.num_frames)][: len(joints)]
    save_gif(draw_frames(joints / skeleton.metres_per_unit, skeleton, captions=captions), path, skeleton.fps)


def _save_array(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as file:
        np.save(file, array, allow_pickle=False)


def _open_folder(path: Path, *, overwrite: bool) -> Path:
    """The results' folder, made when absent.

    Raises:
        ValueError: it holds results and `overwrite` is off, or it is relative in a Ray job.
        OSError: it cannot be created.
    """
    if in_ray_job() and not path.is_absolute():
        raise ValueError(f"save_dir {path} is relative, and this is a Ray job: its working copy is thrown away")
    if (path / "results.npz").exists() and not overwrite:
        raise ValueError(f"save_dir {path} holds results; give another folder or --overwrite")
    path.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(cli.main(GenerateConfig, run, __doc__, "jobs.generate"))
