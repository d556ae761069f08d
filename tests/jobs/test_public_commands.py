"""Every command of the public guides of MDM-GRPO and TMR, with our module's name, plans on files in their layout.

The files are miniatures; devices are `cpu`, because here is no other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from jobs import composite, evaluate, grpo
from jobs.command_line import main as cli
from jobs.command_line.flags import ForeignFlag
from jobs.command_line.foreign_flags import FOREIGN_TO_COMPOSITE, FOREIGN_TO_EVALUATE, FOREIGN_TO_GRPO
from jobs.composites.settings import CompositeConfig
from jobs.configs.grpo import GRPOConfig
from jobs.evaluation.settings import EvaluateConfig
from motions.data.composite_records import build_composite_records, write_composite_array
from motions.data.dataset import load_dataset
from motions.settings import Settings
from tests.toys.small_evaluator import small_evaluator, states_of, write_vocabulary
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow

OFFICIAL = "--model_path ./save/official_humanml_enc_512_50steps/model000750000.pt"
PRETRAINED = "--model_path ./save/pretrained_model/model000200000.pt"
SHORT = "--dataset humanml --batch_size 1 --group_size 4"
TMR = (
    "--reward_model_type tmr --tmr_text_encoder_path ./model/GRPO/tmr_weights/text_encoder.pt "
    "--tmr_motion_encoder_path ./model/GRPO/tmr_weights/motion_encoder.pt "
    "--tmr_movement_encoder_path ./model/GRPO/tmr_weights/motion_decoder.pt"
)
SINGLE = "--reward_model_type tmr --tmr_checkpoint_path ./path/to/tmr/checkpoint.pth"
EUCLIDEAN = f"{TMR} --reward_type matching --tmr_similarity_type euclidean --tmr_normalization"
EXPERIMENT = (
    f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 1000 --learning_rate 1e-6 {TMR} --reward_type matching "
    "--tmr_similarity_type cosine --tmr_normalization linear --beta_s 1.0 --disable_random_crop --device cpu"
)
DENSE = "--use_dense_reward --k_segments 3 --alpha"
PHYSICS = "--use_physics_reward --beta_p 0.1 --lambda_skate 1.0 --lambda_jerk 1.0"
COMPOSITE = "--use_composite_dataset --composite_data_path dataset/HumanML3D/composite/composite_k3"

TRAININGS = {
    "mdm matching": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 10000 --learning_rate 1e-6 "
    "--reward_model_type mdm --reward_type matching --device cpu",
    "mdm lora": f"{PRETRAINED} --save_dir ./save/grpo {SHORT} --num_steps 10000 --learning_rate 5e-7 --use_lora "
    "--lora_r 8 --lora_alpha 16 --reward_model_type mdm --reward_type matching --device cpu",
    "mdm r_precision": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --learning_rate 1e-6 --num_steps 15000 "
    "--reward_model_type mdm --reward_type r_precision --device cpu",
    "mdm combined": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --learning_rate 1e-6 --num_steps 15000 "
    "--reward_model_type mdm --reward_type combined --device cpu",
    "mdm dense physics": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 15000 --learning_rate 1e-6 "
    f"--reward_model_type mdm --reward_type matching {DENSE} 0.5 --beta_s 1.0 {PHYSICS} --device cpu",
    "flow": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 15000 --learning_rate 1e-6 --grpo_type flow_grpo "
    "--noise_scale 0.7 --train_timesteps 10 --inference_timesteps 40 --reward_model_type mdm --reward_type matching "
    "--device cpu",
    "tmr cosine": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --learning_rate 1e-6 --num_steps 15000 {TMR} "
    "--reward_type cosine --device cpu",
    "tmr matching cosine": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 10000 {TMR} --reward_type matching "
    "--tmr_similarity_type cosine --device cpu",
    "tmr linear": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 10000 {EUCLIDEAN} linear "
    "--tmr_max_distance 10.0 --device cpu",
    "tmr exponential": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 10000 {EUCLIDEAN} exponential "
    "--tmr_scale 2.0 --device cpu",
    "tmr sigmoid": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 10000 {EUCLIDEAN} sigmoid --tmr_scale 2.0 "
    "--device cpu",
    "tmr dense": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 15000 --learning_rate 1e-6 {TMR} "
    f"--reward_type matching --tmr_similarity_type cosine --tmr_normalization linear {DENSE} 0.5 --device cpu",
    "tmr single file": f"{PRETRAINED} --save_dir ./save/grpo_tmr --dataset humanml --batch_size 2 --group_size 4 "
    f"--num_steps 10000 {SINGLE} --reward_type cosine",
    "tmr guide": f"{PRETRAINED} --save_dir ./save/grpo_tmr --dataset humanml --tmr_checkpoint_path "
    "./path/to/tmr/checkpoint.pth --reward_type cosine --batch_size 2 --group_size 4 --use_lora",
    "composite": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 1000 --learning_rate 1e-6 {TMR} --reward_type "
    f"cosine {COMPOSITE}_train.npy --composite_k_segments 3 --use_dense_reward --k_segments 3 --fps 20.0 "
    "--disable_random_crop --device cpu",
    "experiment 1": f"{EXPERIMENT} {DENSE} 0.0",
    "experiment 2": EXPERIMENT,
    "experiment 3": f"{EXPERIMENT} {DENSE} 0.0 {PHYSICS}",
    "experiment 4": f"{EXPERIMENT} {PHYSICS}",
    "experiment 5": f"{EXPERIMENT} {DENSE} 0.5 {PHYSICS}",
    "experiment 1, cosine, 10000 steps": f"{OFFICIAL} --save_dir ./save/grpo {SHORT} --num_steps 10000 --learning_rate "
    f"1e-6 {TMR} --reward_type cosine {DENSE} 0.0 --beta_s 1.0 --disable_random_crop --device cpu",
}
EVALUATIONS = {
    "plain": OFFICIAL,
    "composite": f"{OFFICIAL} --dataset humanml --eval_mode wo_mm {COMPOSITE}_test.npy --composite_k_segments 3 "
    "--device cpu",
    "guidance": f"{PRETRAINED} --eval_mode mm_short --guidance_param 2.5",
}
COMPOSITES = {
    "all options": "--dataset humanml --split train --k_segments 3 --output_dir dataset/new --target_length 196 "
    "--tolerance 80 --fps 20.0 --max_samples 1000 --compute_b_matrix --device cpu",
    "short": "--dataset t2m --split test --k_segments 3 --output_dir dataset/new --max_samples 1000 --tolerance 80 "
    "--compute_b_matrix --device cpu",
}


@pytest.fixture(scope="module")
def layout(tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a user of these guides would call them: their checkpoints, data and networks."""
    root = tmp_path_factory.mktemp("user")
    args = json.loads((tiny_models.policy / "args.json").read_text())
    for name, step in (("official_humanml_enc_512_50steps", 750000), ("pretrained_model", 200000)):
        folder = root / "save" / name
        folder.mkdir(parents=True)
        shutil.copy(tiny_models.policy_file, folder / f"model{step:09d}.pt")
        # MDM's own args.json names no skeleton, and its statistics lie with the data.
        (folder / "args.json").write_text(json.dumps({**args, "skeleton": None, "diffusion_steps": 50}))
    shutil.copytree(tiny_models.dataset, root / "dataset" / "HumanML3D")
    for name in ("mean", "std"):
        shutil.copy(tiny_models.dataset / f"{name.title()}.npy", root / "dataset" / f"t2m_{name}.npy")
    items = load_dataset(tiny_models.dataset).items("train")
    (root / "dataset" / "HumanML3D" / "composite").mkdir()

    for split in ("train", "test"):
        records = build_composite_records(
            items, k_segments=3, fps=20.0, rng=np.random.default_rng(0), tolerance=80, max_samples=2
        )
        path = root / "dataset" / "HumanML3D" / "composite" / f"composite_k3_{split}.npy"
        write_composite_array(path, records, {"fps": 20.0, "k_segments": 3})
    weights = root / "model" / "GRPO" / "tmr_weights"
    shutil.copytree(tiny_models.tmr / "last_weights", weights)
    single = root / "path" / "to" / "tmr"
    single.mkdir(parents=True)
    parts = ("text_encoder", "motion_encoder")
    torch.save(
        {part: torch.load(weights / f"{part}.pt", weights_only=True) for part in parts}, single / "checkpoint.pth"
    )
    for folder in (weights, single):
        shutil.copytree(tiny_models.tmr / "stats", folder / "stats")
        shutil.copy(tiny_models.tmr / "config.json", folder)
    model = root / "t2m" / "text_mot_match" / "model"
    model.mkdir(parents=True)
    torch.save(states_of(small_evaluator()), model / "finest.tar")
    write_vocabulary(root / "glove")
    return root


