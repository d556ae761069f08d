"""The other architectures through the commands: trained, fine-tuned with adapters, written, generated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs import generate, grpo, pretrain
from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_PRETRAIN
from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.pretrain import PretrainConfig
from rollouts.checkpoints.mdm_files import load_mdm
from rollouts.networks.mdm import MDM
from rollouts.networks.mdm_naming import official_shapes
from tests.toys.tiny_models import TinyModels, grpo_words, pretrain_config

pytestmark = pytest.mark.slow

ADAPTED = {"trans_dec": "all", "gru": "text", "mamba": "attn"}
"""Targets of the adapters, by architecture."""


@pytest.mark.parametrize("arch", ADAPTED)
def test_an_architecture_goes_through_the_commands(
    arch: str, tiny_models: TinyModels, distilbert_folder: Path, tmp_path: Path
) -> None:
    reads_tokens = arch == "trans_dec"
    changes: dict[str, object] = {"arch": arch, "emb_trans_dec": reads_tokens}
    changes |= {"d_state": 6, "scan_backend": "ssd", "lambda_physics": 0.1} if arch == "mamba" else {}
    encoder: dict[str, object] = {}
    if reads_tokens:
        encoder = {"text_encoder_path": distilbert_folder}
        changes |= {"text_encoder": "bert", "text_encoder_path": str(distilbert_folder)}
    pretrain.run(pretrain_config(tiny_models.dataset, tmp_path / "base", **changes))
    trained = [json.loads(line) for line in (tmp_path / "base" / "metrics.jsonl").read_text().splitlines()]
    jerks = [line["jerk_mps3"] for line in trained if "jerk_mps3" in line]
    assert len(jerks) == (4 if arch == "mamba" else 0) and all(jerk > 0 for jerk in jerks)
    said = json.loads((tmp_path / "base" / "args.json").read_text())
    assert said["arch"] == arch and said["text_encoder_type"] == ("bert" if reads_tokens else "minilm")

    words = grpo_words(
        tiny_models,
        tmp_path / "tuned",
        model_path=tmp_path / "base",
        lora_target_spec=ADAPTED[arch],
        use_physics_reward=False,
        **encoder,
    )
    assert cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", argv=words) == 0
    lines = [json.loads(line) for line in (tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert max(line.get("policy/first_ratio_error", 0.0) for line in lines) <= 1e-5

    base, tuned = (load_mdm(tmp_path / name).network for name in ("base", "tuned"))
    assert isinstance(tuned, MDM) and tuned.args() == base.args()
    assert (tuned.text_form == "tokens") is reads_tokens
    weights = torch.load(tmp_path / "tuned" / "model_final.pt", weights_only=True)
    names = {name for name in weights if not name.endswith(".pe")}
    assert names == set(official_shapes(tuned.config))
    changed = {name for name, value in base.state_dict().items() if not torch.equal(value, tuned.state_dict()[name])}
    parts = {".".join(name.split(".")[-2:]) for name in changed}
    if arch == "gru":
        assert changed == {"embed_text.weight"}
    elif arch == "mamba":
        assert parts == {"in_proj.weight", "x_proj.weight", "out_proj.weight"}
    assert any("cross_attention" in name for name in changed) is reads_tokens

    argv = [f"--model_path={tmp_path / 'tuned'}", "--text=a person walks", f"--save_dir={tmp_path / 'made'}"]
    argv += ["--motion_length=2", "--num_samples=1", *(f"--{name}={value}" for name, value in encoder.items())]
    assert cli.main(GenerateConfig, generate.run, generate.__doc__, "jobs.generate", argv=argv) == 0
    assert list((tmp_path / "made").iterdir())


def test_options_of_one_architecture_are_refused_elsewhere_and_shown_in_a_plan(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(*words: str) -> tuple[int, str]:
        argv = [f"--dataset={tiny_models.dataset}", f"--save_dir={tmp_path / 'run'}", "--layers=1", *words]
        code = cli.main(PretrainConfig, pretrain.run, None, "jobs.pretrain", pretrain.plan, FOREIGN_TO_PRETRAIN, argv)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    for option in ("emb_trans_dec", "text_by_token"):
        code, said = main(f"--{option}", "--dry_run")
        assert code != 0 and f"{option} is set and arch is trans_enc; it belongs to trans_dec" in said
    code, said = main("--arch=trans_dec", "--emb_trans_dec", "--text_by_token", "--dry_run")
    assert code == 0 and "trans_dec" in said
    for option, value in {"d_state": "8", "ssm_decay": "channel"}.items():
        code, said = main(f"--{option}={value}", "--dry_run")
        assert code != 0 and f"{option} is set and arch is trans_enc; it belongs to mamba" in said
    code, said = main("--scan_backend=loop", "--dry_run")
    assert code != 0 and "scan_backend is loop, and this network has no scan" in said
    code, said = main("--arch=mamba", "--ssm_decay=shared", "--scan_backend=ssd", "--dry_run")
    assert code != 0 and "scan_backend is ssd, which needs one decay for each head" in said
    code, said = main("--arch=mamba", "--ssm_decay=shared", "--scan_backend=loop", "--dry_run")
    assert code == 0 and "mamba" in said
