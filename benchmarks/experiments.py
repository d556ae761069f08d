"""The five experiments of MDM-GRPO, end to end: what each of presets exp1 to exp5 does to held-out composite prompts.

    python -m benchmarks.experiments [--seeds 3] [--save_dir runs/experiments] [--check] [OPTIONS]

Composites of three segments are made of the built-in data by `jobs.composite`, those of split train to learn on, those
of split test to measure with. Each preset is trained on them by `jobs.grpo` for every seed. `jobs.evaluate` measures
the base policy and every trained one: the same prompts, the same initial noise, the sampler of the training, and the
judge that never is a reward. `jobs.compare` draws all runs in one page. OPTIONS of `jobs.grpo` change all experiments.

A run that was stopped goes on where it was: what is finished is not done again, a training is resumed. In --save_dir
are the composites, a folder for every training and evaluation, `compare/compare.html`, and `experiments.json`,
`experiments.md` (the table, with the commands) and `experiments.png` (curves).

Intervals are of the mean over prompts and seeds of a paired difference, 95 %, by a bootstrap that draws both prompts
and seeds. Targets; --check gives exit code 1 where one is missed, and the last lines name it:

    exp5             raises logic_accuracy and segment_cosine over the base: the interval lies above 0
    exp3 and exp5    lower skating_ratio against exp1: the interval lies below 0
                     keep joint_speed_mps within 20 % of exp1's and of the base's
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning import write_json
from cluster.records.curves import draw_comparisons, smooth
from cluster.records.measured import read_json_lines
from jobs import compare, composite, evaluate, grpo
from jobs.command_line import main as cli
from jobs.composites.settings import CompositeConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.service.compare import CompareConfig
from jobs.evaluation.settings import EvaluateConfig
from motions.base.atomic import atomic_write
from rewards.evaluation.intervals import Resamples, bounds

EXPERIMENTS = {
    "exp1": "segment-dense",
    "exp2": "global",
    "exp3": "segment-dense, physics",
    "exp4": "global, physics",
    "exp5": "segment-dense with R_neg, physics",
}
BASE, REFERENCE = "base", "exp1"
RAISING, RAISED = "exp5", ("logic_accuracy", "segment_cosine")
LOWERING, LOWERED = ("exp3", "exp5"), "skating_ratio"
SPEED, MAX_SPEED_CHANGE = "joint_speed_mps", 0.2
FIRST_SEED = 10
COMPOSITE_SEED, TEST_SEED, EVAL_SEED = 10, 40_417, 52_631
"""Of the composites to learn on, of those to measure with, and of the evaluation's noise. Nothing was chosen on the
last two."""
SPARING = (
    *("--eval_every", "0", "--num_eval_prompts", "4", "--num_eval_samples", "1"),
    *("--eval_other_steps", "none", "--no_second_judge"),
)
"""A training measures as little as it can, because `jobs.evaluate` measures its policy."""
POOL = 32
"""Texts among which R-precision searches, as in published figures."""
SHOWN = {
    "logic_accuracy": "Logic-Acc ↑",
    "segment_cosine": "dense cosine ↑",
    "r_neg": "R_neg ↓",
    "skating_ratio": "skating ratio ↓",
    "low_foot_skate": "sliding of low feet, (m/s)² ↓",
    "border_jerk_mps3": "jerk at borders, m/s³",
    "jerk_mps3": "jerk, m/s³",
    "joint_speed_mps": "joint speed, m/s",
}
"""Figures of the table that every motion has, and their names there."""
WHOLE = {"fid": "FID to joined real motions ↓", "diversity": "diversity"}
"""Figures of all motions of an evaluation together."""
CURVES = {
    "reward/semantic": "semantic reward of the training's motions (exp1, 3 and 5: dense; exp2 and 4: global)",
    "reward/skating_ratio": "skating ratio of the training's motions (experiments with physics)",
}

Words = list[str]


@dataclass(frozen=True)
class Chain:
    """The commands of the benchmark, each of which is left out where its result exists.

    Args:
        folder: of all results.
        options: of `jobs.grpo`, for all experiments.
    """

    folder: Path
    seeds: Sequence[int]
    options: Words
    prompts: int
    samples: int

    def composites(self, split: str) -> Words:
        """Words of `jobs.composite`. Three parts of the built-in data rarely fill all frames."""
        most = self._config(REFERENCE, self.seeds[0], []).rewards.max_motion_length
        train = split == "train"
        seed, count = (COMPOSITE_SEED, 256) if train else (TEST_SEED, self.prompts)
        return [
            *("--dataset", self._dataset, "--split", split, "--k_segments", "3"),
            *("--target_length", str(most), "--tolerance", str(most // 2)),
            *("--max_samples", str(count), "--seed", str(seed), "--output_dir", str(self.folder / "composites")),
        ]

    def file(self, split: str) -> Path:
        """The composites of a split."""
        return self.folder / "composites" / f"composite_k3_{split}.jsonl"

    def training(self, experiment: str, seed: int) -> Words:
        """Words of `jobs.grpo`."""
        return [
            *("--preset", experiment, "--composite_data_path", str(self.file("train")), "--seed", str(seed)),
            *(*SPARING, "--save_dir", str(self.run_of(experiment, seed)), *self.options),
        ]

    def run_of(self, experiment: str, seed: int) -> Path:
        """Folder of a training."""
        return self.folder / f"{experiment}_seed{seed}"

    def evaluation(self, name: str, model: str) -> Words:
        """Words of `jobs.evaluate`, with the sampler of the training."""
        config = self._config(REFERENCE, self.seeds[0], [])
        sampling = config.sampling
        steps = [] if sampling.sampling_steps is None else ["--sampling_steps", str(sampling.sampling_steps)]
        return [
            *("--model_path", model, "--dataset", self._dataset, "--use_composite_dataset"),
            *("--composite_data_path", str(self.file("test")), "--eval_mode", "debug", "--no_stochastic"),
            *("--replication_times", str(self.samples), "--sampler", sampling.sampler, *steps),
            *("--guidance_scale", f"{sampling.guidance_scale:g}", "--judge_path", config.evaluation.judge_path),
            *("--seed", str(EVAL_SEED), "--pool_size", str(min(POOL, 3 * self.prompts)), "--runtime", "local"),
            *("--save_dir", str(self.evaluation_of(name))),
        ]

    def evaluation_of(self, name: str) -> Path:
        """Folder of an evaluation."""
        return self.folder / "evaluations" / name

    def comparison(self) -> Words:
        """Words of `jobs.compare`: evaluations of the base and of every training."""
        names = [BASE, *(f"{experiment}_seed{seed}" for experiment in EXPERIMENTS for seed in self.seeds)]
        runs = [f"{name}={self.evaluation_of(name)}" for name in names]
        return [*runs, "--save_dir", str(self.folder / "compare")]

    def run(self) -> None:
        """Does what is left to do, and prints the command of each part."""
        for split in ("train", "test"):
            if not self.file(split).is_file():
                words = self.composites(split)
                _say("jobs.composite", words)
                composite.run(cli.parse(CompositeConfig, words, "jobs.composite").settings)
        base = self._config(REFERENCE, self.seeds[0], []).policy.model_path
        self._evaluate(BASE, base)
        for seed in self.seeds:
            for experiment in EXPERIMENTS:
                self._train(experiment, seed)
                self._evaluate(f"{experiment}_seed{seed}", str(self.run_of(experiment, seed)))
        words = self.comparison()
        if not (self.folder / "compare" / "compare.html").is_file():
            _say("jobs.compare", words)
            compare.run(cli.parse(CompareConfig, words, "jobs.compare").settings)

    def result(self, name: str) -> dict[str, Any]:
        """What `jobs.evaluate` wrote."""
        [path] = self.evaluation_of(name).glob("*.json")
        return json.loads(path.read_text(encoding="utf-8"))

    def _train(self, experiment: str, seed: int) -> None:
        folder = self.run_of(experiment, seed)
        if (folder / "report.html").is_file() and (folder / "model_final.pt").is_file():
            return
        resumed = ["--resume"] if (folder / "config.yaml").is_file() else []
        _say("jobs.grpo", [*self.training(experiment, seed), *resumed])
        grpo.run(self._config(experiment, seed, resumed))

    def _evaluate(self, name: str, model: str) -> None:
        if not any(self.evaluation_of(name).glob("*.json")):
            words = self.evaluation(name, model)
            _say("jobs.evaluate", words)
            evaluate.run(cli.parse(EvaluateConfig, words, "jobs.evaluate").settings)

    def _config(self, experiment: str, seed: int, more: Words) -> GRPOConfig:
        return cli.parse(GRPOConfig, [*self.training(experiment, seed), *more], "jobs.grpo").settings

    @property
    def _dataset(self) -> str:
        return self._config(REFERENCE, self.seeds[0], []).data.dataset


def _say(job: str, words: Words) -> None:
    print(f"\n$ python -m {job} {shlex.join(words)}", flush=True)


@dataclass(frozen=True)
class Difference:
    """Mean paired difference of a figure between two policies."""

    mean: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """With its sign, and the interval."""
        return f"{self.mean:+.3g} ({self.low:+.3g} to {self.high:+.3g})"


class Table:
    """Figures of the base and of every experiment, and their differences.

    Args:
        results: of `jobs.evaluate`, by the name of the experiment and seed; that of the base is under `base`.

    Raises:
        ValueError: evaluations of different prompts.
    """

    def __init__(self, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.results = results
        texts = [prompt["text"] for prompt in results[BASE][0]["prompts"]]
        for name, runs in results.items():
            if any([prompt["text"] for prompt in run["prompts"]] != texts for run in runs):
                raise ValueError(f"{name} was evaluated on other prompts than the base")
        self._resamples = Resamples(texts)
        seeds = len(results[REFERENCE])
        self._seeds = np.random.default_rng(0).integers(
            seeds, size=(seeds, len(self._resamples.means(np.ones(len(texts)))))
        )

    def values(self, name: str, figure: str) -> np.ndarray:
        """Figure [seeds, prompts] of a policy, mean over its samples; the base has one row."""
        return np.array([[np.mean(prompt[figure]) for prompt in run["prompts"]] for run in self.results[name]])

    def mean(self, name: str, figure: str) -> float:
        """Mean over seeds and prompts."""
        return float(self.values(name, figure).mean())

    def difference(self, name: str, figure: str, other: str) -> Difference:
        """How much more of a figure a policy has than another, seed by seed."""
        difference = self.values(name, figure) - self.values(other, figure)
        means = np.stack([self._resamples.means(own) for own in difference])
        chosen = self._seeds if len(means) > 1 else np.zeros_like(self._seeds[:1])
        return Difference(float(difference.mean()), *bounds(np.take_along_axis(means, chosen, axis=0).mean(axis=0)))

    def whole(self, name: str, figure: str, row: str = "model") -> float | None:
        """Mean over seeds of a figure of all motions together; None where there is none."""
        found = [run["rows"].get(row, {}).get(figure) for run in self.results[name]]
        means = [one["mean"] for one in found if one is not None]
        return float(np.mean(means)) if means else None

    def lines(self) -> Iterator[str]:
        """The table in Markdown: means over seeds, and the changes against the base."""
        yield "| | base | " + " | ".join(f"{name}: {what}" for name, what in EXPERIMENTS.items()) + " | real |"
        yield "|---" * (len(EXPERIMENTS) + 3) + "|"
        for figure, label in SHOWN.items():
            cells = [f"{self.mean(BASE, figure):.3g}"]
            for name in EXPERIMENTS:
                cells.append(f"{self.mean(name, figure):.3g}, {self.difference(name, figure, BASE).words}")
            yield f"| {label} | {' | '.join([*cells, _cell(self.whole(BASE, figure, 'ground truth'))])} |"
        for figure, label in WHOLE.items():
            cells = [_cell(self.whole(name, figure)) for name in (BASE, *EXPERIMENTS)]
            yield f"| {label} | {' | '.join([*cells, _cell(self.whole(BASE, figure, 'ground truth'))])} |"

    def against_reference(self) -> Iterator[str]:
        """The experiments with physics against the one without, in Markdown."""
        yield f"| against {REFERENCE} | {LOWERED} | joint speed |"
        yield "|---|---|---|"
        for name in LOWERING:
            ratio = self.mean(name, SPEED) / self.mean(REFERENCE, SPEED)
            yield f"| {name} | {self.difference(name, LOWERED, REFERENCE).words} | {ratio:.3f} x |"

    def missed(self) -> list[str]:
        """One phrase for every target that is missed."""
        found = []
        for figure in RAISED:
            change = self.difference(RAISING, figure, BASE)
            if change.low <= 0.0:
                found.append(f"{RAISING} changes {figure} by {change.words}, whose interval is not above 0")
        for name in LOWERING:
            change = self.difference(name, LOWERED, REFERENCE)
            if change.high >= 0.0:
                found.append(f"{name} has {LOWERED} {change.words} of {REFERENCE}, whose interval is not below 0")
            for other in (REFERENCE, BASE):
                ratio = self.mean(name, SPEED) / self.mean(other, SPEED)
                if abs(ratio - 1.0) > MAX_SPEED_CHANGE:
                    found.append(f"{name} has {ratio:.2f} times the {SPEED} of {other}")
        return found

    def plain(self) -> dict[str, Any]:
        """All numbers, as JSON."""
        document: dict[str, Any] = {}
        for name in (BASE, *EXPERIMENTS):
            own: dict[str, Any] = {}
            for figure in SHOWN:
                own[figure] = {"by_seed": self.values(name, figure).mean(axis=1).tolist()}
                for other in (BASE, REFERENCE) if name != BASE else ():
                    change = self.difference(name, figure, other)
                    own[figure][f"minus_{other}"] = {"mean": change.mean, "interval_95": [change.low, change.high]}
            own |= {figure: self.whole(name, figure) for figure in WHOLE}
            document[name] = own
        document["real"] = {figure: self.whole(BASE, figure, "ground truth") for figure in (*SHOWN, *WHOLE)}
        return document


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is left, writes table, JSON and curves, and returns the exit code."""
    options, words = parse_arguments(arguments)
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    chain = Chain(options.save_dir, seeds, words, options.prompts, options.samples)
    chain.run()
    results = {name: [chain.result(f"{name}_seed{seed}") for seed in seeds] for name in EXPERIMENTS}
    table = Table({BASE: [chain.result(BASE)], **results})
    missed = table.missed()
    write_json(
        options.save_dir / "experiments.json",
        {"missed": missed, "seeds": list(seeds), "commands": commands(chain), "figures": table.plain()},
    )
    text = "\n".join([*table.lines(), "", *table.against_reference(), "", "```bash", *commands(chain), "```"]) + "\n"
    with atomic_write(options.save_dir / "experiments.md") as file:
        file.write(text.encode())
    draw_comparisons(options.save_dir / "experiments.png", {title: curves(chain, key) for key, title in CURVES.items()})
    print(text)
    print("\n".join(f"missed: {phrase}" for phrase in missed) or "all targets are met")
    return 1 if options.check and missed else 0


