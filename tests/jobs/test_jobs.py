"""The jobs from end to end on tiny models: train, resume, generate, fine-tune, and commands of MDM and MDM-GRPO."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cluster.records.checkpoints import RunDirectoryError
from jobs import generate, grpo, pretrain, train_retrieval, trpo
from jobs.command_line import main as cli
from jobs.command_line.flags import flags_of, names_of
from jobs.command_line.foreign_flags import FOREIGN_TO_GRPO
from jobs.command_line.settings_files import PRESETS
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from jobs.configs.sft import SFTConfig
from jobs.configs.trpo import TRPOJobConfig
from jobs.critic.settings import CriticConfig
from jobs.scenes.parser_settings import TrainParserConfig
from jobs.ssm.refiner_settings import PhysicsSSMConfig
from jobs.ssm.settings import MotionSSMConfig
from jobs.text import pretraining
from jobs.text.grpo_prompts import evaluation_prompts, training_prompts
from motions.base.errors import UserError
from motions.data.dataset import load_dataset
from motions.data.prompts import Prompt, Segment, load_prompts, save_prompts
from motions.settings import Settings, options_of
from motions.skeleton.skeletons import HUMANML3D
from rewards.evaluation.text import load_judge, measure
from rewards.mixing import combine
from rewards.scorers import build_scorers
from rewards.settings import RewardSettings
from rewards.tmr.checkpoints import save_tmr
from rollouts.checkpoints.loading import load_policy, load_policy_text_encoder
from rollouts.diffusion.worker import generate as generate_motions
from rollouts.settings import PolicySettings, SamplingSettings
from tests.toys.small_tmr import CONFIG, prompt_of, small_tmr
from tests.toys.tiny_models import TinyModels, grpo_words, pretrain_config, retrieval_config

pytestmark = pytest.mark.slow

JOBS: dict[str, type[Settings]] = {
    "jobs.grpo": GRPOConfig,
    "jobs.pretrain": PretrainConfig,
    "jobs.train_retrieval": RetrievalConfig,
    "jobs.train_critic": CriticConfig,
    "jobs.train_physics_ssm": PhysicsSSMConfig,
    "jobs.train_motion_ssm": MotionSSMConfig,
    "jobs.train_m1_t5": TrainParserConfig,
    "jobs.sft": SFTConfig,
    "jobs.trpo": TRPOJobConfig,
    "jobs.deepmimic": DeepMimicConfig,
}


@pytest.fixture
def models(tiny_models: TinyModels) -> TinyModels:
    return tiny_models


def run_grpo(*words: str) -> int:
    return cli.main(
        GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", plan=grpo.dry_run, foreign=FOREIGN_TO_GRPO, argv=list(words)
    )


def metrics_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    contents = torch.load(path, weights_only=True)
    return contents.get("model_avg", contents)


def test_pretrain_writes_an_mdm_folder(models: TinyModels) -> None:
    assert {path.name for path in models.policy.iterdir()} >= {
        *("args.json", "Mean.npy", "Std.npy", "model000000004.pt"),
        *("config.yaml", "metrics.jsonl", "training_curves_latest.png"),
    }
    # Of keep_checkpoints 1, nothing stays of the step before.
    assert not (models.policy / "model000000002.pt").exists()
    args = json.loads((models.policy / "args.json").read_text())
    assert (args["latent_dim"], args["diffusion_steps"], args["use_ema"]) == (32, 6, True)
    assert args["command"].startswith("python -m jobs.pretrain --")
    assert [record["step"] for record in metrics_of(models.policy)] == [1, 2, 3, 4]
    settings = PolicySettings(model_path=str(models.policy), use_lora=False)
    assert load_policy(settings, SamplingSettings(sampling_steps=3)).num_steps == 3


def test_pretraining_that_was_stopped_ends_with_the_same_bits(models: TinyModels, tmp_path: Path) -> None:
    pretrain.run(pretrain_config(models.dataset, tmp_path, num_steps=2))
    pretrain.run(pretrain_config(models.dataset, tmp_path, resume=True))
    assert [record["step"] for record in metrics_of(tmp_path)] == [1, 2, 3, 4]
    ours, uninterrupted = (weights_of(folder / "model000000004.pt") for folder in (tmp_path, models.policy))
    assert all(torch.equal(ours[name], uninterrupted[name]) for name in uninterrupted)
    with pytest.raises(RunDirectoryError, match="batch_size was 6, is 7"):
        pretrain.run(pretrain_config(models.dataset, tmp_path, resume=True, batch_size=7))
    with pytest.raises(RunDirectoryError, match="holds a run already"):
        pretrain.run(pretrain_config(models.dataset, tmp_path))


def test_composites_are_part_of_the_training_and_lengths_of_a_batch_are_alike(
    models: TinyModels, tmp_path: Path
) -> None:
    from motions.data.dataset import load_dataset

    dataset = load_dataset(str(models.dataset))
    config = pretrain_config(models.dataset, tmp_path)
    batches = [pretraining.TrainingClips(config, dataset).batch(step) for step in range(16)]
    known = {caption for item in dataset.items("train") for caption in item.captions}
    for pool in (batches[:8], batches[8:]):
        assert all(len(batch.texts) == 6 for batch in pool)
        assert sum(text in known for batch in pool for text in batch.texts) == 24
    assert all(batch.features.shape[1] == batch.lengths.max() <= 96 for batch in batches)
    shuffled = np.random.default_rng(0).permutation(np.concatenate([batch.lengths for batch in batches]))
    padding = sum(int((batch.lengths.max() - batch.lengths).sum()) for batch in batches)
    assert padding < 0.5 * sum(int((rows.max() - rows).sum()) for rows in shuffled.reshape(16, 6))
    again = pretraining.TrainingClips(config, dataset).batch(11)
    np.testing.assert_array_equal(batches[11].features, again.features)
    assert batches[11].texts == again.texts != batches[10].texts


def test_retrieval_training_writes_tmr_files_with_held_out_figures(
    models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((models.tmr / "config.json").read_text())["provenance"]
    assert document["command"].startswith("python -m jobs.train_retrieval --")
    assert 0 <= document["held_out"]["t2m/R03"] <= 100
    assert document["held_out_pairs"] >= 4
    train_retrieval.run(retrieval_config(models.dataset, tmp_path, seed=77))
    assert "held-out pairs: t2m/R01" in capsys.readouterr().out
    first, judge = (
        torch.load(folder / "last_weights" / "text_encoder.pt", weights_only=True) for folder in (models.tmr, tmp_path)
    )
    assert not torch.equal(first["tokens"], judge["tokens"])
    train_retrieval.run(retrieval_config(models.dataset, tmp_path / "judge", captions="judge"))
    assert json.loads((tmp_path / "judge" / "config.json").read_text())["provenance"]["captions"] == "judge"


def test_generate_writes_motions_that_mdm_tools_know(
    models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"text": "walks, then runs", "segments": [{"text": "walks", "num_frames": 12}, '
                       '{"text": "runs", "num_frames": 20}]}\n{"text": "jumps", "seconds": 0.45}\n')  # fmt: skip
    config = GenerateConfig.of(
        model_path=str(models.policy), text_file=prompts, num_samples=2, save_dir=tmp_path / "out", sampling_steps=3
    )
    generate.run(config)
    assert f"policy: MDM from {models.policy_file} (model_avg): " in capsys.readouterr().out
    with np.load(config.generation.save_dir / "results.npz", allow_pickle=False) as results:
        assert results["motion"].shape == (4, 22, 3, 32)
        assert results["text"].tolist() == ["walks, then runs", "jumps"] * 2
        assert results["lengths"].tolist() == [32, 9, 32, 9]
        joints = np.load(config.generation.save_dir / "sample01_rep01.npy")
        np.testing.assert_array_equal(results["motion"][3, :, :, :9], joints.transpose(1, 2, 0))
    assert np.load(config.generation.save_dir / "sample00_rep01_features.npy").shape == (32, 263)
    assert (config.generation.save_dir / "sample00_rep00.gif").read_bytes()[:6] == b"GIF89a"
    assert "walks, then runs" in (config.generation.save_dir / "index.html").read_text()
    with pytest.raises(ValueError, match="holds results; give another folder or --overwrite"):
        generate.run(config)
    noisy = GenerateConfig.of(config.flat() | {"stochastic": True, "save_dir": tmp_path / "noisy", "gif": False})
    generate.run(noisy)
    assert not np.array_equal(np.load(noisy.generation.save_dir / "sample01_rep01.npy"), joints)
    assert not list(noisy.generation.save_dir.glob("*.gif"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": 0.01}, "at 20 frames per second that is no frame"),
        ({"model_path": "nowhere"}, "model_path is 'nowhere': no such file"),
        ({"adapter_path": "nowhere"}, "no such file"),
        ({"text": ("word " * 400,)}, "reads at most"),
    ],
)
def test_generate_refuses(models: TinyModels, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    values = {"model_path": str(models.policy), "text": ("walks",), "save_dir": tmp_path / "out"}
    with pytest.raises(ValueError, match=message):
        generate.run(GenerateConfig.of(values | changes))


def test_generate_needs_one_source_of_prompts() -> None:
    with pytest.raises(ValueError, match="there is no prompt"):
        GenerateConfig.of()
    with pytest.raises(ValueError, match="prompts come from one of them"):
        GenerateConfig.of(text=("walks",), text_file=Path("prompts.txt"))


def test_grpo_from_command_to_report(models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run_grpo(*grpo_words(models, folder)) == 0
    assert "total" in capsys.readouterr().out
    document = json.loads((folder / "evaluation.json").read_text())
    assert {"total", "judge_matching", "fid", "joint_speed_mps", "diversity_m", "semantic", "physics"} <= {
        row["name"] for row in document["rows"]
    }
    assert (document["num_prompts"], document["num_seeds"]) == (3, 2)
    assert "</html>" in (folder / "report.html").read_text()
    assert [record["step"] for record in metrics_of(folder) if "reward/total" in record] == [1, 2]
    assert all(record["policy/first_ratio_error"] < 1e-5 for record in metrics_of(folder) if "reward/total" in record)

    # The exported file, measured in this process, has the figures that the run's actors recorded.
    config = cli.parse(GRPOConfig, grpo_words(models, folder), "jobs.grpo").settings
    constants = json.loads((folder / "calibration.json").read_text())
    config = config.model_copy(update={"rewards": RewardSettings.of({**config.rewards.flat(), **constants})})
    exported = PolicySettings(model_path=str(folder), use_lora=False)
    policy = load_policy(exported, config.sampling)
    scorers = {name: build() for name, build in build_scorers(config.rewards, policy.skeleton).items()}
    prompts = load_prompts(folder / "samples" / "prompts.jsonl", policy.skeleton.fps)
    encoder, judge = load_policy_text_encoder(exported), load_judge(str(models.judge), HUMANML3D)
    groups = generate_motions(policy, encoder, prompts, 2, config.evaluation.eval_seed)
    rewards = [
        combine([scorer.score(group) for scorer in scorers.values()], config.rewards, group.prompt.text)
        for group in groups
    ]
    evaluation = measure(groups, rewards, policy.skeleton, judge)
    recorded = {row["name"]: row["after"] for row in document["rows"]}
    assert {entry["policy"] for entry in document["samplers"]} == {"base", "tuned"}
    assert {"second_judge", "low_foot_skate", "skating_ratio", "jerk_mps3", "foot_height_m"} <= recorded.keys()
    assert [entry["sampler"] for entry in document["samplers"]][-1].startswith("6 steps")
    assert {entry["kind"] for entry in document["kinds"]} <= {"single", "composite"}
    assert sum(entry["num_prompts"] for entry in document["clips"]) <= 3
    assert {entry["name"] for entry in document["evidence"]} == {"semantic", "judge_matching", "second_judge"}
    assert next(row for row in document["rows"] if row["name"] == "jerk_mps3")["real"] > 0
    assert len(document["chain_kl"]) == 3 and all(kl > 0 for kl in document["chain_kl"])
    for name, values in evaluation.terms.items():
        assert values.mean() == pytest.approx(recorded[name], abs=1e-4), name

    # The exported policy is the one that was trained: base, base with the adapter, and merged.
    prompt = Prompt("a person walks", (Segment("a person walks", 20),))
    motions = {}
    for name, path, adapter in (
        ("base", models.policy, None),
        ("adapter", models.policy, str(folder / "adapter")),
        ("merged", folder, None),
    ):
        settings = PolicySettings(model_path=str(path), adapter_path=adapter, use_lora=adapter is not None)
        policy = load_policy(settings, SamplingSettings(sampling_steps=3))
        motions[name] = generate_motions(policy, load_policy_text_encoder(settings), [prompt], 1, 0)[0].features
    np.testing.assert_allclose(motions["merged"], motions["adapter"], atol=1e-4)
    assert np.abs(motions["merged"] - motions["base"]).max() > 1e-3
    assert json.loads((folder / "args.json").read_text())["diffusion_steps"] == 6
    assert (folder / "model_final.pt").is_file()
    assert (folder / "checkpoints" / "step_000000002" / "model000000002.pt").is_file()


def test_grpo_that_was_stopped_ends_with_the_same_bits(models: TinyModels, tmp_path: Path) -> None:
    composed = {"composite_denoising": "composed", "kl_chain_penalty": 0.5}
    assert run_grpo(*grpo_words(models, tmp_path / "whole", num_steps=3, **composed)) == 0
    assert run_grpo(*grpo_words(models, tmp_path / "parts", num_steps=2, **composed)) == 0
    assert run_grpo(*grpo_words(models, tmp_path / "parts", num_steps=3, resume=True, **composed)) == 0
    whole, parts = (weights_of(tmp_path / name / "model_final.pt") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(not torch.equal(whole[name], value) for name, value in weights_of(models.policy_file).items())

    # Beside it stands the untouched base, which reads a composite prompt as one text; the others are the same prompts.
    document = json.loads((tmp_path / "whole" / "evaluation.json").read_text())
    base = {row["note"]: row["kinds"] for row in document["samplers"] if row["policy"] == "base"}
    segments, one_text = base["of the evaluation, and of jobs.generate"], base["one text for all segments"]
    assert one_text["single"] == segments["single"]
    assert one_text["composite"]["total"] != segments["composite"]["total"]
    assert document["samplers"][-1]["note"] == "the base's own: all steps, one text for all segments"


def test_clips_may_be_left_out_of_the_training(models: TinyModels, tmp_path: Path) -> None:
    words = grpo_words(models, tmp_path / "run", num_eval_prompts=6, num_prompts=8, composite_fraction=0.0)
    config = cli.parse(GRPOConfig, words, "jobs.grpo").settings
    source = load_dataset(models.dataset).items("train")[0].source
    captions = {
        c for item in load_dataset(models.dataset).items("train") if item.source == source for c in item.captions
    }
    assert captions & {prompt.text for prompt in training_prompts(config, HUMANML3D)}
    without = cli.parse(GRPOConfig, [*words, f"--leave_out_clips={source}"], "jobs.grpo").settings
    assert not captions & {prompt.text for prompt in training_prompts(without, HUMANML3D)}
    assert evaluation_prompts(without, HUMANML3D) == evaluation_prompts(config, HUMANML3D)
    unknown = cli.parse(GRPOConfig, [*words, "--leave_out_clips=moonwalk"], "jobs.grpo").settings
    with pytest.raises(UserError, match="leave_out_clips moonwalk: no clip of dataset"):
        training_prompts(unknown, HUMANML3D)
    assert run_grpo(*words, "--prompts_path=some.txt", "--leave_out_clips=walk") == 2


def test_signs_of_hacking_are_said_and_may_end_the_run(
    models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.text.grpo_measurement.signs_of_hacking", lambda *_: ["jerk_mps3 worsened"])
    words = grpo_words(models, tmp_path / "said", num_steps=2, eval_every=1, judge_path="none", eval_other_steps="none")
    assert run_grpo(*words) == 0
    assert "the policy only pleases the reward: jerk_mps3 worsened" in capsys.readouterr().out
    document = json.loads((tmp_path / "said" / "evaluation.json").read_text())
    assert document["hacking"] == ["jerk_mps3 worsened"] and len(document["samplers"]) == 2
    names = {row["name"] for row in document["rows"]}
    assert "second_fid" in names and "fid" not in names, "without a TMR as a judge, the second one's distance"
    assert document["samplers"][0]["figures"]["second_fid"] > 0
    assert "jerk_mps3 worsened" in (tmp_path / "said" / "report.html").read_text()
    stopping = [word.replace("/said", "/stopped") for word in words]
    assert run_grpo(*stopping, "--stop_on_hacking", "--no_second_judge") == 0
    assert json.loads((tmp_path / "stopped" / "manifest.json").read_text())["step"] == 1
    document = json.loads((tmp_path / "stopped" / "evaluation.json").read_text())
    assert not {"second_judge", "second_fid"} & {row["name"] for row in document["rows"]}
    assert (tmp_path / "stopped" / "model_final.pt").is_file()


def test_long_prompts_are_refused_or_composed(
    models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "long.txt").write_text("a person walks | 13")
    files = {"prompts_path": tmp_path / "long.txt", "eval_prompts_path": tmp_path / "long.txt"}
    words = grpo_words(models, tmp_path / "run", **files, num_steps=1, batch_size=1, eval_every=0)
    assert run_grpo(*words, "--dry_run") == 2
    assert "it lasts 260 frames; the policy makes at most 196, unless --composite_denoising" in capsys.readouterr().err
    assert run_grpo(*words, "--composite_denoising", "composed") == 0
    args = json.loads((tmp_path / "run" / "args.json").read_text())
    assert (args["max_frames"], args["composite_denoising"]) == (96, "composed")


def test_a_measurement_that_fails_leaves_the_trained_policy(
    models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("the measurement is broken")

    words = grpo_words(models, tmp_path / "run", num_steps=1, num_prompts=2, num_eval_prompts=1)
    with monkeypatch.context() as patch:
        patch.setattr("jobs.text.grpo_measurement.measure", broken)
        with pytest.raises(ValueError, match="the measurement is broken"):
            run_grpo(*words)
    assert "in broken\n" in (tmp_path / "run" / "error.log").read_text()
    assert (tmp_path / "run" / "adapter").is_dir()
    trained = weights_of(tmp_path / "run" / "model_final.pt")
    assert not (tmp_path / "run" / "evaluation.json").exists()
    (tmp_path / "run" / "model_final.pt").unlink()
    assert run_grpo(*words, "--resume") == 0
    assert (tmp_path / "run" / "evaluation.json").is_file()
    again = weights_of(tmp_path / "run" / "model_final.pt")
    assert all(torch.equal(again[name], value) for name, value in trained.items())


def test_prompts_from_files_need_no_held_out_data_and_lost_groups_are_not_compared(
    models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models.dataset, tmp_path / "data")
    (tmp_path / "data" / "test.txt").unlink()
    write_prompts(tmp_path / "train.jsonl", [("walks", 40)], [("walks", 24), ("runs", 24)])
    write_prompts(tmp_path / "held_out.jsonl", [("kicks", 30)], [("jumps", 30)], [("runs", 24), ("walks", 24)])
    folder = tmp_path / "run"
    files = {
        "dataset": tmp_path / "data",
        "prompts_path": tmp_path / "train.jsonl",
        "eval_prompts_path": tmp_path / "held_out.jsonl",
        "composite_k_segments": 3,  # About composite_data_path and the data's own; these files mix.
        "extra_rewards": "tests.toys.rewards:FickleScorer",
        "on_reward_error": "drop_group",
    }
    assert run_grpo(*grpo_words(models, folder, **files)) == 0
    output = capsys.readouterr().out
    assert f"policy: MDM from {models.policy_file} " in output and "tensors matched" in output
    assert f"reward: TMR from {models.tmr}: " in output and f"judge: TMR from {models.judge}: " in output
    assert "FID is not measured, nor are real motions and what judges know of them: split 'test'" in output
    document = json.loads((folder / "evaluation.json").read_text())
    assert "judge_matching" in {row["name"] for row in document["rows"]}
    assert "fid" not in {row["name"] for row in document["rows"]}
    assert document["num_prompts"] == 2
    kept = load_prompts(folder / "samples" / "prompts.jsonl", 20.0)
    assert [prompt.text for prompt in kept] == ["kicks", "runs, then walks"]
    with np.load(folder / "samples" / "before.npz") as before, np.load(folder / "samples" / "after.npz") as after:
        assert before["lengths"].tolist() == after["lengths"].tolist() == [30, 30, 48, 48]


def test_too_long_texts_are_cut_for_policy_reward_and_judge_alike(models: TinyModels, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("walk " * 398)
    files = {"prompts_path": tmp_path / "long.txt", "eval_prompts_path": tmp_path / "long.txt"}
    words = grpo_words(models, tmp_path / "run", **files, num_steps=1, batch_size=1, truncate_text=True)
    assert run_grpo(*words) == 0


def test_every_option_of_a_job_has_a_flat_flag() -> None:
    """So far no two groups of a job share a name; where two will, help and messages show the dotted one."""
    for config in JOBS.values():
        assert all("." not in option.flag for option in options_of(config).values()), config


def composite_file(folder: Path) -> Path:
    """A composite file as MDM-GRPO's builder writes it: a pickled dictionary."""
    sample = {
        "composite_prompt": "First a person walks, then a person runs, finally a person jumps",
        "sub_prompts": ["a person walks", "a person runs", "a person jumps"],
        "durations": [2.0, 2.0, 1.0],
        "durations_frames": [40, 40, 20],
        "source_ids": ["000001", "000002", "000003"],
        "total_frames": 100,
    }
    metadata = {"dataset_name": "humanml", "split": "train", "k_segments": 3, "fps": 20.0, "num_samples": 1}
    path = folder / "composite_k3_train.npy"
    np.save(path, np.array({"samples": [sample] * 2, "metadata": metadata}, dtype=object), allow_pickle=True)
    return path


