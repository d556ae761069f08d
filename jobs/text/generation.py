"""Samples a policy for `jobs.generate`, and writes what `jobs.generate` and `jobs.pretrain` show of motions."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import ValidationError

from cluster.records.opening import check_place, move_aside
from jobs.command_line import main as cli
from jobs.configs.data import DataSettings
from jobs.configs.generate import CompletionSettings, GenerateConfig, GenerationSettings
from jobs.report.gallery import GalleryRow, render_gallery
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.named import named_in_file
from motions.base.safe_files import read_npy
from motions.data.composites import merged_prompt, split_prompt
from motions.data.dataset import load_dataset
from motions.data.prompts import Prompt, Segment, load_parts
from motions.files.motion import Motion
from motions.files.reading import MotionReader
from motions.files.settings import Format
from motions.files.writing import smpl_note, write_motions
from motions.skeleton.features import extract_features
from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.text import metre_joints
from rollouts.checkpoints.loading import (
    is_one_action,
    load_policy_text_encoder,
    open_base,
    open_policy,
)
from rollouts.checkpoints.mdm_files import find_checkpoint
from rollouts.checkpoints.model_args import ARGS_FILE, read_model_args
from rollouts.completion import Windows, generate_onward, generate_parts, keep_ends
from rollouts.devices import resolve_device
from rollouts.diffusion.policy import require_denoising
from rollouts.diffusion.requests import prompt_conditions
from rollouts.diffusion.worker import generate
from rollouts.messages import GivenFrames, GroupMotions
from rollouts.one_action.policy import OneActionPolicy
from rollouts.one_action.requirements import require_no_denoising
from rollouts.policy import Policy
from rollouts.refining.checkpoints import load_refiner
from rollouts.refining.refiner import Refiner
from rollouts.registry import DETERMINISTIC_SAMPLERS, NOISE_SCALES
from rollouts.retrieval.index import ENTRIES, TextIndex
from rollouts.retrieval.motions import MotionRetriever, caption_entries
from rollouts.settings import DenoisingSettings, PolicySettings, SamplingSettings
from rollouts.text.encoders import TextEncoder, load_text_encoder

SAMPLER = (
    *("sampler", "sampling_steps", "eta", "noise_scale", "guidance_scale"),
    *("composite_denoising", "composite_overlap", "composite_blend"),
)
"""Options of the sampler that decide what a policy generates, and that args.json of a trained one records: those of its
evaluation, where they differ from the training's."""


@dataclass(frozen=True)
class PreparedGeneration:
    """A generation that is checked and could start."""

    config: GenerateConfig
    """With the sampler of the model's args.json."""
    policy: Policy
    encoder: TextEncoder
    prompts: list[Prompt]
    opening: Literal["new", "overwrite"]
    given: list[GivenFrames] | None = None
    """The frames of each prompt's motions that are kept."""
    parts: list[list[Prompt]] | None = None
    """The prompts of the parts in which motions are made, if any is made in several."""

    @property
    def skeleton(self) -> Skeleton:
        """Of the motions."""
        return self.policy.skeleton

    def motions(self) -> list[GroupMotions]:
        """The motions of all prompts."""
        own, completion = self.config.generation, self.config.completion
        common = (self.encoder, self.prompts, own.motions_per_prompt, own.seed)
        if self.parts is not None:
            policy = require_denoising(self.policy, f"a motion in {max(map(len, self.parts))} parts")
            return generate_parts(policy, self.encoder, self.parts, *common[2:], stochastic=own.stochastic)
        if not completion.autoregressive:
            return generate(self.policy, *common, stochastic=own.stochastic, given=self.given)
        beginning = None if self.given is None else self.given[0].motions[0, self.given[0].keep]
        windows = Windows(completion.context_len, completion.pred_len)
        policy = require_denoising(self.policy, "autoregressive")
        return generate_onward(policy, *common, windows, beginning=beginning, stochastic=own.stochastic)


@dataclass(frozen=True)
class PreparedLookup:
    """Motions that could be looked up in the data."""

    config: GenerateConfig
    retriever: MotionRetriever
    prompts: list[Prompt]
    opening: Literal["new", "overwrite"]

    @property
    def skeleton(self) -> Skeleton:
        """Of the motions."""
        return self.retriever.skeleton

    def motions(self) -> list[GroupMotions]:
        """The motions of all prompts."""
        own, kept = self.config.generation, self.config.source.index_dir
        if kept is not None and not (kept / ENTRIES).is_file():
            self.retriever.index.save(kept)
        return self.retriever.generate(self.prompts, own.motions_per_prompt, own.seed)