def commands(chain: Chain) -> list[str]:
    """The commands by hand: those of one experiment and seed stand for all."""
    seed = chain.seeds[0]
    last = f"{RAISING}_seed{seed}"
    parts = [
        ("jobs.composite", chain.composites("train")),
        ("jobs.composite", chain.composites("test")),
        ("jobs.grpo", chain.training(RAISING, seed)),
        ("jobs.evaluate", chain.evaluation(last, str(chain.run_of(RAISING, seed)))),
        ("jobs.compare", [f"{BASE}={chain.evaluation_of(BASE)}", f"{last}={chain.evaluation_of(last)}"]),
    ]
    return [f"python -m {job} {shlex.join(words)}" for job, words in parts]


def curves(chain: Chain, key: str) -> dict[str, list[tuple[float, float]]]:
    """Points (update, mean over seeds) of a metric of the trainings, smoothed over five updates."""
    found = {}
    for name in EXPERIMENTS:
        each = []
        for seed in chain.seeds:
            records = read_json_lines(chain.run_of(name, seed) / "metrics.jsonl")
            each.append([record[key] for record in records if key in record])
        if each[0]:
            means = smooth(np.mean(each, axis=0), 5)
            found[name] = [(float(number), float(value)) for number, value in enumerate(means, start=1)]
    return found


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Words]:
    """The benchmark's options, and those of `jobs.grpo`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings of each experiment")
    parser.add_argument("--prompts", type=int, default=64, help="number of held-out composites")
    parser.add_argument("--samples", type=int, default=2, help="motions of each, and replications of the evaluation")
    parser.add_argument("--save_dir", type=Path, default=Path("runs/experiments"), help="folder of all results")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options, words = parser.parse_known_args(arguments)
    for name, least in (("seeds", 1), ("prompts", 2), ("samples", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} is {getattr(options, name)}, expected at least {least}")
    chain = partial(Chain, options.save_dir, [FIRST_SEED], words, options.prompts, options.samples)
    try:
        cli.parse(GRPOConfig, chain().training(REFERENCE, FIRST_SEED), "jobs.grpo")
    except cli.UsageError as error:
        parser.error("; ".join(error.lines))
    return options, words


if __name__ == "__main__":
    sys.exit(main())
