"""The demonstration of `jobs.demo`: trains missing weights, runs GRPO or continues it, and sums up the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cluster.records.opening import as_begun, changed_options, read_config
from jobs.command_line import main as cli
from jobs.configs.demo import DemoConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from jobs.text import grpo_run, pretraining, retrieval_training
from jobs.text.first_page import first_page_of, write_first_page
from motions.settings import BUILTIN, flat_values
from rewards.settings import BUILTIN_JUDGE_FOLDER, BUILTIN_TMR_FOLDER
from rollouts.checkpoints.mdm_files import builtin_names

WEIGHTS = ("model_path", "tmr_checkpoint_path", "judge_path")
"""Options of `jobs.grpo` that name policy, reward and judge."""


def plan(config: DemoConfig) -> None:
    """Prints which weights the demonstration uses and what is left to do, and checks the run if all weights exist."""
    trainings = missing_weights(config.weights_dir)
    settings = run_settings(config, weight_paths(trainings))
    for option in WEIGHTS:
        if option not in trainings:
            print(f"{option}: {settings.flat()[option]}, ships with this copy")
        else:
            print(f"{option}: would be trained first\n  {trainings[option].command}")
    check_run(settings, complete=not trainings)


def check_run(settings: GRPOConfig, *, complete: bool) -> None:
    """Prints the state of the run, and checks whether it can start unless it is finished.

    Args:
        complete: whether all weights exist; the run cannot be checked without them.

    Raises:
        UserError: it cannot start.
        StartError: this machine is too small for it.
    """
    command = cli.command_of(settings, "jobs.grpo")
    if finished(settings):
        print(_already_done(settings))
        return
    print(f"{settings.run.save_dir}: the run {'goes on' if settings.run.resume else 'begins'}, as by\n  {command}")
    if complete:
        grpo_run.dry_run(settings)


def run(config: DemoConfig) -> None:
    """Runs the missing parts of the demonstration and reports."""
    run_with(config, ensure_weights(config.weights_dir))


def run_with(config: DemoConfig, weights: dict[str, str]) -> None:
    """Runs the demonstration with given weights: values of `model_path`, `tmr_checkpoint_path` and `judge_path`."""
    settings = run_settings(config, weights)
    if finished(settings):
        print(_already_done(settings))
    else:
        page = first_page_of(settings.run.save_dir)
        if not (settings.run.resume and page.is_file()):
            write_first_page(settings)
        print(f"first page, what the policy does before the fine-tuning: {page.absolute().as_uri()}", flush=True)
        print(f"fine-tuning: {settings.run.num_steps} steps into {settings.run.save_dir}", flush=True)
        grpo_run.run(settings)
    for line in summary(settings.run.save_dir):
        print(line)


def run_settings(config: DemoConfig, weights: dict[str, str]) -> GRPOConfig:
    """Settings of the run, in the folder where it is, goes on, or begins."""
    overrides: dict[str, object] = {**weights, "runtime": config.runtime, "ray_address": "local"}
    if config.num_steps is not None:
        overrides["num_steps"] = config.num_steps
    number = 1
    while True:
        folder = config.save_dir if number == 1 else config.save_dir.with_name(f"{config.save_dir.name}-{number}")
        known = (folder / "config.yaml").is_file()
        settings = cli.load_preset(
            GRPOConfig, config.grpo_preset, "jobs.grpo", **overrides, save_dir=folder, resume=known
        )
        settings = as_begun(settings.run, settings)
        if not known or (same_run(settings) and not (config.fresh and finished(settings))):
            return settings
        number += 1


def same_run(settings: GRPOConfig) -> bool:
    """Whether the folder holds a run of these settings, as far as they affect results, and of this length."""
    before = read_config(settings.run.save_dir)
    num_steps = flat_values(GRPOConfig, before)["num_steps"]
    return not changed_options(before, settings) and num_steps == settings.run.num_steps


def finished(settings: GRPOConfig) -> bool:
    """Whether the folder holds all that a run of these settings leaves."""
    names = ("config.yaml", "manifest.json", "evaluation.json", "model_final.pt", "report.html")
    if not all((settings.run.save_dir / name).is_file() for name in names) or not same_run(settings):
        return False
    manifest = json.loads((settings.run.save_dir / "manifest.json").read_text(encoding="utf-8"))
    return manifest["step"] == settings.run.num_steps


def ensure_weights(folder: Path) -> dict[str, str]:
    """Paths of policy, reward and judge: those that ship, or ones that are trained below `folder`."""
    trainings = missing_weights(folder)
    for option, training in trainings.items():
        print(
            f"this copy has no weights for {option}: training them takes minutes, once\n  {training.command}",
            flush=True,
        )
        training.train()
    return weight_paths(trainings)


@dataclass(frozen=True)
class PlannedTraining:
    """How weights that do not ship are made."""

    folder: Path
    command: str
    train: Callable[[], None]


def missing_weights(folder: Path) -> dict[str, PlannedTraining]:
    """What has to be trained first, by the option of `jobs.grpo` that takes it; nothing where all weights ship."""
    trainings: dict[str, PlannedTraining] = {}
    if BUILTIN not in builtin_names():
        policy = cli.load_preset(
            PretrainConfig, "pretrain_small", "jobs.pretrain", save_dir=folder / "policy", resume=True
        )
        trainings["model_path"] = PlannedTraining(
            policy.run.save_dir, cli.command_of(policy, "jobs.pretrain"), partial(pretraining.run, policy)
        )
    for option, shipped, changes in (
        ("tmr_checkpoint_path", BUILTIN_TMR_FOLDER, {}),
        ("judge_path", BUILTIN_JUDGE_FOLDER, {"captions": "judge", "seed": 77}),
    ):
        if (shipped / "config.json").is_file():
            continue
        retrieval = cli.load_preset(
            RetrievalConfig,
            "retrieval_small",
            "jobs.train_retrieval",
            **{"save_dir": folder / option.partition("_")[0], "resume": True, **changes},
        )
        trainings[option] = PlannedTraining(
            retrieval.run.save_dir,
            cli.command_of(retrieval, "jobs.train_retrieval"),
            partial(retrieval_training.run, retrieval),
        )
    return trainings


def weight_paths(trainings: Mapping[str, PlannedTraining]) -> dict[str, str]:
    """What `jobs.grpo` is given as its policy, reward and judge."""
    shipped = dict.fromkeys(WEIGHTS, BUILTIN)
    return shipped | {option: str(training.folder) for option, training in trainings.items()}


def summary(run_dir: Path) -> list[str]:
    """Three lines on a finished run: what improved, by how much against what, where to look."""
    document = json.loads((run_dir / "evaluation.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in document["rows"]}
    total = rows["total"]
    gain = ""
    if spread := document["within_group_std"]:
        change = (total["after"] - total["before"]) / spread
        gain = f", {change:+.2f} standard deviations of the base policy within a prompt"
    checks = []
    if "judge_matching" in rows:
        checks.append(f"the independent judge's matching score {_change(rows['judge_matching'])}")
    if "second_judge" in rows:
        checks.append(f"the second judge's {_change(rows['second_judge'])}")
    if "fid" in rows:
        checks.append(f"FID {rows['fid']['after'] / rows['fid']['before']:.2f}x")
    for name, words in (("joint_speed_mps", "joint speed"), ("diversity_m", "diversity within a prompt")):
        checks.append(f"{words} {rows[name]['after'] / rows[name]['before']:.2f}x")
    return [
        f"Reward on {document['num_prompts']} held-out prompts x {document['num_seeds']} seeds: "
        f"{_change(total)}{gain}.",
        f"Beside it: {', '.join(checks)}.",
        f"Look at {run_dir / 'report.html'}: the same prompts and seeds, before and after, side by side.",
    ]


def _already_done(settings: GRPOConfig) -> str:
    return f"{settings.run.save_dir} holds this run already, finished; --fresh runs it again into a new folder"


def _change(row: dict[str, Any]) -> str:
    text = f"{row['before']:.3f} -> {row['after']:.3f}"
    if row["interval"] is None:
        return text
    low, high = row["interval"]
    return f"{text} ({row['after'] - row['before']:+.3f}, 95 % {low:+.3f} to {high:+.3f})"
