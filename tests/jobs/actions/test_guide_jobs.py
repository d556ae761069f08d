"""The seven scripts of MotionCritic's guide on miniature data in the true formats, and what they refuse."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from jobs.actions.direct import read_motions, rising_loss
from jobs.actions.parts import load_action_policy, sample_actions
from jobs.actions.settings import TuneMDMConfig
from jobs.command_line import main as cli
from rewards.critic.checkpoints import load_critic
from rewards.critic.poses import poses_of_rotations
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.sampler import sample
from tests.toys.humanact12 import write_classifier, write_clips, write_critic, write_policy, write_uestc

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Guide:
    """Files as users of MotionCritic have them."""

    data: Path
    policy: Path
    critic: Path
    classifier: Path


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Guide:
    folder = tmp_path_factory.mktemp("guide")
    return Guide(
        write_clips(folder / "data"),
        write_policy(folder / "save" / "humanact12"),
        write_critic(folder / "reward" / "motioncritic_pre.pth"),
        write_classifier(folder / "humanact12_gru.tar"),
    )


def main(name: str, *words: object) -> int:
    page = importlib.import_module(f"jobs.{name}")
    configs = importlib.import_module("jobs.actions.settings")
    names = {
        "train_mdm": "TrainMDMConfig",
        "tune_mdm": "TuneMDMConfig",
        "test_mdm": "MeasureMDMConfig",
        "sample_and_save": "SampleAndSaveConfig",
        "save_gt": "SaveGtConfig",
        "eval_fid": "EvalFidConfig",
        "direct": "DirectConfig",
    }
    config = getattr(configs, names[name])
    plan: Any = getattr(page, "plan", None)
    return cli.main(
        config, page.run, page.__doc__, f"jobs.{name}", plan, argv=[str(w) for w in words], foreign=page.foreign
    )


def tuned(guide: Guide, folder: Path, *words: object) -> int:
    """The example command of MotionCritic's documents with small sizes; both spellings of options are mixed."""
    return main(
        "tune_mdm",
        *("--dataset", "humanact12", "--data_dir", guide.data, "--resume_checkpoint", guide.policy),
        *(
            "--cuda",
            "True",
            "--arch",
            "trans_enc",
            "--cond_mask_prob",
            0,
            "--lambda_rcxyz",
            0,
            "--eval_num_samples",
            1000,
        ),
        *("--reward_model_path", guide.critic, "--critic_model_path", guide.critic, "--save_dir", folder),
        *("--reward_scale", "1e-1", "--kl_scale", "5e-2", "--use_kl_loss", "--denoise_lower", 700),
        *("--denoise_upper", 900, "--wandb", "None", "--lr", "1e-3", "--batch_size", 2),
        *("--sampling_steps", 5, "--num_frames", 12, "--mdm_batch_size", 2, "--save_interval", 1, "--runtime", "local"),
        *words,
    )


def test_tuning_saves_and_resumes_with_the_same_bits(guide: Guide, tmp_path: Path) -> None:
    assert tuned(guide, tmp_path / "whole", "--num_steps", 2, "--eval_every", 0) == 0
    assert tuned(guide, tmp_path / "parts", "--num_steps", 1, "--eval_every", 0) == 0
    assert tuned(guide, tmp_path / "parts", "--num_steps", 2, "--eval_every", 0, "--resume") == 0
    whole, parts = (torch.load(tmp_path / name / "model000000002.pt", weights_only=True) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(value, parts[key]) for key, value in whole.items())
    base = torch.load(guide.policy, weights_only=True)
    assert base.keys() == whole.keys()
    assert not torch.equal(base["embed_action.action_embedding"], whole["embed_action.action_embedding"])
    assert (tmp_path / "whole" / "report.html").is_file()
    assert tuned(guide, tmp_path / "again", "--num_steps", 1, "--model_path", tmp_path / "whole") == 2, "given twice"


def test_options_of_the_guide_choose_the_loss(tmp_path: Path) -> None:
    def settings(**options: object) -> Any:
        return TuneMDMConfig.of({"save_dir": tmp_path, "model_path": "x", **options}).effective

    usual = settings()
    assert (usual.reward_shape, usual.reward_scale, usual.kl_penalty, usual.mdm_loss_weight) == ("sigmoid", 0.1, 0, 1)
    assert settings(relu_loss=True).reward_shape == "relu"
    assert settings(kl_scale=0.05).kl_penalty == 0 and settings(kl_scale=0.05, use_kl_loss=True).kl_penalty == 0.05
    assert settings(no_reward_loss=True).reward_scale == settings(no_critic_loss=True).reward_scale == 0
    assert settings(random_critic_loss=True).random_reward_loss and settings(critic_scale=1e-4).reward_scale == 1e-4
    assert not usual.ddim_sampling and settings(ddim_sampling=True).ddim_sampling