def run(config: GenerateConfig) -> None:
    """Generates and writes the motions of a configuration."""
    ready, settings = prepare_source(config), config.generation
    refiner = load_own_refiner(config, ready.skeleton)
    folder, count = settings.save_dir, settings.motions_per_prompt
    try_writing(folder, ready.opening)
    groups = ready.motions()
    if refiner is not None:
        groups = refiner.refine_groups(groups)
    if ready.opening == "overwrite":
        move_aside(folder.absolute())
        folder.mkdir()
    formats = settings.written_formats
    write_results(folder, groups, ready.skeleton, formats)
    print(
        f"{len(ready.prompts)} prompts x {count} motions: open {folder / 'index.html' if 'html' in formats else folder}"
    )


def plan(config: GenerateConfig) -> None:
    """Loads and checks everything, and prints what would be generated; writes nothing."""
    ready = prepare_source(config)
    load_own_refiner(config, ready.skeleton)
    longest = max(prompt.num_frames for prompt in ready.prompts)
    print(cli.settings_yaml(ready.config))
    print(f"\nsave_dir {config.generation.save_dir}: {ready.opening}")
    print(f"{len(ready.prompts)} prompts x {config.generation.motions_per_prompt} motions of up to {longest} frames")


def prepare_source(config: GenerateConfig) -> PreparedGeneration | PreparedLookup:
    """Loads what makes the motions. Raises UserError as `prepare`."""
    return prepare_lookup(config) if config.policy.policy_type == "retrieval" else prepare(config)


def prepare_lookup(config: GenerateConfig) -> PreparedLookup:
    """Reads data and prompts, and looks every prompt up, so that one to which nothing is near is named here.

    Raises:
        UserError: whatever is wrong with folder, data, index, prompts or options.
    """
    opening = inspect_folder(config.generation.save_dir, overwrite=config.generation.overwrite)
    text = config.policy
    encoder = load_text_encoder(
        "minilm" if text.text_encoder == "auto" else text.text_encoder,
        text.text_encoder_path,
        max_tokens=text.max_text_tokens,
        truncate=text.truncate_text,
        cache_dir=text.text_cache_dir,
    )
    dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
    prompts = read_prompts(config.generation, config.data, dataset.skeleton)
    items, kept = dataset.items("train"), config.source.index_dir
    encoder.check_texts([segment.text for prompt in prompts for segment in prompt.segments])
    index = None
    if kept is not None and (kept / ENTRIES).is_file():
        index = TextIndex.load(kept, caption_entries(items), encoder)
    retriever = MotionRetriever(items, dataset.skeleton, encoder, config.lookup, index)
    for prompt in prompts:
        for segment in prompt.segments:
            retriever.matches(segment.text)
    return PreparedLookup(config, retriever, prompts, opening)


def load_own_refiner(config: GenerateConfig, skeleton: Skeleton) -> Refiner | None:
    """The refiner of the configuration on its device, if it names one.

    Raises:
        UserError: its files, or it is of another skeleton than the motions.
    """
    if config.source.refiner is None:
        return None
    refiner = load_refiner(config.source.refiner)
    refiner.require_skeleton(skeleton, "the motions are")
    refiner.network.to(resolve_device(config.sampling.device))
    return refiner


def prepare(config: GenerateConfig) -> PreparedGeneration:
    """Loads policy, text encoder and prompts.

    Raises:
        UserError: whatever is wrong with folder, files, prompts or options; nothing has been written.
    """
    opening = inspect_folder(config.generation.save_dir, overwrite=config.generation.overwrite)
    if is_one_action(config.policy):
        require_no_denoising(config.sampling)
    else:
        config = config.model_copy(update={"sampling": recorded_sampler(config.policy.model_path, config.sampling)})
    settings = PolicySettings(**config.policy.model_dump(), use_lora=config.policy.adapter_path is not None)
    sampling = SamplingSettings(**config.sampling.model_dump())
    loaded = open_base(settings)
    print(f"policy: {loaded.report}")
    policy = open_policy(loaded, settings, sampling)
    if config.generation.stochastic and sampling.sampler in DETERMINISTIC_SAMPLERS:
        raise UserError(f"stochastic is set, and sampler {sampling.sampler} never draws noise; give one of them")
    prompts = read_prompts(config.generation, config.data, policy.skeleton)
    given = given_frames(config.completion, prompts, policy.skeleton)
    encoder = load_policy_text_encoder(settings)
    if isinstance(policy, OneActionPolicy) and "seconds" not in config.generation.model_fields_set:
        prompts = with_expected_lengths(policy, encoder, prompts, config.generation)
    parts = parts_of(config, policy)
    # A prompt that it cannot read is named here.
    prompt_conditions(policy, encoder, prompts if parts is None else [part for own in parts for part in own])
    if given is not None:
        require_denoising(policy, f"given_motion {config.completion.given_motion}")
    if config.completion.autoregressive:
        windows = Windows(config.completion.context_len, config.completion.pred_len)
        windows.check(require_denoising(policy, "autoregressive"))
    return PreparedGeneration(config, policy, encoder, prompts, opening, given, parts)


