"""Text in, motions out: samples a policy and writes joints, features, animations and a page that plays them.

    python -m jobs.generate --text "a person walks forward, then kicks" --num_samples 3
    python -m jobs.generate --model_path runs/demo --text_file prompts.txt --save_dir outputs/walks
    python -m jobs.generate --model_path runs/demo --num_samples 10 --num_repetitions 3

A model is sampled as it was trained and measured, where its args.json says how: sampler, steps, eta and guidance are
taken from there unless a flag says otherwise. The last command is MDM's: three motions for each of ten held-out
captions of the data.

Written to `--save_dir`: `results.npz` (motion [M, J, 3, T], text, lengths, num_samples, num_repetitions, in the order
and layout of MDM's results.npy, but without pickle), `results.txt`, `results_len.txt`, and for each motion
`sampleSS_repRR.npy` (joints [T, J, 3] in metres), `sampleSS_repRR_features.npy` ([T, D], physical) and
`sampleSS_repRR.gif`; `index.html` plays all of them without any network.

The same policy, prompts and seed give the same bits.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ValidationError

from cluster.records.run_directory import check_place, move_aside
from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import GENERATE_GUIDE
from jobs.configs.generate import GenerateConfig
from motions.base.errors import UserError
from rollouts.settings import CheckpointSettings, DenoisingSettings, PolicySettings, SamplingSettings

if TYPE_CHECKING:
    from motions.data.prompts import Prompt
    from motions.skeleton.skeletons import Skeleton
    from rollouts.diffusion.policy import DiffusionPolicy
    from rollouts.text.encoders import TextEncoder

SAMPLER = ("sampler", "sampling_steps", "eta", "guidance_scale")
"""Options of the sampler that decide what a policy generates, and that args.json of a trained one records."""


@dataclass(frozen=True)
class PreparedGeneration:
    """A generation that is checked and could start."""

    config: GenerateConfig
    """With the sampler of the model's args.json."""
    policy: DiffusionPolicy
    encoder: TextEncoder
    prompts: list[Prompt]
    opening: Literal["new", "overwrite"]


def run(config: GenerateConfig) -> None:
    """Generates and writes the motions of a configuration."""
    from jobs.text.generation import write_results
    from rewards.evaluation.text import generate

    ready = prepare(config)
    config, folder = ready.config, ready.config.save_dir
    try_writing(folder, ready.opening)
    count = config.motions_per_prompt
    groups = generate(ready.policy, ready.encoder, ready.prompts, count, config.seed, stochastic=config.stochastic)
    if ready.opening == "overwrite":
        move_aside(folder.absolute())
        folder.mkdir()
    write_results(folder, groups, ready.policy.skeleton, gif=config.gif)
    print(f"{len(ready.prompts)} prompts x {count} motions: open {folder / 'index.html'}")


def plan(config: GenerateConfig) -> None:
    """Loads and checks everything, and prints what would be generated; writes nothing."""
    ready = prepare(config)
    longest = max(prompt.num_frames for prompt in ready.prompts)
    print(cli.settings_yaml(ready.config))
    print(f"\nsave_dir {config.save_dir}: {ready.opening}")
    print(f"{len(ready.prompts)} prompts x {config.motions_per_prompt} motions of up to {longest} frames")


def prepare(config: GenerateConfig) -> PreparedGeneration:
    """Loads policy, text encoder and prompts.

    Raises:
        UserError: whatever is wrong with folder, files, prompts or options; nothing has been written.
    """
    from rollouts.checkpoints.loading import build_policy, load_base, load_policy_text_encoder

    opening = inspect_folder(config.save_dir, overwrite=config.overwrite)
    config = with_recorded_sampler(config)
    checkpoint = config.model_dump(include=set(CheckpointSettings.model_fields))
    settings = PolicySettings(**checkpoint, use_lora=config.adapter_path is not None)
    sampling = SamplingSettings(**config.model_dump(include=set(DenoisingSettings.model_fields)))
    loaded = load_base(settings)
    print(f"policy: {loaded.report}")
    policy = build_policy(loaded, settings, sampling)
    prompts = read_prompts(config, policy.skeleton)
    encoder = load_policy_text_encoder(settings)
    encoder.check_lengths([prompt.text for prompt in prompts])
    return PreparedGeneration(config, policy, encoder, prompts, opening)