def test_training_saves_what_the_others_read(guide: Guide, tmp_path: Path) -> None:
    sizes = ("--layers", 1, "--latent_dim", 16, "--diffusion_steps", 10, "--batch_size", 4, "--num_frames", 12)
    words = ("--dataset", "humanact12", "--data_dir", guide.data, "--unconstrained", "false", *sizes)
    assert main("train_mdm", *words, "--save_dir", tmp_path / "policy", "--num_steps", 3) == 0
    sampled = ("--resume_checkpoint", tmp_path / "policy", "--data_dir", guide.data, "--num_frames", 12)
    critic = ("--reward_model_path", guide.critic, "--kl_scale", 1)
    assert main("sample_and_save", *sampled, *critic, "--save_dir", tmp_path / "samples", "--batch_size", 16) == 0
    motion = torch.load(tmp_path / "samples" / "uncriticed-motions-step3.pth", weights_only=True)["motion"]
    scores = torch.load(tmp_path / "samples" / "uncriticed-critics-step3.pth", weights_only=True)["score"]
    assert motion.shape == (24, 25, 6, 12) and scores.shape == (24,) and scores.isfinite().all()
    # The public code turns some motions twice, so that they are not the ones that it scored.
    torch.testing.assert_close(
        load_critic(guide.critic).critic(poses_of_rotations(motion)), scores, atol=1e-4, rtol=1e-4
    )
    measured = (*sampled, *critic, "--classifier_path", guide.classifier, "--ddim_sampling")
    for name in ("a", "b"):
        assert main("test_mdm", *measured, "--save_dir", tmp_path / name) == 0
    texts = [(tmp_path / name / "test_mdm.yaml").read_text() for name in ("a", "b")]
    parts = yaml.safe_load(texts[0])["parts"]
    assert texts[0] == texts[1], "figures are the same each time"
    assert "the reference is the training set" in yaml.safe_load(texts[0])["note"]
    assert [part["part"] for part in parts] == ["all", *(f"block {n}" for n in range(5))]
    assert {"accuracy", "fid", "fid_low", "diversity", "critic_gen", "critic_gt", "num_made"} <= parts[0].keys()