def write_prompts(path: Path, *prompts: list[tuple[str, int]]) -> None:
    """A file of prompts from (text, frames) of their segments."""
    save_prompts(path, [prompt_of(*segments) for segments in prompts])


def save_kit_tmr(folder: Path) -> None:
    """A retrieval model of KIT's features."""
    tmr = small_tmr(config=replace(CONFIG, num_features=251, fps=12.5))
    tmr.text_encoder_name = "tests.toys.small_tmr:WordModel"
    save_tmr(folder, tmr)


def filled(words: str, models: TinyModels, folder: Path) -> str:
    """Words with this test's paths in place of the capitals."""
    places = {
        "DATA": models.dataset,
        "FILES": models.tmr.parent,
        "MODEL": models.policy_file,
        "TMR": models.tmr,
        "RUN": folder / "run",
        "KIT": folder / "kit",
        "LATE": folder / "late.jsonl",
        "LONG": folder / "long.txt",
    }
    for name, place in places.items():
        words = words.replace(name, str(place))
    return words


TMR_FILES = (
    "--reward_model_type tmr --tmr_text_encoder_path TMR/last_weights/text_encoder.pt --tmr_motion_encoder_path "
    "TMR/last_weights/motion_encoder.pt --tmr_movement_encoder_path TMR/last_weights/motion_decoder.pt"
)
GUIDE = (
    "--model_path MODEL --save_dir RUN --dataset humanml --data_dir DATA --device cpu --group_size 4 "
    "--learning_rate 1e-6 --clip_epsilon 0.2 --kl_penalty 1 --batch_size 1 --num_steps 1000"
)


