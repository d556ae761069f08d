"""What `jobs.train_m1_t5` does: examples, network, the loop of cluster/run/training_loop.py, held-out figures."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cluster.records.opening import inspect
from cluster.records.run import joined_cluster, open_run
from cluster.run.training_loop import BatchTraining, train
from jobs.command_line import main as cli
from jobs.report import write_training_report
from jobs.scenes.parser_settings import SCRATCH, TrainParserConfig
from jobs.scenes.scene_dataset import SPLITS, composed, composers_of, read_records
from learners.supervised.scene_parsing import ParserBatch, SceneParsingLearner, parser_batch
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.memory import require_memory, transformer_parameters
from motions.data.dataset import load_dataset
from motions.scenes.examples.targets import PREFIX, target_figures
from motions.scenes.vocabulary import nouns, verbs
from motions.settings import BUILTIN
from rollouts.devices import resolve_device
from rollouts.text.scene_parser import SceneParser, load_parser, new_parser

CURVES = ("loss", "grad_norm")
MOST_CUT = 0.2
"""Largest share of the examples that may be left out because they are too long."""
COPIED_WORDS = (2, 12)
"""Fewest and most words of a line that is only copied."""
WRITTEN_AT_ONCE = 25


@dataclass(frozen=True)
class Examples:
    """Token ids of the examples of a split, in pairs of text and line, and the records that they are of."""

    texts: list[list[int]]
    lines: list[list[int]]
    records: list[dict[str, str]]


@dataclass(frozen=True)
class Course:
    """How long a training goes on, in updates."""

    steps_per_epoch: int
    copy_steps: int
    """At the beginning, in which sentences of random words are copied."""
    epochs: int

    @property
    def num_steps(self) -> int:
        """Of the whole training."""
        return self.copy_steps + self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class Prepared:
    """A training that is checked and could start."""

    config: TrainParserConfig
    learner: SceneParsingLearner
    examples: dict[str, Examples]
    """By split; the test split is left out where there is none."""
    course: Course


def run(config: TrainParserConfig) -> None:
    """Trains a parser and writes its folder."""
    prepared = prepare(config)
    run, learner, course = config.run, prepared.learner, prepared.course
    fingerprint = fingerprint_of(prepared.examples["train"].records)
    with joined_cluster(), open_run(run, config, fingerprint, course.num_steps, shown=CURVES) as opened:
        held_out = HeldOut(prepared)
        batches = ParserBatches(prepared)
        training = BatchTraining(learner, course.num_steps, make_batch=batches.batch, export=learner.parser.save)
        train(opened, training, run.save_every * course.steps_per_epoch, curves=CURVES, evaluate=held_out)
        if held_out.figures:
            held_out.write(opened.path)
        report = write_training_report(opened.path, "A parser of scenes", CURVES)
    print(f"report: {report}")
    print(f"parser in {run.save_dir}: python -m jobs.parse_scene --parser {run.save_dir} --text 'a man walks'")


def plan(config: TrainParserConfig) -> None:
    """Reads the examples, builds the network, and prints what would be trained."""
    prepared = prepare(config)
    opening = inspect(config.run, config=config)
    parameters = sum(one.numel() for one in prepared.learner.parser.model.parameters())
    print(cli.settings_yaml(config))
    print(f"\nsave_dir {config.run.save_dir}: {opening}")
    print(", ".join(f"{name}: {len(own.texts)} examples" for name, own in prepared.examples.items()))
    print(f"network: {parameters / 1e6:.2f} M parameters")
    print(f"{prepared.course.num_steps} steps, of which {prepared.course.copy_steps} only copy")


def prepare(config: TrainParserConfig) -> Prepared:
    """Reads or makes the examples, and builds the network.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: there are no examples, too many are too long, or there is no such T5.
    """
    inspect(config.run)
    device = resolve_device(config.run.device)
    records = records_of(config)
    parser = parser_of(config, records["train"])
    parser.to(device)
    examples = {split: fitting(config, parser, own, split) for split, own in records.items()}
    per_epoch = math.ceil(len(examples["train"].texts) / config.parsing.batch_size)
    copy_steps = config.network.copy_steps if config.network.model == SCRATCH else 0
    course = Course(per_epoch, copy_steps, config.run.epochs)
    learner = SceneParsingLearner(parser, config.parsing, course.num_steps, config.run.seed)
    return Prepared(config, learner, examples, course)


def parser_of(config: TrainParserConfig, records: Sequence[dict[str, str]]) -> SceneParser:
    """The parser that the training starts from, on the CPU.

    Raises:
        UserError: there is no such T5, or the memory is too small for it.
    """
    sizes = config.network
    if sizes.model != SCRATCH:
        return load_parser(sizes.model)
    # A layer of the decoder attends twice.
    parameters = 3 * sizes.layers * transformer_parameters(sizes.width, 4 * sizes.width)
    require_memory(parameters, f"width {sizes.width}, layers {sizes.layers}")
    lines = [line for one in records for line in (one["input"], one["target"])]
    return new_parser(
        # Words that scenes know and no example has; they are at least copied.
        [*lines, " ".join(scene_words())],
        vocabulary=sizes.vocabulary,
        width=sizes.width,
        layers=sizes.layers,
        heads=sizes.heads,
        seed=config.run.seed,
    )


def scene_words() -> list[str]:
    """The words of the vocabulary of scenes, each once, in order."""
    forms = (*verbs().forms, *nouns().types, *nouns().colours, *nouns().materials, *nouns().modifiers, *nouns().body)
    return sorted({word for form in forms for word in form.split() if word.isalpha()})


def records_of(config: TrainParserConfig) -> dict[str, list[dict[str, str]]]:
    """The records of the splits.

    Raises:
        UserError: a file is missing, empty or malformed.
    """
    data = config.data
    if data.data_dir == BUILTIN:
        composers = composers_of(load_dataset(BUILTIN))
        sizes = {split: data.num_examples if split == "train" else data.num_measured for split in composers}
        return {split: composed(one, split, sizes[split], config.run.seed) for split, one in composers.items()}
    folder = Path(data.data_dir)
    missing = [name for name in ("train", "val") if not (folder / f"{name}.jsonl").is_file()]
    if missing:
        raise UserError(
            f"data_dir {folder} has no {missing[0]}.jsonl; make it by jobs.build_scene_dataset or "
            f"jobs.build_vg_dataset, or give {BUILTIN}"
        )
    found = [name for name in SPLITS if (folder / f"{name}.jsonl").is_file()]
    return {name: read_records(folder / f"{name}.jsonl") for name in found}


def fitting(config: TrainParserConfig, parser: SceneParser, records: list[dict[str, str]], split: str) -> Examples:
    """The examples whose text and line are short enough.

    Raises:
        UserError: more than a fifth are too long.
    """
    texts, lines = parser.encode([one["input"] for one in records]), parser.encode([one["target"] for one in records])
    most = config.data.max_text_tokens, config.data.max_line_tokens
    kept = [n for n in range(len(records)) if len(texts[n]) <= most[0] and len(lines[n]) <= most[1]]
    if len(kept) < (1.0 - MOST_CUT) * len(records):
        raise UserError(
            f"{len(records) - len(kept)} of the {len(records)} examples of {split} have more than {most[0]} tokens in "
            f"their text or {most[1]} in their line, up to {max(map(len, texts))} and {max(map(len, lines))}: give "
            "--max_text_tokens and --max_line_tokens, or shorter examples"
        )
    if len(kept) < len(records):
        print(f"{len(records) - len(kept)} of {len(records)} examples of {split} are too long, and left out")
    return Examples([texts[n] for n in kept], [lines[n] for n in kept], [records[n] for n in kept])


def fingerprint_of(records: Sequence[dict[str, str]]) -> str:
    """Hash of the training examples."""
    digest = hashlib.sha256()
    for one in records:
        digest.update(f"{one['input']}\0{one['target']}\0".encode())
    return digest.hexdigest()


class ParserBatches:
    """Batches of a training; each is a function of (seed, step)."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._pad = prepared.learner.parser.tokenizer.pad_token_id
        own = {word for one in prepared.examples["train"].records for word in one["input"].split()}
        self._words = sorted({word.strip(".,:") for word in own} | set(scene_words()))

    def batch(self, step: int) -> ParserBatch:
        """The batch of a step, counted from 0."""
        config, course, examples = self._prepared.config, self._prepared.course, self._prepared.examples["train"]
        if step < course.copy_steps:
            return self._copying(np.random.default_rng([config.run.seed, 0, step]))
        epoch, place = divmod(step - course.copy_steps, course.steps_per_epoch)
        order = np.random.default_rng([config.run.seed, 1, epoch]).permutation(len(examples.texts))
        size = config.parsing.batch_size
        chosen = order[place * size : (place + 1) * size]
        return parser_batch([examples.texts[n] for n in chosen], [examples.lines[n] for n in chosen], self._pad)

    def _copying(self, rng: np.random.Generator) -> ParserBatch:
        texts = []
        for _ in range(self._prepared.config.parsing.batch_size):
            chosen = rng.integers(len(self._words), size=rng.integers(*COPIED_WORDS))
            texts.append(" ".join(self._words[place] for place in chosen))
        parser = self._prepared.learner.parser
        lines = [json.dumps({"text": text}, separators=(",", ":")) for text in texts]
        return parser_batch(parser.encode([PREFIX + text for text in texts]), parser.encode(lines), self._pad)