def test_real_clips_are_sorted_and_read_by_direct(
    guide: Guide, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--data_dir", guide.data, "--critic_model_path", guide.critic, "--num_frames", 20)
    assert main("save_gt", *common, "--save_dir", tmp_path / "gt") == 0
    blocks = [torch.load(tmp_path / "gt" / f"motion-evalbatch{n}.pth", weights_only=True) for n in range(5)]
    assert sum(len(block["motion"]) for block in blocks) == 24
    means = [float(block["score"].mean()) for block in blocks]
    assert means == sorted(means, reverse=True)
    assert len(list((tmp_path / "gt").glob("motion-gt*.pth"))) == 12
    fid = ("--classifier_path", guide.classifier, "--save_dir", tmp_path / "fid", "--critic_scale", "0.1")
    assert main("eval_fid", *common, *fid) == 0
    rows = yaml.safe_load((tmp_path / "fid" / "eval_fid.yaml").read_text())["blocks"]
    assert [row["clips"] for row in rows] == [5, 5, 5, 5, 4] and all(row["fid"] > 0 for row in rows)
    source = ("--input_path", tmp_path / "gt" / "motion-evalbatch4.pth", "--critic_model_path", guide.critic)
    assert main("direct", *source, "--save_dir", tmp_path / "direct", "--num_steps", 12, "--lr", "1e-2") == 0
    assert sorted(path.name for path in (tmp_path / "direct").iterdir()) == ["step10", "step12"]
    after = torch.load(tmp_path / "direct" / "step12" / "step12.pth", weights_only=True)
    assert float(after["score"].mean()) > means[-1], "the public script lowers the score"
    assert main("direct", *source, "--save_dir", tmp_path / "direct") == 2 and "is not empty" in capsys.readouterr().err
    assert main("direct", *source, "--save_dir", tmp_path / "direct", "--num_steps", 1, "--overwrite") == 0
    assert (tmp_path / "direct.old-1").is_dir()


def test_uestc_is_trained_on_tuned_and_saved(guide: Guide, tmp_path: Path) -> None:
    data = ("--dataset", "uestc", "--data_dir", write_uestc(tmp_path / "uestc"), "--num_frames", 12)
    sizes = ("--layers", 1, "--latent_dim", 16, "--diffusion_steps", 10, "--batch_size", 4)
    assert main("train_mdm", *data, *sizes, "--save_dir", tmp_path / "policy", "--num_steps", 1) == 0
    state = torch.load(tmp_path / "policy" / "model000000001.pt", weights_only=True)["model_avg"]
    assert state["embed_action.action_embedding"].shape[0] == 40
    policy = ("--resume_checkpoint", tmp_path / "policy", "--reward_model_path", guide.critic)
    for split, number in (("train", 15), ("test", 7)):
        words = (*data, *policy, "--split", split, "--save_dir", tmp_path / split)
        assert main("sample_and_save", *words, "--ddim_sampling") == 0
        made = torch.load(tmp_path / split / "uncriticed-motions-step1.pth", weights_only=True)
        assert len(made["motion"]) == number
    assert main("save_gt", *data, "--critic_model_path", guide.critic, "--save_dir", tmp_path / "gt") == 0
    saved = torch.load(tmp_path / "gt" / "motion-gtuestc3.pth", weights_only=True)
    assert len(saved["motion"]) == 1 and saved["comment"][0].startswith("action 3, score")
    words = (
        *data,
        *policy,
        "--save_dir",
        tmp_path / "tuned",
        "--num_steps",
        1,
        "--batch_size",
        2,
        "--runtime",
        "local",
    )
    words = (*words, "--mdm_batch_size", 2, "--eval_every", 0, "--sampling_steps", 4)
    shown = ("--render_video", "--render_batch_size", 2, "--render_gt")
    assert main("tune_mdm", *words, *shown) == 0
    pages = {path.name: path.read_text() for path in (tmp_path / "tuned" / "rendered").iterdir()}
    assert pages.keys() == {"step000000000.html", "step000000001.html", "gt.html"}
    for page in pages.values():
        assert "action 0" in page and "action 2" in page and "action 3" not in page
    args = json.loads((tmp_path / "tuned" / "args.json").read_text())
    assert args["dataset"] == "uestc"


def test_dropout_is_off_where_motions_are_made(guide: Guide) -> None:
    policy = load_action_policy(str(guide.policy), 4)
    assert any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in policy.network.modules())
    assert not policy.network.training
    made = [sample_actions(policy, np.array([0, 5]), 8, 3, 2, noisy=False) for _ in range(2)]
    assert np.array_equal(made[0], made[1])


