"""Files whose download went wrong, for every option that reads a file: each is named as what it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import jobs.configs
import jobs.critic
from motions.settings.options import Option, options_of
from tests.jobs.mistakes.table import HTML, LFS, Case, require_refusal

pytestmark = pytest.mark.slow

GRPO = "jobs.grpo --save_dir run --runtime local --dry_run"
MDM = f"{GRPO} --reward_model_type mdm"
WHOLE = " --save_dir run --test_share 0 --val_share 0 --dry_run"
COMMANDS = {
    "adapter_path": (f"{GRPO} --use_lora", "folder"),
    "stats_path": (GRPO, "folder"),
    "model_path": (GRPO, "file.pt", "folder"),
    "ref_model_path": (GRPO, "file.pt", "folder"),
    "refiner_path": (f"{GRPO} --policy_type physics_ssm", "folder"),
    "text_encoder_path": (GRPO, "folder"),
    "dataset": (GRPO, "folder"),
    "data_dir": (f"{GRPO} --dataset humanml", "folder"),
    "prompts_path": (GRPO, "file.txt", "file.jsonl", "file.npy"),
    "eval_prompts_path": (GRPO, "file.txt", "file.jsonl"),
    "composite_data_path": (f"{GRPO} --use_composite_dataset", "file.npy", "file.jsonl"),
    "evaluator_path": (MDM, "file.tar"),
    "evaluator_stats_path": (f"{MDM} --evaluator_path file.tar", "folder"),
    "glove_path": (f"{MDM} --evaluator_path file.tar", "folder"),
    "evaluator_texts_path": (f"{MDM} --evaluator_path file.tar", "folder"),
    "distractors_path": (f"{MDM} --evaluator_path file.tar", "file.txt"),
    "tmr_checkpoint_path": (GRPO, "file.ckpt", "file.pt", "folder"),
    "tmr_text_encoder_path": (f"{GRPO} --tmr_motion_encoder_path file.pt", "file.pt"),
    "tmr_motion_encoder_path": (f"{GRPO} --tmr_text_encoder_path file.pt", "file.pt"),
    "tmr_movement_encoder_path": (
        f"{GRPO} --tmr_text_encoder_path file.pt --tmr_motion_encoder_path file.pt",
        "file.pt",
    ),
    "tmr_stats_path": (GRPO, "folder"),
    "tmr_text_model_path": (GRPO, "folder"),
    "critic_checkpoint_path": (f"{GRPO} --critic_weight 1", "file.pth", "file.safetensors"),
    "judge_path": (GRPO, "file.pt", "folder"),
    "text_file": ("jobs.generate --save_dir run --dry_run", "file.txt"),
    "load_sft_pretrain": ("jobs.trpo --save_dir run --dry_run", "file.safetensors", "file.pth", "folder"),
    "load_model_path": ("jobs.trpo --task evaluate --dry_run", "file.safetensors", "folder"),
    "controller": ("jobs.deepmimic --task evaluate --motion walk --dry_run", "file.safetensors", "folder"),
    "tracking_controller": (f"{GRPO} --use_tracking_reward", "file.safetensors", "folder"),
    "motion": ("jobs.sft --save_path run --dry_run", "file.txt", "file.bvh", "file.npz", "file.npy"),
    "balance_gains": ("jobs.sft --save_path run --dry_run", "file.json"),
    "start": ("jobs.balance --output gains.json --dry_run", "file.json"),
    "bvh_dir": (f"jobs.import_motion --captions captions.csv{WHOLE}", "folder"),
    "captions": (f"jobs.import_motion --bvh_dir clips{WHOLE}", "file.csv"),
    "mapping": (f"jobs.import_motion --bvh_dir clips --captions captions.csv{WHOLE}", "file.json"),
    "inputs": ("jobs.view --save_dir run --dry_run", "file.bvh", "file.npy", "file.npz", "file.txt"),
    "pairs_path": ("jobs.train_critic --save_dir run --dry_run", "file.pth"),
    "eval_pairs_path": ("jobs.train_critic --save_dir run --pairs_path file.pth --dry_run", "file.pth"),
}
"""Option -> a command that reads it, and what it reads."""
WRITTEN = {"save_dir", "save_path", "output", "weights_dir", "text_cache_dir", "index_dir"}
OTHERS = {"use_composite_dataset", "reference_start", "sde_window_start", "critic_inputs"}
"""Options that are called so and read nothing."""
NAMES = (
    *("Mean.npy", "Std.npy", "train.txt", "config.json", "args.json", "model000000001.pt", "controller.safetensors"),
    *("adapter_model.safetensors", "adapter_config.json", "our_vab_words.pkl", "our_vab_idx.pkl", "our_vab_data.npy"),
    *("walk.bvh", "text_encoder.pt", "motion_encoder.pt", "mean.pt", "std.pt", "000001.txt"),
)
KINDS = {"pointer of Git LFS": LFS, "web page": HTML}


def test_the_table_has_every_option_that_reads_a_file() -> None:
    assert {option.name for option in path_options()} - WRITTEN - OTHERS <= COMMANDS.keys()


def path_options() -> Iterator[Option]:
    """Options of all commands that hold paths, by their names."""
    ends = (
        "_path",
        "_dir",
        "_file",
        "dataset",
        "inputs",
        "captions",
        "mapping",
        "controller",
        "balance_gains",
        "start",
    )
    for package in (jobs.configs, jobs.critic):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for name, model in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                if issubclass(model, BaseModel) and name.endswith("Config") and model.__module__ == module.name:
                    yield from (option for option in options_of(model).values() if option.name.endswith(ends))


@pytest.mark.parametrize(
    ("option", "read", "kind"),
    [
        # Which of the two an option is given has no meaning; both for each take twice the time.
        (option, read, list(KINDS)[(number + place) % 2])
        for number, (option, (_, *reads)) in enumerate(COMMANDS.items())
        for place, read in enumerate(reads)
    ],
)
def test_a_download_that_went_wrong_is_named(
    option: str,
    read: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = KINDS[kind]
    (tmp_path / "folder" / "new_joint_vecs").mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "folder" / name).write_bytes(content)
    for ending in ("pt", "ckpt", "tar", "pth", "safetensors", "npy", "npz", "txt", "jsonl", "json", "csv", "bvh"):
        (tmp_path / f"file.{ending}").write_bytes(content)
    command = COMMANDS[option][0]
    require_refusal(Case((*command.split(), f"--{option}", read), (kind,)), tmp_path, monkeypatch, capsys)