def parts_of(config: GenerateConfig, policy: Policy) -> list[list[Prompt]] | None:
    """The prompts of the parts of each motion of `--text_file`, if one is in several and is made so.

    Raises:
        UserError: the policy draws one action, or frames of the motion are given.
    """
    own = config.generation
    if own.text_file is None or own.split_text or config.completion.autoregressive:
        return None
    found = load_parts(own.text_file, policy.skeleton.fps, default_frames=round(own.seconds * policy.skeleton.fps))
    found = found[: own.max_prompts]
    long = next((parts for parts in found if len(parts) > 1), None)
    if long is None:
        return None
    require_denoising(policy, f"a motion in {len(long)} parts")
    if config.completion.given_motion is not None:
        raise UserError(
            f"given_motion is given, and the motion of {long[0].text!r:.80} is made in {len(long)} parts; give "
            "--autoregressive too"
        )
    return found


def given_frames(
    settings: CompletionSettings, prompts: Sequence[Prompt], skeleton: Skeleton
) -> list[GivenFrames] | None:
    """The frames of `--given_motion` that the motions of each prompt keep; None without it.

    Raises:
        UserError: the file, a motion of another skeleton or frame rate, or one that is shorter than what is kept, or a
            prompt that is not longer.
    """
    path = settings.given_motion
    if path is None:
        return None
    try:
        features = read_features(path, skeleton)
        first, last = (round(seconds * skeleton.fps) for seconds in (settings.keep_first, settings.keep_last))
        return [keep_ends(features, prompt.num_frames, first, last) for prompt in prompts]
    except UserError as error:
        raise UserError(f"given_motion: {error}") from error