@pytest.fixture
def here(layout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That folder as the present one; nothing may be written into it."""
    monkeypatch.chdir(layout)
    before = sorted(layout.rglob("*"))
    yield layout
    assert sorted(layout.rglob("*")) == before


def call(page: ModuleType, config: type[Settings], foreign: dict[str, ForeignFlag], words: str) -> int:
    plan = page.dry_run if page is grpo else page.plan
    return cli.main(config, page.run, None, f"jobs.{page.__name__}", plan=plan, foreign=foreign, argv=words.split())


@pytest.mark.parametrize("name", TRAININGS)
def test_trainings_plan(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The evaluation's judge is not of these guides, and takes time.
    ours = "--dry_run --runtime local --judge_path none --no_second_judge --num_prompts 2 --num_eval_prompts 2"
    assert call(grpo, GRPOConfig, FOREIGN_TO_GRPO, f"{TRAININGS[name]} {ours}") == 0, capsys.readouterr().err
    output = capsys.readouterr().out
    assert "stats_path dataset/HumanML3D: the data's statistics" in output
    asked = "--use_lora" in TRAININGS[name]
    assert f"use_lora: {str(asked).lower()}" in output and "composite_fraction: 0.0" in output
    assert "cluster: has room for this" in output


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluations_plan(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = "--dry_run --runtime local --pool_size 2"
    assert call(evaluate, EvaluateConfig, FOREIGN_TO_EVALUATE, f"{EVALUATIONS[name]} {ours}") == 0, (
        capsys.readouterr().err
    )
    output = capsys.readouterr().out
    assert "network: evaluator" not in output and "eval_humanml_" in output
    if "--dataset" not in EVALUATIONS[name]:
        assert "dataset humanml: taken from " in output


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites_plan(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{COMPOSITES[name]} --tmr_checkpoint_path path/to/tmr/checkpoint.pth --dry_run"
    assert call(composite, CompositeConfig, FOREIGN_TO_COMPOSITE, words) == 0, capsys.readouterr().err
    assert "would write dataset/new/composite_k3_" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--use_lora --lora_r 8 lora_alpha 16", "unexpected 'lora_alpha 16': did you mean --lora_alpha 16?"),
        (
            "--reward_model_type mdm \\ --reward_type matching",
            "unexpected word '\\\\' (behind --reward_model_type): ",
        ),
    ],
)
def test_misprinted_commands_say_what_to_write(
    words: str, line: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(grpo, GRPOConfig, FOREIGN_TO_GRPO, f"{OFFICIAL} --save_dir run {words} --dry_run") == 2
    assert line in capsys.readouterr().err


def test_a_line_that_a_shell_cuts_off_at_its_end_is_a_command_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """A backslash before a blank keeps the blank: the shell hands over one word that begins with it."""
    argv = ["--save_dir", "run", "--reward_model_type", "mdm", " --reward_type", "matching"]
    assert cli.main(GRPOConfig, grpo.run, None, "jobs.grpo", plan=grpo.dry_run, argv=argv) == 2
    assert "a backslash stands before --reward_type; a backslash continues a command only" in capsys.readouterr().err