class HeldOut:
    """Loss on the examples of validation, and what is read right of held-out texts, measured when it is called."""

    def __init__(self, prepared: Prepared) -> None:
        self.figures: dict[str, float] = {}
        """Of the last call."""
        self._learner = prepared.learner
        size, pad = prepared.config.parsing.batch_size, prepared.learner.parser.tokenizer.pad_token_id
        most = prepared.config.data.num_measured
        measured = {
            split: Examples(own.texts[:most], own.lines[:most], own.records[:most])
            for split, own in prepared.examples.items()
            if split != "train"
        }
        val = measured["val"]
        self._batches = [
            parser_batch(val.texts[place : place + size], val.lines[place : place + size], pad)
            for place in range(0, len(val.texts), size)
        ]
        self._records = {split: own.records for split, own in measured.items()}
        self._most_tokens = prepared.config.data.max_line_tokens

    def __call__(self) -> dict[str, float]:
        """Measures, prints and returns the figures."""
        self.figures = {"validation_loss": self._learner.validate(self._batches)}
        for split, records in self._records.items():
            texts = [one["input"].removeprefix(PREFIX) for one in records]
            written = [
                line
                for place in range(0, len(texts), WRITTEN_AT_ONCE)
                for line in self._learner.parser.write(
                    texts[place : place + WRITTEN_AT_ONCE], max_tokens=self._most_tokens
                )
            ]
            own = target_figures([one["target"] for one in records], written)
            self.figures |= {f"{split}/{name}": value for name, value in own.items()}
        shown = "  ".join(f"{name} {value:.3g}" for name, value in self.figures.items())
        # Above the progress bar, where there is one.
        with tqdm.external_write_mode():
            print(f"step {self._learner.num_steps}: {shown}", flush=True)
        return self.figures

    def write(self, folder: Path) -> None:
        """Writes `evaluation.json` with the last figures."""
        with atomic_write(folder / "evaluation.json") as file:
            file.write(json.dumps({"kind": "scene_parsing", "figures": self.figures}, indent=1).encode())