@pytest.mark.parametrize(
    "command",
    [
        f"{TMR_FILES} --reward_type cosine --use_dense_reward --use_physics_reward --use_lora --lora_r 8 "
        "--lora_alpha 16 --grpo_type normal_grpo",
        f"{TMR_FILES} --reward_type matching --tmr_similarity_type euclidean --tmr_normalization exponential --alpha 0 "
        "--tmr_max_distance 10.0 --tmr_scale 2.0 --beta_s 1.0 --beta_p 0.1 --lambda_skate 1.0 --lambda_jerk 1.0",
        f"{TMR_FILES} --use_composite_dataset --composite_data_path COMPOSITE --composite_k_segments 3 --k_segments 3 "
        "--max_motion_length 196 --fps 20.0 --disable_random_crop --use_dense_reward --alpha 0.5",
        "--tmr_checkpoint_path TMR --ref_model_path MODEL --seed 10 --cuda True --train_platform_type NoPlatform "
        "--lora_dropout 0.0 --lora_target_spec attn,ffn --num_epochs 2 --kl_threshold 0.01 --overwrite",
        "--tmr_checkpoint_path TMR --no_use_lora --weight_decay 0.01 --adam_beta2 0.999 --text_encoder_type minilm",
        "--tmr_checkpoint_path TMR --grpo_type flow_grpo --noise_scale 0.7 --train_timesteps 4 --inference_timesteps 6",
    ],
    ids=["dense-physics-lora", "euclidean", "composite", "base-options", "full", "flow"],
)
def test_commands_of_the_public_project_run_with_our_module_name(
    command: str, models: TinyModels, tmp_path: Path
) -> None:
    command = filled(f"{GUIDE} {command}", models, tmp_path).replace("COMPOSITE", str(composite_file(tmp_path)))
    ours = ["--dry_run", "--runtime", "local", "--judge_path", "none", "--num_prompts", "2", "--num_eval_prompts", "2"]
    assert run_grpo(*command.split(), *ours) == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("dataset", "fps"), [("kit", "12.5"), ("humanml", "20"), ("builtin", "20.0")])