def test_no_more_motions_are_made_at_once_than_batch_size_and_the_last_batch_may_be_shorter(
    guide: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(policy: DiffusionPolicy, **inputs: Any) -> object:
        sizes.append(len(inputs["initial_noise"]))
        return sample(policy, **inputs)

    monkeypatch.setattr("jobs.actions.parts.sample", counted)
    made = sample_actions(load_action_policy(str(guide.policy), 2), np.arange(5), 8, 3, 2, noisy=False)
    assert len(made) == 5 and sizes == [2, 2, 1]


@pytest.mark.parametrize(
    "name", ["DirectConfig", "EvalFidConfig", "SaveGtConfig", "SampleAndSaveConfig", "TuneMDMConfig"]
)
def test_every_script_looks_for_the_critic_in_one_place_by_both_of_its_names(name: str, tmp_path: Path) -> None:
    """MotionCritic downloads it to one folder, and its scripts look in three others."""
    config: Any = getattr(importlib.import_module("jobs.actions.settings"), name)
    needed = {"save_dir": tmp_path, **({"model_path": "x"} if "policy" in config.model_fields else {})}
    found = [config.of({**needed, **given}) for given in ({}, {"reward_model_path": "a"}, {"critic_model_path": "a"})]
    paths = [one.critic.critic_model_path for one in found]
    assert paths == ["critic/motioncritic_pre.pth", "a", "a"]


def test_direct_reads_a_dictionary_and_the_bare_tensor_that_the_public_code_wrote(tmp_path: Path) -> None:
    motion = torch.randn(2, 25, 6, 8, generator=torch.Generator().manual_seed(0))
    torch.save({"motion": motion, "comment": ["walks", "runs"]}, tmp_path / "dictionary.pth")
    torch.save(motion, tmp_path / "tensor.pth")
    for file, comments in (("dictionary.pth", ["walks", "runs"]), ("tensor.pth", ["clip 0", "clip 1"])):
        read, notes = read_motions(tmp_path / file)
        assert torch.equal(read, motion) and notes == comments


def test_the_kl_may_refer_to_the_policy_before_the_update(guide: Guide, tmp_path: Path) -> None:
    options = ("--policy_loss", "easytune", "--num_steps", 2, "--eval_every", 0, "--kl_weighting", "x0")
    options = (*options, "--mdm_loss_weight", 0)
    drifts = {}
    for reference in ("frozen", "previous"):
        folder = tmp_path / reference
        assert tuned(guide, folder, *options, "--kl_reference", reference) == 0
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        drifts[reference] = [line["policy/kl_loss"] for line in lines if "policy/kl_loss" in line]
    assert drifts["frozen"][0] == pytest.approx(drifts["previous"][0], rel=1e-4) and len(drifts["frozen"]) == 2
    assert drifts["previous"][1] < drifts["frozen"][1], "it begins anew at every update"
    assert not (tmp_path / "frozen" / "rendered").exists()


def test_each_clip_has_a_loss_of_its_own_that_rises_with_a_bad_score() -> None:
    scores = torch.tensor([-30.0, 0.0, 13.0], requires_grad=True)
    rising_loss(scores).sum().backward()
    assert scores.grad is not None and (scores.grad <= 0).all() and scores.grad[2] < -0.1


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("save_gt", ("--dataset", "humanml"), "dataset"),
        ("save_gt", ("--dataset", "uestc"), "names.txt: no such file; UESTC's folder has info/"),
        ("save_gt", ("--split", "test"), "split is test; humanact12 is one set"),
        ("eval_fid", ("--dataset", "uestc"), "dataset is uestc; the classifier knows the actions of humanact12 only"),
        ("tune_mdm", ("--kl_reference", "previous"), "kl_reference previous needs use_kl_loss"),
        ("save_gt", ("--data_dir", "nowhere"), "nowhere"),
        ("save_gt", ("--critic_model_path", "{policy}"), "a critic has tensors mlp.* and dstran.*"),
        ("save_gt", ("--num_frames", "100"), "num_frames is 100; the critic"),
        ("eval_fid", ("--classifier_path", "{critic}"), "action classifier"),
        ("tune_mdm", ("--resume_checkpoint", "{critic}"), "reward/args.json: no such file"),
        ("tune_mdm", ("--policy_loss", "clipped"), "policy_loss is clipped; this job follows the critic's gradient"),
        ("tune_mdm", ("--critic_scale", "1", "--reward_scale", "2"), "given twice"),
        ("tune_mdm", ("--lambda_fc", "1"), "lambda_fc"),
        ("direct", ("--input_path", "nowhere.pth"), "no such file; python -m jobs.save_gt writes such files"),
    ],
)
def test_bad_input_is_one_clear_error(
    name: str, words: tuple[str, ...], message: str, guide: Guide, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"critic_model_path": guide.critic, "save_dir": tmp_path / "out"}
    if name != "direct":
        files["data_dir"] = guide.data
    if name == "tune_mdm":
        files["resume_checkpoint"] = guide.policy
    given = {word.removeprefix("--") for word in words[::2]}
    usual = [word for key, value in files.items() if key not in given for word in (f"--{key}", value)]
    changed = [word.format(policy=guide.policy, critic=guide.critic) for word in words]
    assert main(name, *usual, *changed) == 2
    printed = capsys.readouterr()
    assert message in printed.err and len(printed.err.strip().splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_broken_motions_are_named(guide: Guide, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"motion": torch.full((1, 25, 6, 8), np.nan)}, tmp_path / "a.pth")
    torch.save(torch.zeros(1, 24, 6, 8), tmp_path / "b.pth")
    words = ("--critic_model_path", guide.critic, "--save_dir", tmp_path / "out")
    assert main("direct", "--input_path", tmp_path / "a.pth", *words) == 2
    assert "not finite" in capsys.readouterr().err
    assert main("direct", "--input_path", tmp_path / "b.pth", *words) == 2
    assert "motion is (1, 24, 6, 8); expected [N, 25, 6, T]" in capsys.readouterr().err
