"""What trainings find out before they start: text limits, text encoders, held-out data, and MDM's flags."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ray.util.metrics import Gauge
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.records.checkpoints import RunDirectoryError
from cluster.runtime.connect import Connection
from cluster.runtime.ray_job import JOB_VARIABLE
from jobs import pretrain, train_retrieval
from jobs.command_line import main as cli
from jobs.command_line.flags import flags_of, names_of
from jobs.command_line.foreign_flags import FOREIGN_TO_GENERATE, FOREIGN_TO_PRETRAIN
from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from jobs.text import pretraining
from rollouts.checkpoints.loading import load_base
from rollouts.settings import PolicySettings
from rollouts.text.encoders import PromptTooLongError
from tests.toys.running.cluster_runs import Terminal
from tests.toys.tiny_models import TinyModels, pretrain_config, retrieval_config

pytestmark = pytest.mark.slow

WANDB: dict[str, object] = {"train_platform_type": "WandBPlatform", "wandb_mode": "offline"}


def held_out(dataset: Path, folder: Path, num_clips: int) -> Path:
    """A copy of the data with so many clips in the test split; with none it has no such split."""
    shutil.copytree(dataset, folder)
    lines = (folder / "test.txt").read_text().splitlines()
    (folder / "test.txt").unlink()
    if num_clips:
        (folder / "test.txt").write_text("\n".join(lines[:num_clips]))
    return folder


def run_pretrain(*words: str) -> int:
    return cli.main(PretrainConfig, pretrain.run, None, "jobs.pretrain", pretrain.plan, FOREIGN_TO_PRETRAIN, words)


def test_captions_over_the_limit_are_refused_before_the_training_and_can_be_cut(
    tiny_models: TinyModels, tmp_path: Path, clip_folder: Path
) -> None:
    clip = {"text_encoder": "clip", "text_encoder_path": str(clip_folder)}
    policy = pretrain_config(tiny_models.dataset, tmp_path / "policy", **clip)
    tmr = retrieval_config(tiny_models.dataset, tmp_path / "tmr", **clip)
    for start in (pretrain.run, pretrain.plan):
        with pytest.raises(PromptTooLongError, match=r"reads at most 22.*or set --truncate_text"):
            start(policy)
    for start in (train_retrieval.run, train_retrieval.plan):
        with pytest.raises(PromptTooLongError, match=r"reads at most 22"):
            start(tmr)
    assert not list(tmp_path.iterdir())
    pretrain.run(pretrain_config(tiny_models.dataset, tmp_path / "policy", **clip, truncate_text=True))
    train_retrieval.run(
        retrieval_config(tiny_models.dataset, tmp_path / "tmr", **clip, max_text_tokens=40, truncate_text=True)
    )
    assert json.loads((tmp_path / "policy" / "args.json").read_text())["truncate_text"] is True
    assert (tmp_path / "policy" / "model000000004.pt").is_file() and (tmp_path / "tmr" / "config.json").is_file()


def test_a_policy_can_be_kept_from_captions_that_stay_prompts(tmp_path: Path) -> None:
    few = pretraining.load_data(PretrainConfig.of(save_dir=tmp_path, dataset="builtin", captions_per_motion=4))
    every = pretraining.load_data(PretrainConfig.of(save_dir=tmp_path, dataset="builtin"))
    for learnt, item in zip(few.items("train"), every.items("train"), strict=True):
        assert learnt.captions == item.captions[:4] and len(item.captions) > 4


def test_the_preset_for_official_models_cuts_captions_as_they_do() -> None:
    assert cli.load_preset(GRPOConfig, "mdm_50steps", "jobs.grpo", save_dir="run").policy.truncate_text


def test_a_text_encoder_without_sentence_embeddings_is_refused_before_the_training(
    tiny_models: TinyModels, tmp_path: Path, distilbert_folder: Path
) -> None:
    tokens_only = {"text_encoder": "distilbert", "text_encoder_path": str(distilbert_folder)}
    policy = pretrain_config(tiny_models.dataset, tmp_path / "policy", **tokens_only)
    tmr = retrieval_config(tiny_models.dataset, tmp_path / "tmr", **tokens_only)
    for start in (pretrain.run, pretrain.plan):
        with pytest.raises(ValueError, match="distilbert has no pooled embedding"):
            start(policy)
    for start in (train_retrieval.run, train_retrieval.plan):
        with pytest.raises(ValueError, match="distilbert has no pooled embedding"):
            start(tmr)
    assert not list(tmp_path.iterdir())


def test_data_without_held_out_clips_can_be_trained_on(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    dataset = held_out(tiny_models.dataset, tmp_path / "data", 0)
    pretrain.run(pretrain_config(dataset, tmp_path / "policy", num_samples=2, **WANDB))
    assert "has no test split: no samples will be generated" in capsys.readouterr().out
    assert (tmp_path / "policy" / "model000000004.pt").is_file()
    train_retrieval.run(retrieval_config(dataset, tmp_path / "tmr", **WANDB))
    assert "has no test split: retrieval will not be measured" in capsys.readouterr().out
    provenance = json.loads((tmp_path / "tmr" / "config.json").read_text())["provenance"]
    assert (provenance["held_out_pairs"], provenance["held_out"]) == (0, {})
    for name in ("policy", "tmr"):
        assert len(list((tmp_path / name / "wandb").glob("offline-run-*/*.wandb"))) == 1


def test_samples_are_single_captions_where_no_held_out_clips_fit_together(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = held_out(tiny_models.dataset, tmp_path / "data", 1)
    pretrain.run(pretrain_config(dataset, tmp_path / "policy", num_samples=2, guidance_scale=1.0))
    output = capsys.readouterr().out
    assert "samples will be of single captions: in the test split, no " in output
    assert "2 held-out captions: open" in output


def test_the_length_of_a_cosine_schedule_stays_when_a_training_is_resumed(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    cosine = {"lr_schedule": "cosine", "composite_fraction": 0.0}
    pretrain.run(pretrain_config(tiny_models.dataset, tmp_path, num_steps=2, **cosine))
    longer = pretrain_config(tiny_models.dataset, tmp_path, num_steps=3, resume=True, **cosine)
    with pytest.raises(RunDirectoryError, match=r"num_steps was 2, is 3.*--allow_changed num_steps"):
        pretrain.run(longer)
    pretrain.run(
        pretrain_config(tiny_models.dataset, tmp_path, num_steps=3, resume=True, allow_changed=("num_steps",), **cosine)
    )
    assert (tmp_path / "model000000003.pt").is_file()


def test_mdm_s_training_command_runs_with_our_module_name(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"--save_dir {tmp_path / 'run'} --dataset humanml --data_dir {tiny_models.dataset} --diffusion_steps 50"
    words += " --mask_frames --use_ema --train_platform_type NoPlatform --text_encoder_type minilm --overwrite"
    assert run_pretrain(*words.split(), "--device", "cpu", "--layers", "1", "--dry_run") == 0
    assert "--use_ema true changes nothing: the averaged weights are kept" in capsys.readouterr().err
    assert run_pretrain(*words.split(), "--use_ema", "False") == 2
    assert "--use_ema False is not supported: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", [PretrainConfig, RetrievalConfig])
def test_a_number_is_a_gpu(config: type[PretrainConfig | RetrievalConfig], tmp_path: Path) -> None:
    assert cli.parse(config, ["--save_dir", str(tmp_path), "--device", "1"], "jobs.x").settings.run.device == "cuda:1"


@pytest.mark.parametrize("foreign", [FOREIGN_TO_PRETRAIN, FOREIGN_TO_GENERATE], ids=["pretrain", "generate"])
def test_no_option_is_answered_in_place_of_a_setting(foreign: dict[str, object]) -> None:
    config = PretrainConfig if foreign is FOREIGN_TO_PRETRAIN else GenerateConfig
    assert not set(foreign) & set(names_of(flags_of(config)))


def check_records(folder: Path, metric: str, num_steps: int, terminal: Terminal) -> str:
    """A bar with the time that is left, curves in TensorBoard, a report; returns the report."""
    shown = terminal.getvalue()
    assert f"{num_steps}/{num_steps} [" in shown and "<" in shown and f"{metric}=" in shown
    events = EventAccumulator(str(folder / "tensorboard")).Reload().Scalars(metric)
    assert [event.step for event in events] == list(range(1, num_steps + 1))
    report = (folder / "report.html").read_text()
    assert f'"title": "{metric}"' in report and "Last values" in report and "seed: " in report
    return report


def test_a_policys_training_shows_curves_a_bar_and_a_report(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    options: dict[str, object] = {"train_platform_type": "TensorboardPlatform", "guidance_scale": 1.0}
    best = {"best_metric": "loss", "best_mode": "min"}
    pretrain.run(pretrain_config(tiny_models.dataset, tmp_path, num_samples=1, **options, **best))
    report = check_records(tmp_path, "loss", 4, terminal)
    assert "<h2>Samples</h2>" in report and "data:image/gif;base64," in report and "best/step_00000000" in report
    folder = tmp_path / json.loads((tmp_path / "manifest.json").read_text())["best"]["folder"]
    # A best checkpoint is a policy that other jobs read.
    loaded = load_base(PolicySettings(model_path=str(folder)))
    assert sum(parameter.numel() for parameter in loaded.network.parameters()) > 0


@pytest.mark.ray
def test_a_training_in_a_ray_job_exports_gauges(
    ray_cluster: Connection, tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[tuple[str, str | None], float] = {}

    def tell(self: Gauge, value: float, tags: dict[str, str]) -> None:
        assert tags["run"] == "policy"
        told[self.info["name"], tags.get("name")] = value

    monkeypatch.setattr(Gauge, "set", tell)
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    pretrain.run(pretrain_config(tiny_models.dataset, tmp_path / "policy"))
    last = json.loads((tmp_path / "policy" / "metrics.jsonl").read_text().splitlines()[-1])
    assert told["kinetune_loss", "loss"] == last["loss"] and told["kinetune_step", None] == last["step"] == 4
    assert told["kinetune_phase", "update"] == 0


def test_a_tmrs_training_shows_curves_a_bar_and_a_report(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    train_retrieval.run(retrieval_config(tiny_models.dataset, tmp_path, train_platform_type="TensorboardPlatform"))
    report = check_records(tmp_path, "loss", 4, terminal)
    assert "Held-out: t2m" in report and "held-out t2m/R03" in report
    figures = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("evaluation/t2m/R03")
    assert [event.step for event in figures] == [2, 4]
    evaluations = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["kind"] == "retrieval" and evaluation["figures"]["t2m/R03"] == evaluations[-1]["t2m/R03"]
    best = json.loads((tmp_path / "manifest.json").read_text())["best"]
    assert best["value"] == max(line["t2m/R03"] for line in evaluations)
    assert (tmp_path / best["folder"] / "last_weights" / "text_encoder.pt").is_file()