def test_the_frame_rate_of_the_data_may_be_said(dataset: str, fps: str) -> None:
    words = ["--save_dir", "run", "--dataset", dataset, "--fps", fps]
    assert cli.parse(GRPOConfig, words, "jobs.grpo", FOREIGN_TO_GRPO).settings.data.dataset == dataset


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--dataset kit --fps 20", "--fps 20 is not supported: the frame rate is the skeleton's"),
        ("--fps 12.5", "--fps 12.5 is not supported: the frame rate is the skeleton's"),
        ("--composite_k_segments 3 --k_segments 2", "--k_segments 2 is not supported: segments come with the prompts"),
        ("--grpo_type flow_grpo --sampler ddim", "--grpo_type is flow_grpo and sampler ddim, which knows no flow"),
        ("--noise_scale 0.7", "--noise_scale is 0.7, which sampler ddpm does not have; it belongs to flow_sde"),
        ("--reward_model_type mdm --reward_type cosine", "--reward_type 'cosine' belongs to reward_model_type tmr"),
        ("--reward_type combined", "--reward_type 'combined' belongs to reward_model_type mdm"),
        ("--ref_model_path other.pt --kl_average_decay 0.9", "--ref_model_path and kl_average_decay are both given"),
        ("--lora_dropout 0.1", "--lora_dropout 0.1 is not supported: the policy acts in eval mode, where dropout does"),
        ("--group_size 1", "--group_size is 1: a group needs at least two samples"),
        ("--gruop_size 4", "unknown option --gruop_size; did you mean --group_size?"),
        ("--use_lora lora_alpha 16", "unexpected 'lora_alpha 16': did you mean --lora_alpha 16?"),
        ("--dataset uestc", "dataset uestc is labelled with actions"),
        ("--layers 4", "--layers 4 is not supported: the network's shape is read from args.json"),
        ("--resume --overwrite", "resume and overwrite are both set"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_grpo("--save_dir", "run", *words.split()) == 2
    output = capsys.readouterr().err.splitlines()
    assert output[0].startswith(f"error: {line}"), output
    assert len(output) == 2


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model_path": "TMR/last_weights/text_encoder.pt"}, "is a TMR; it belongs to the reward"),
        ({"tmr_checkpoint_path": "MODEL"}, "TMR"),
        ({"prompts_path": "RUN/no.jsonl"}, "no.jsonl"),
        ({"sampling_steps": 7}, "7"),
        ({"sde_window": 9}, "sde_window is 9"),
        ({"save_dir": "/proc/kinetune"}, "save_dir /proc/kinetune"),
        ({"save_dir": "FILES"}, "is not empty and holds no run"),
        ({"judge_path": "TMR"}, "these are the weights of the reward, which cannot judge what it trained"),
        (
            {"judge_path": "KIT", "judge_text_model": "tests.toys.small_tmr:WordModel"},
            "TMR takes 251 features at 12.5 fps; motions of skeleton humanml3d have 263 at 20",
        ),
        (
            {"prompts_path": "LATE"},
            "late.jsonl, prompt 2 'walks, then runs': its segment 2 is frames 100 to 140; rewards look at the first 96 "
            "(max_motion_length)",
        ),
        (
            {"composite_k_segments": 5, "max_motion_length": 20},
            "max_motion_length is 20 and composite_k_segments 5, of which no composite prompts can be made",
        ),
        ({"eval_prompts_path": "LONG"}, "long.txt, prompt 1 'walk walk"),
        ({"prompts_path": "LONG"}, "400 tokens"),
        (
            {"use_composite_dataset": True, "composite_data_path": "LATE", "composite_k_segments": 3},
            "composite_data_path: ",
        ),
    ],
)
def test_a_run_that_cannot_start_leaves_nothing(
    changes: dict[str, object], line: str, models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {name: filled(str(value), models, tmp_path) for name, value in changes.items()}
    save_kit_tmr(tmp_path / "kit")
    write_prompts(tmp_path / "late.jsonl", [("walks", 60)], [("walks", 100), ("runs", 40)])
    (tmp_path / "long.txt").write_text("walk " * 398)
    before = sorted(models.policy.parent.rglob("*"))
    assert run_grpo(*grpo_words(models, tmp_path / "run", **({"judge_path": "none"} | changes))) == 2
    (output,) = capsys.readouterr().err.strip().splitlines()
    assert output.startswith("error: ")
    assert line in output
    assert not (tmp_path / "run" / "config.yaml").exists()
    assert sorted(models.policy.parent.rglob("*")) == before


def test_no_option_is_answered_in_place_of_a_setting() -> None:
    assert not set(FOREIGN_TO_GRPO) & set(names_of(flags_of(GRPOConfig)))


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_are_valid_and_can_be_planned(
    path: Path, models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = yaml.safe_load(path.read_text())["job"]
    words = ["--preset", path.stem, "--save_dir", str(tmp_path / "run")]
    words += ["--refiner_path", str(tmp_path)] if path.stem == "physics_ssm_grpo" else []
    config = cli.parse(JOBS[job], words, job).settings
    assert f"# {path.stem}" not in path.read_text() and path.read_text().startswith("# ")
    if isinstance(config, TRPOJobConfig):
        trpo.plan(config)
        assert "about " in capsys.readouterr().out
    if job != "jobs.grpo" or "_ssm_" in path.stem:  # tests/jobs/ssm plans the latter
        return
    # The preset's own policy and data may not be here; everything else is planned as it stands.
    weights = {"model_path": models.policy, "tmr_checkpoint_path": models.tmr, "judge_path": models.judge}
    files = {name: str(path) for name, path in weights.items()}
    gpus = {name: 0.0 for name in config.flat() if name.startswith("gpus_per_")}
    small = {
        "dataset": str(models.dataset),
        "composite_fraction": 0.0,
        "num_prompts": 4,
        "num_eval_prompts": 2,
        "sampling_steps": 5,
        "reward_device": "cpu",
    }
    assert isinstance(config, GRPOConfig)
    grpo.dry_run(GRPOConfig.of(config.flat() | files | gpus | small))
    assert "cluster: has room for this" in capsys.readouterr().out


def test_a_dry_run_of_a_training_counts_and_writes_nothing(
    models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain.plan(pretrain_config(models.dataset, tmp_path / "policy"))
    train_retrieval.plan(retrieval_config(models.dataset, tmp_path / "tmr"))
    output = capsys.readouterr().out
    assert output.count("skeleton humanml3d, 20 frames/s") == 2
    assert output.count(" M parameters") == 2
    assert not list(tmp_path.iterdir())
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="not empty and holds no run"):
        pretrain.plan(pretrain_config(models.dataset, tmp_path / "policy"))