def read_features(path: Path, skeleton: Skeleton) -> np.ndarray:
    """Features [T, D] of the motion in a file, in physical units.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    if path.suffix == ".npy" and (array := read_npy(path)).ndim == 2:
        if array.shape[1] != skeleton.num_features or not np.isfinite(array).all():
            raise UserError(f"{path} is {list(array.shape)}; expected finite features [T, {skeleton.num_features}]")
        return array.astype(np.float32)
    [motion, *others] = MotionReader().read(path)
    if others:
        raise UserError(f"{path} holds {1 + len(others)} motions; give a file of one")
    if motion.skeleton != skeleton or motion.fps != skeleton.fps:
        raise UserError(
            f"{path} is a motion of {motion.skeleton.name} at {motion.fps:g} frames per second; the policy's are of "
            f"{skeleton.name} at {skeleton.fps:g}"
        )
    return extract_features(motion.joints / skeleton.metres_per_unit, skeleton, floor=0.0, continuous_heading=True)


def with_expected_lengths(
    policy: OneActionPolicy, encoder: TextEncoder, prompts: list[Prompt], settings: GenerationSettings
) -> list[Prompt]:
    """The prompts of `--text` with the lengths that the policy expects of them; others as they are."""
    if not settings.text or settings.split_text:
        return prompts
    rows = encoder.conditions([prompt.text for prompt in prompts], policy.network.text_form)
    lengths = [policy.expected_frames(torch.from_numpy(np.array(row.values))[None])[0] for row in rows]
    seconds = ", ".join(f"{frames / policy.skeleton.fps:.1f}" for frames in lengths)
    print(f"seconds {seconds}: what the policy expects of these texts, which say no length")
    return [
        Prompt(prompt.text, (Segment(prompt.text, frames),)) for prompt, frames in zip(prompts, lengths, strict=True)
    ]


def recorded_sampler(model_path: str, settings: DenoisingSettings) -> DenoisingSettings:
    """The settings with the sampler of the model's args.json where the user chose none; says what was taken.

    Raises:
        UserError: args.json records a sampler that does not exist, or a class to import.
    """
    file = find_checkpoint(model_path)
    recorded = dict(read_model_args(file).model_extra or {})
    if "sampler" in recorded:
        # Runs of earlier versions did not say so, and knew nothing else.
        recorded.setdefault("composite_denoising", "pooled")
    measured = {name: recorded.get(f"eval_{name}") for name in SAMPLER}
    # Without noise in the evaluation there is no level of it either.
    recorded |= {name: value for name, value in measured.items() if value is not None and (name, value) != ("eta", 0)}
    taken = {name: recorded[name] for name in SAMPLER if name in recorded and name not in settings.model_fields_set}
    if {**settings.model_dump(), **taken}["sampler"] not in NOISE_SCALES:
        taken.pop("noise_scale", None)
    if not taken:
        return settings
    source = file.parent / ARGS_FILE
    named_in_file(f"{source}: sampler", str(taken.get("sampler", "")), "sampler")
    try:
        checked = DenoisingSettings.model_validate({"sampler": settings.sampler, **taken})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(f"{source}: {problems}; give the option itself") from error
    print(f"{', '.join(f'{name} {getattr(checked, name)}' for name in taken)}: taken from {source}")
    return settings.model_copy(update={name: getattr(checked, name) for name in taken})


def read_prompts(settings: GenerationSettings, data: DataSettings, skeleton: Skeleton) -> list[Prompt]:
    """The prompts of `--text` or `--text_file`, else held-out captions of the data, with their motions' lengths.

    Raises:
        UserError: a prompt without frames, a file that holds none, or data of another skeleton.
    """
    fps = skeleton.fps
    num_frames = round(settings.seconds * fps)
    if num_frames < 1:
        raise UserError(f"seconds is {settings.seconds}: at {fps:g} frames per second that is no frame")
    if settings.text:
        prompts = [Prompt(text, (Segment(text, num_frames),)) for text in settings.text]
    elif settings.text_file is not None:
        prompts = [merged_prompt(parts) for parts in load_parts(settings.text_file, fps, default_frames=num_frames)]
        if not prompts:
            raise UserError(f"{settings.text_file} holds no prompt")
    else:
        assert settings.max_prompts is not None
        dataset = load_dataset(data.data_source, skip_bad=data.skip_bad)
        if dataset.skeleton != skeleton:
            raise UserError(
                f"dataset {data.dataset} has skeleton {dataset.skeleton.name}, the policy {skeleton.name}; give "
                "prompts with --text, or data of the policy's skeleton"
            )
        prompts = dataset.prompts("test", settings.max_prompts, rng=np.random.default_rng(settings.seed), distinct=True)
    prompts = prompts[: settings.max_prompts]
    return [split_prompt(prompt) for prompt in prompts] if settings.split_text else prompts


def write_results(folder: Path, groups: list[GroupMotions], skeleton: Skeleton, formats: Sequence[Format]) -> None:
    """Writes the arrays of the motions and the files of the chosen formats into an existing folder.

    Args:
        groups: one per prompt, with the same number of samples each.
    """
    joints = [metre_joints(group, skeleton) for group in groups]
    num_samples, num_repetitions = len(groups), len(groups[0].lengths)
    longest = max(motions.shape[1] for motions in joints)
    stacked = np.zeros((num_repetitions, num_samples, skeleton.num_joints, 3, longest), np.float32)
    rows: list[GalleryRow] = []
    for sample, (group, motions) in enumerate(zip(groups, joints, strict=True)):
        row: list[Motion] = []
        for repetition, length in enumerate(group.lengths.tolist()):
            motion = shown_motion(f"sample{sample:02d}_rep{repetition:02d}", skeleton, group, motions, repetition)
            stacked[repetition, sample, :, :, :length] = motion.joints.transpose(1, 2, 0)
            _save_array(folder / f"{motion.name}.npy", motion.joints)
            _save_array(folder / f"{motion.name}_features.npy", group.features[repetition, :length])
            row.append(motion)
        rows.append(GalleryRow(group.prompt.text, row))
    _write_index(folder, groups, stacked)
    lead = f"{num_samples} prompts, {num_repetitions} motions each."
    shown = [motion for row in rows for motion in row.motions]
    for files in write_motions(folder, shown, formats, lambda: render_gallery("Generated motions", lead, rows)):
        print(files)
    if "npz" in formats:
        print(f"note: {smpl_note(shown)}")


def shown_motion(name: str, skeleton: Skeleton, group: GroupMotions, joints: np.ndarray, place: int) -> Motion:
    """One motion of a group with the texts of its segments.

    Args:
        joints: [N, T, J, 3] of the group, metres.
        place: of the motion in the group.
    """
    length = int(group.lengths[place])
    edges = zip(group.prompt.segments, group.prompt.boundaries, strict=True)
    spans = tuple((segment.text, start, min(end, length)) for segment, (start, end) in edges)
    return Motion(name, joints[place, :length].astype(np.float32), skeleton, skeleton.fps, spans)


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


def _save_array(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as file:
        np.save(file, array, allow_pickle=False)


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
