"""Builds a set of composite prompts and writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jobs.command_line import main as cli
from jobs.composites.settings import CompositeConfig
from motions.base.errors import UserError
from motions.data.composite_records import (
    CompositeRecord,
    build_composite_records,
    read_composite_records,
    write_composite_array,
    write_composite_records,
)
from motions.data.dataset import load_dataset
from motions.data.text_motion import TextMotion
from motions.files.writing import check_free
from motions.settings import BUILTIN
from motions.skeleton.skeletons import HUMANML3D, KIT
from rewards.settings import RewardSettings
from rewards.tmr.scorer import Embedder, load_embedder
from rewards.tmr.similarity import cosine

SHORTER = 0.8
"""Share of the motions where whole ones are too long together."""


def run(config: CompositeConfig) -> None:
    """Builds the composites and writes the file."""
    path, records, metadata = build(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    write = write_composite_array if config.composites.output_format == "npy" else write_composite_records
    write(path, records, metadata)
    print(f"{path}: {described(records)}")


def plan(config: CompositeConfig) -> None:
    """Builds the composites and says what would be written."""
    path, records, _ = build(config)
    print(cli.settings_yaml(config))
    print(f"\nwould write {path}: {described(records)}")
    print(f"such as {records[0].composite_prompt!r}, {records[0].durations_frames} frames")


def build(config: CompositeConfig) -> tuple[Path, list[CompositeRecord], dict[str, object]]:
    """Path, records and metadata of the file; nothing has been written.

    Raises:
        UserError: the data, a file, an option, or motions of which none fit together.
    """
    own = config.composites
    path = own.output_dir / f"composite_k{own.k_segments}_{config.data.split}.{own.output_format}"
    check_free(path.parent, [path.name])
    metadata: dict[str, object] = {
        "dataset_name": config.data.dataset,
        "split": config.data.split,
        "k_segments": own.k_segments,
    }
    if own.from_file is not None:
        fps = (KIT if config.data.dataset == "kit" else HUMANML3D).fps
        records = read_composite_records(own.from_file, fps)
        wrong = [number for number, record in enumerate(records) if len(record.sub_prompts) != own.k_segments]
        if wrong or not records:
            found = f"sample {wrong[0]} has {len(records[wrong[0]].sub_prompts)}" if wrong else "it holds none"
            raise UserError(f"from_file {own.from_file}: k_segments is {own.k_segments}; {found}")
        records = records[: own.max_samples]
        metadata["made_from"] = str(own.from_file)
    else:
        dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
        fps = dataset.skeleton.fps
        records, shorten = drawn(config, dataset.items(config.data.split), fps)
        metadata |= {"target_length": own.target_length, "tolerance": own.tolerance}
        metadata |= {"seed": own.seed, "shorten": shorten}
        if config.data.data_source != BUILTIN:
            metadata["data_fingerprint"] = dataset.fingerprint if config.data.split == "train" else None
    metadata |= {"fps": fps, "num_samples": len(records)}
    if config.texts.compute_b_matrix:
        embedder = text_embedder(config)
        records = with_b_matrix(records, embedder)
        metadata["b_matrix_text_encoder"] = embedder.text_encoder.name
        metadata["b_matrix_text_encoder_fingerprint"] = embedder.text_encoder.fingerprint
    return path, records, metadata


def drawn(config: CompositeConfig, items: Sequence[TextMotion], fps: float) -> tuple[list[CompositeRecord], float]:
    """Composites of a split, and the share to which segments may be shortened.

    Raises:
        UserError: no motions fit together.
    """
    own = config.composites

    def records(shorten: float) -> list[CompositeRecord]:
        return build_composite_records(
            items,
            k_segments=own.k_segments,
            fps=fps,
            rng=np.random.default_rng(own.seed),
            target_length=own.target_length,
            tolerance=own.tolerance,
            max_samples=own.max_samples,
            shorten=shorten,
        )

    if own.shorten is not None:
        return records(own.shorten), own.shorten
    shortest = sorted(item.num_frames for item in items)[: own.k_segments]
    if sum(shortest) <= own.target_length:
        return records(1.0), 1.0
    print(
        f"the shortest {own.k_segments} motions last {sum(shortest)} frames, more than target_length "
        f"{own.target_length}: segments are shortened, to at least {SHORTER:g} of their motions"
    )
    return records(SHORTER), SHORTER


def text_embedder(config: CompositeConfig) -> Embedder:
    """The TMR whose text encoder compares the texts."""
    texts = config.texts
    names = ("tmr_checkpoint_path", "tmr_text_encoder_path", "tmr_motion_encoder_path", "tmr_text_model")
    return load_embedder(RewardSettings.of({name: getattr(texts, name) for name in names}, reward_device=texts.device))


def with_b_matrix(records: Sequence[CompositeRecord], embedder: Embedder) -> list[CompositeRecord]:
    """The records with the cosines of their texts; each different text is encoded once.

    Raises:
        UserError: a text is over the text encoder's limit.
    """
    texts = list(dict.fromkeys(text for record in records for text in record.sub_prompts))
    if (misfit := embedder.text_misfit("text encoder of the B_matrix", texts)) is not None:
        raise UserError(misfit)
    found = []
    for record in records:
        latents = embedder.embed_texts(record.sub_prompts)
        matrix = cosine(latents, latents).round(6).tolist()
        found.append(replace(record, b_matrix=tuple(tuple(row) for row in matrix)))
    return found


def described(records: Sequence[CompositeRecord]) -> str:
    """Number and lengths of composites."""
    totals = [record.total_frames for record in records]
    return f"{len(records)} composites of {min(totals)} to {max(totals)} frames"
