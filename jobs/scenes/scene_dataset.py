"""Texts with actions and their scenes: what `jobs.build_scene_dataset` does, and what parsers are trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jobs.scenes.parser_settings import SceneDatasetConfig
from jobs.scenes.parsing import check_free
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.data.dataset import MotionDataset, load_dataset
from motions.scenes.examples.composed import Composer, clauses_of
from motions.scenes.examples.targets import record_of

SPLITS = ("train", "val", "test")
_STREAMS = {name: number for number, name in enumerate(SPLITS)}


def run(config: SceneDatasetConfig) -> None:
    """Writes the splits, and prints their sizes."""
    composers = prepare(config)
    folder = config.scenes.output
    folder.mkdir(parents=True, exist_ok=True)
    for split, composer in composers.items():
        records = composed(composer, split, size_of(config, split), config.scenes.seed)
        with atomic_write(folder / f"{split}.jsonl") as file:
            file.write("".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in records).encode())
        print(f"{folder / split}.jsonl: {len(records)} examples")


def plan(config: SceneDatasetConfig) -> None:
    """Prints an example of each split, and what would be written."""
    for split, composer in prepare(config).items():
        [first] = composed(composer, split, 1, config.scenes.seed)
        print(f"would write {config.scenes.output / split}.jsonl: {size_of(config, split)} examples, as\n  {first}")


def prepare(config: SceneDatasetConfig) -> dict[str, Composer]:
    """What makes the texts of each split.

    Raises:
        UserError: files of a result exist, or the captions tell no single actions.
    """
    check_free(config.scenes.output, [f"{name}.jsonl" for name in SPLITS], None, overwrite=config.scenes.overwrite)
    return composers_of(load_dataset(config.data.data_source, skip_bad=config.data.skip_bad))


def size_of(config: SceneDatasetConfig, split: str) -> int:
    """Number of examples of a split."""
    return config.scenes.num_examples if split == "train" else config.scenes.num_held_out


def composers_of(dataset: MotionDataset) -> dict[str, Composer]:
    """Composers of the captions of the training split, for training and validation, and of those captions of the test
    split that tell what no caption of the training does.

    Raises:
        UserError: the captions tell no single actions.
    """
    captions = {split: [one for item in dataset.items(split) for one in item.captions] for split in dataset.splits}
    known = clauses_of(captions["train"])
    composers = {"train": Composer(known), "val": Composer(known)}
    words = {one.words for one in known}
    held_out = [one for one in clauses_of(captions.get("test", ())) if one.words not in words]
    if held_out:
        composers["test"] = Composer(held_out)
    return composers


def composed(composer: Composer, split: str, number: int, seed: int) -> list[dict[str, str]]:
    """The first records of a split, by a seed."""
    return [record_of(composer.scene(np.random.default_rng([seed, _STREAMS[split], place]))) for place in range(number)]


def read_records(path: Path) -> list[dict[str, str]]:
    """The records of a file of examples.

    Raises:
        UserError: a line is no example; the message names file and line.
    """
    records = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record["input"], str) or not isinstance(record["target"], str):
                raise TypeError("input and target are texts")
            json.loads(record["target"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}, line {number}: {error!r}; expected an object with input, a text, and target, a scene as JSON"
            ) from error
        records.append({"input": record["input"], "target": record["target"]})
    if not records:
        raise UserError(f"{path} is empty")
    return records
