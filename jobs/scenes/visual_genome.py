"""Builds a training set of texts and scenes: what `jobs.build_vg_dataset` does."""

from __future__ import annotations

import json
import random
from pathlib import Path

from jobs.scenes.parsing import check_free
from jobs.scenes.settings import VisualGenomeConfig
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.scenes.visual_genome import SceneExample, example_of, load_attributes, stream_records

GRAPHS, ATTRIBUTES = "scene_graphs.json", "attributes.json"
SPLITS = ("train", "val", "test")
"""Eight, one and one tenth of the texts."""
_SEED = 42


def run(config: VisualGenomeConfig) -> None:
    """Writes the splits, and prints their sizes."""
    _check(config)
    splits = divided(examples(config))
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output {config.output}: {error.strerror}") from error
    for name, own in splits.items():
        with atomic_write(config.output / f"{name}.jsonl") as file:
            file.write("".join(f"{json.dumps(one.record(), ensure_ascii=False)}\n" for one in own).encode())
        empty = "" if own else ": too few texts to divide, so train no parser with it"
        print(f"{config.output / name}.jsonl: {len(own)} examples{empty}")


def plan(config: VisualGenomeConfig) -> None:
    """Checks the files, and prints what would be written."""
    _check(config)
    first = next(iter(stream_records(config.vg_dir / GRAPHS)), None)
    print(f"first graph: image {first.get('image_id') if first else None}")
    for name in SPLITS:
        print(f"would write {config.output / name}.jsonl")


def _check(config: VisualGenomeConfig) -> None:
    check_free(config.output, [f"{name}.jsonl" for name in SPLITS], None, overwrite=config.overwrite)
    if not (config.vg_dir / GRAPHS).is_file():
        raise UserError(f"vg_dir {config.vg_dir} has no {GRAPHS}; download it from Visual Genome")


def examples(config: VisualGenomeConfig) -> list[SceneExample]:
    """Of the first graphs that name any object.

    Raises:
        UserError: a record is not of Visual Genome's form, by its number; or no graph names an object.
    """
    path: Path = config.vg_dir / ATTRIBUTES
    attributes = load_attributes(path) if path.is_file() else {}
    found: list[SceneExample] = []
    for number, graph in enumerate(stream_records(config.vg_dir / GRAPHS)):
        try:
            example = example_of(graph, attributes.get(int(graph["image_id"])))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{config.vg_dir / GRAPHS}, record {number}: {error!r}: not as in scene_graphs.json of Visual Genome"
            ) from error
        found += [example] if example is not None else []
        if len(found) == config.max_samples:
            break
    if not found:
        raise UserError(f"{config.vg_dir / GRAPHS} names no object")
    return found


def divided(found: list[SceneExample]) -> dict[str, list[SceneExample]]:
    """The splits, shuffled by a fixed seed; equal texts are in the same one. From three texts on none is empty."""
    groups: dict[str, list[SceneExample]] = {}
    for one in found:
        groups.setdefault(one.text, []).append(one)
    texts = list(groups)
    random.Random(_SEED).shuffle(texts)
    held_out = max(round(0.1 * len(texts)), 1) if len(texts) >= len(SPLITS) else 0
    first = len(texts) - 2 * held_out
    chosen = (texts[:first], texts[first : first + held_out], texts[first + held_out :])
    return {name: [one for text in own for one in groups[text]] for name, own in zip(SPLITS, chosen, strict=True)}