def with_recorded_sampler(config: GenerateConfig) -> GenerateConfig:
    """The configuration with the sampler of the model's args.json where the user chose none; says what was taken.

    Raises:
        UserError: args.json records a sampler that does not exist.
    """
    from rollouts.checkpoints.mdm_files import find_checkpoint
    from rollouts.checkpoints.model_args import ARGS_FILE, read_model_args

    file = find_checkpoint(config.model_path)
    recorded = read_model_args(file).model_extra or {}
    taken = {name: recorded[name] for name in SAMPLER if name in recorded and name not in config.model_fields_set}
    if not taken:
        return config
    source = file.parent / ARGS_FILE
    try:
        checked = DenoisingSettings.model_validate(taken)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(f"{source}: {problems}; give the option itself") from error
    print(f"{', '.join(f'{name} {getattr(checked, name)}' for name in taken)}: taken from {source}")
    return config.model_copy(update={name: getattr(checked, name) for name in taken})


def read_prompts(config: GenerateConfig, skeleton: Skeleton) -> list[Prompt]:
    """The prompts of `--text` or `--text_file`, else held-out captions of the data, with their motions' lengths.

    Raises:
        UserError: a prompt without frames, a file that holds none, or data of another skeleton.
    """
    from motions.data.dataset import load_dataset
    from motions.data.prompts import Prompt, Segment, load_prompts

    fps = skeleton.fps
    num_frames = round(config.seconds * fps)
    if num_frames < 1:
        raise UserError(f"seconds is {config.seconds}: at {fps:g} frames per second that is no frame")
    if config.text:
        prompts = [Prompt(text, (Segment(text, num_frames),)) for text in config.text]
    elif config.text_file is not None:
        prompts = load_prompts(config.text_file, fps, default_frames=num_frames)
        if not prompts:
            raise UserError(f"{config.text_file} holds no prompt")
    else:
        assert config.max_prompts is not None
        dataset = load_dataset(config.data_source)
        if dataset.skeleton != skeleton:
            raise UserError(
                f"dataset {config.dataset} has skeleton {dataset.skeleton.name}, the policy {skeleton.name}; give "
                "prompts with --text, or data of the policy's skeleton"
            )
        prompts = dataset.prompts("test", config.max_prompts, rng=np.random.default_rng(config.seed))
    return prompts[: config.max_prompts]


def inspect_folder(path: Path, *, overwrite: bool) -> Literal["new", "overwrite"]:
    """How a run will take the results' folder; changes nothing.

    Raises:
        UserError: it cannot be written, holds results and `overwrite` is off, or holds something else.
    """
    check_place(path)
    if not path.exists() or not any(path.iterdir()):
        return "new"
    if not any(path.glob("sample*_rep*.npy")) and not (path / "results.npz").is_file():
        raise UserError(f"save_dir {path} is not empty and holds no results of jobs.generate; give an empty folder")
    if not overwrite:
        raise UserError(f"save_dir {path} holds results; give another folder or --overwrite, which moves them aside")
    return "overwrite"


def try_writing(path: Path, opening: Literal["new", "overwrite"]) -> None:
    """Makes the folder and a file that is gone at once, so that no motion is sampled for a place without room for it.

    Raises:
        UserError: nothing can be written there.
    """
    target = path.absolute().parent if opening == "overwrite" else path
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        raise UserError(f"save_dir {path} is not writable: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(cli.main(GenerateConfig, run, __doc__, "jobs.generate", plan=plan, guide=GENERATE_GUIDE))
