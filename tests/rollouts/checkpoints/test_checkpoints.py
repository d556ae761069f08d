"""MDM checkpoints: official files load exactly or not at all, ours read themselves, every wrong file is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rollouts.checkpoints.mdm_files as checkpoints
from motions.base.atomic import WriteError
from motions.skeleton.normalization import Normalizer
from rollouts.checkpoints.adapters import add_lora, plain_state_dict, save_adapter
from rollouts.checkpoints.file_kinds import CheckpointError
from rollouts.checkpoints.loading import load_policy, load_policy_text_encoder
from rollouts.checkpoints.mdm_files import find_checkpoint, load_mdm, model_args_of, save_mdm
from rollouts.checkpoints.model_args import ModelArgs, ModelArgsError
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.networks.mdm_naming import OFFICIAL_POSITIONS
from rollouts.settings import PolicySettings, SamplingSettings

CONFIG = MDMConfig(latent_dim=16, ff_size=24, num_layers=2, text_dim=12, max_positions=64)
CPU = SamplingSettings(device="cpu")
OFFICIAL_ARGS = {
    **{"arch": "trans_enc", "dataset": "humanml", "layers": 2, "latent_dim": 16, "cond_mask_prob": 0.1},
    **{"noise_schedule": "cosine", "diffusion_steps": 50, "sigma_small": True, "unconstrained": False},
    **{"emb_trans_dec": False, "lambda_vel": 0.0, "lr": 1e-4, "batch_size": 64, "emb_before_mask": False},
}
"""As an old official file: no text_encoder_type, mask_frames, use_ema, ...; with a field that public code lacks."""


def network(seed: int = 0) -> MDM:
    return MDM(CONFIG, seed=seed).eval()


def output(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    x = torch.empty(2, 7, CONFIG.num_features).normal_(generator=generator)
    text = torch.empty(2, 1, CONFIG.text_dim).normal_(generator=generator)
    with torch.no_grad():
        return model(x, torch.tensor([0, 9]), text)


def normalizer() -> Normalizer:
    return Normalizer(np.linspace(-1, 1, 263), np.linspace(0.5, 2, 263))


def our_args(**values: Any) -> ModelArgs:
    return model_args_of(network(), DiffusionSchedule("cosine", 10), "humanml3d", "minilm", **values)


def official_state(seed: int = 0) -> dict[str, Tensor]:
    state = network(seed).to_file()
    return state | {"clip_model.positional_embedding": torch.zeros(77, 4), "clip_model.logit_scale": torch.zeros(())}


def write(folder: Path, contents: Any, args: dict[str, Any] | None = None, name: str = "model000750000.pt") -> Path:
    torch.save(contents, folder / name)
    (folder / "args.json").write_text(json.dumps(OFFICIAL_ARGS | (args or {})))
    return folder / name


def test_the_official_model_loads_and_computes_the_official_numbers(tmp_path: Path, parity_dir: Path) -> None:
    fixture = torch.load(parity_dir / "mdm_trans_enc.pt", weights_only=True)
    config, inputs = fixture["config"], fixture["inputs"]
    path = write(tmp_path, fixture["state_dict"], {"layers": config["num_layers"], "latent_dim": config["latent_dim"]})
    loaded = load_mdm(path)
    x = inputs["x_t"].flatten(1, 2).transpose(1, 2)
    with torch.no_grad():
        ours = loaded.network(x, inputs["timesteps"], inputs["text_embed"].transpose(0, 1))
    expected = fixture["model_output"]["mask_frames_False"].flatten(1, 2).transpose(1, 2)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    assert loaded.report.num_matched == len(fixture["state_dict"]) - 2
    assert (loaded.args.text_encoder, loaded.skeleton.name, loaded.normalizer) == ("clip", "humanml3d", None)


@pytest.mark.parametrize(
    ("shape", "use_ema", "said", "expected"),
    [
        ("plain", None, False, ("plain", 0)),
        ("plain", None, True, ("plain", 0)),  # the published 50-step model may be such a file
        ("model", None, False, ("model", 0)),
        ("both", None, False, ("model", 0)),
        ("both", None, True, ("model_avg", 1)),
        ("both", True, False, ("model_avg", 1)),
        ("both", False, True, ("model", 0)),
    ],
)
def test_three_shapes_and_the_choice_of_averaged_weights(
    tmp_path: Path, shape: str, use_ema: bool | None, said: bool, expected: tuple[str, int]
) -> None:
    last, average = official_state(0), official_state(1)
    training = {"optimizer": {"state": {}, "param_groups": []}, "step": 7, "stats": {"loss": 0.5}}
    contents = {"plain": last, "model": {"model": last} | training, "both": {"model": last, "model_avg": average}}[
        shape
    ]
    loaded = load_mdm(write(tmp_path, contents, {"use_ema": said}), use_ema=use_ema)
    assert torch.equal(output(loaded.network), output(network(expected[1])))
    assert loaded.report.weights == expected[0]
    assert loaded.report.num_dropped == 4
    assert not loaded.network.training


@pytest.mark.parametrize(
    ("around", "use_ema", "weights", "report"),
    [
        (lambda last, average: prefixed(last, "module."), None, ("plain", 0), "taken out of 'module.'"),
        (
            lambda last, average: {"state_dict": prefixed(last, "_orig_mod.module.")},
            None,
            ("model", 0),
            "taken out of 'state_dict', '_orig_mod.', 'module.'",
        ),
        (
            lambda last, average: {"state_dict": prefixed(last, "model.denoiser."), "global_step": 3},
            None,
            ("model", 0),
            "taken out of 'state_dict', 'model.', 'denoiser.'",
        ),
        (
            lambda last, average: {"net": {"state_dict": last}, "params_ema": prefixed(average, "ema_model.")},
            False,
            ("model", 0),
            "taken out of 'net', 'params_ema', 'state_dict', 'ema_model.'",
        ),
        (lambda last, average: {"ema": average}, None, ("model_avg", 1), "taken out of 'ema'"),
        (lambda last, average: {"model_avg": average}, None, ("model_avg", 1), "(model_avg)"),
        (
            lambda last, average: {
                "model": last,
                "ema": prefixed(average, "module.") | {"n_averaged": torch.tensor(5)},
            },
            True,
            ("model_avg", 1),
            "taken out of 'ema', 'module.'",
        ),
    ],
)
def test_what_training_programs_put_around_weights_is_taken_off_and_reported(
    tmp_path: Path, around: Any, use_ema: bool | None, weights: tuple[str, int], report: str
) -> None:
    loaded = load_mdm(write(tmp_path, around(official_state(0), official_state(1))), use_ema=use_ema)
    assert torch.equal(output(loaded.network), output(network(weights[1])))
    assert loaded.report.weights == weights[0] and report in str(loaded.report)


def test_weights_that_are_only_averaged_cannot_be_excluded(tmp_path: Path) -> None:
    path = write(tmp_path, {"model_avg": official_state(1)})
    with pytest.raises(CheckpointError, match="only averaged weights"):
        load_mdm(path, use_ema=False)


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(("share", "scale", "told"), [(0.0, 2.5, True), (0.0, 1.0, False), (0.1, 2.5, False)])
def test_guidance_of_a_model_that_always_had_a_text_is_told(
    tmp_path: Path, share: float, scale: float, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, official_state(), {"cond_mask_prob": share})
    normalizer().save(tmp_path)
    settings = PolicySettings(model_path=str(path), use_lora=False)
    load_policy(settings, SamplingSettings(guidance_scale=scale, sampling_steps=2))
    assert ("args.json: cond_mask_prob is 0" in caplog.text) is told


def test_the_report_says_what_was_used(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in official_state().items() if name not in OFFICIAL_POSITIONS}
    loaded = load_mdm(write(tmp_path, state))
    assert set(loaded.report.unknown_args) == {"lambda_vel", "lr", "batch_size", "emb_before_mask"}
    assert set(loaded.report.defaulted_args) >= {"text_encoder_type", "mask_frames", "pos_embed_max_len", "use_ema"}
    assert "34/34 tensors matched, 2 of text encoder" in str(loaded.report)
    assert (loaded.schedule.num_steps, loaded.schedule.name) == (50, "cosine")
    assert loaded.network.args()["mask_frames"] is False
    assert all(parameter.dtype == torch.float32 for parameter in loaded.network.parameters())


def test_ours_come_back_exactly_with_all_that_generation_needs(tmp_path: Path) -> None:
    model = network()
    args = our_args(command="python -m jobs.pretrain", text_encoder_fingerprint="abc", extra={"lr": 1e-4, "arch": "x"})
    path = save_mdm(tmp_path / "run", 1200, model, args, normalizer())
    assert path.name == "model000001200.pt"
    loaded = load_mdm(path)
    assert torch.equal(output(loaded.network), output(model))
    assert loaded.network.config == CONFIG
    assert loaded.normalizer is not None
    np.testing.assert_array_equal(loaded.normalizer.mean, normalizer().mean)
    np.testing.assert_array_equal(loaded.normalizer.std, normalizer().std)
    assert loaded.args == args
    assert (loaded.args.command, loaded.args.text_encoder, loaded.schedule.num_steps) == (args.command, "minilm", 10)
    assert sorted(os.listdir(path.parent)) == ["Mean.npy", "Std.npy", "args.json", "model000001200.pt"]


def test_official_readers_find_what_they_look_for(tmp_path: Path) -> None:
    path = save_mdm(tmp_path, 3, network(), our_args(), normalizer())
    state = torch.load(path, weights_only=True)
    assert state.keys() == network().to_file().keys()
    first, second = (state[name] for name in OFFICIAL_POSITIONS)
    assert first.data_ptr() == second.data_ptr(), "the positional table is stored once"
    text = (tmp_path / "args.json").read_text()
    args = json.loads(text)
    assert text == json.dumps(args, indent=4, sort_keys=True) + "\n"
    needed = {"arch", "dataset", "layers", "latent_dim", "cond_mask_prob", "mask_frames", "unconstrained", "use_ema"}
    assert needed | {"noise_schedule", "diffusion_steps", "sigma_small", "pos_embed_max_len"} <= args.keys()
    assert args["dataset"] == "humanml"


def test_averaged_weights_are_saved_beside_the_last_ones(tmp_path: Path) -> None:
    average = {name: value.clone() for name, value in network(1).state_dict().items()}
    path = save_mdm(tmp_path, 3, network(0), our_args(), normalizer(), average=average)
    assert torch.equal(output(load_mdm(path).network), output(network(1)))
    assert torch.equal(output(load_mdm(path, use_ema=False).network), output(network(0)))


def test_adapters_are_saved_merged(tmp_path: Path) -> None:
    model = network()
    add_lora(model, PolicySettings())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.fill_(0.01)
    loaded = load_mdm(save_mdm(tmp_path, 3, model, our_args(), normalizer()))
    merged, read = plain_state_dict(model), loaded.network.state_dict()
    assert read.keys() == merged.keys() and all(torch.equal(value, merged[name]) for name, value in read.items())
    torch.testing.assert_close(output(loaded.network), output(model), atol=1e-6, rtol=1e-5)
    assert not torch.equal(output(loaded.network), output(network()))


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    full = save_mdm(tmp_path / "a", 0, network(), our_args(), normalizer())
    half = save_mdm(tmp_path / "b", 0, network(), our_args(), normalizer(), dtype=torch.float16)
    assert half.stat().st_size < 0.75 * full.stat().st_size
    torch.testing.assert_close(output(load_mdm(half).network), output(network()), atol=2e-2, rtol=0)


def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = save_mdm(tmp_path, 3, network(0), our_args(), normalizer())
    before = path.read_bytes()
    with file_size_limit(30_000), pytest.raises(WriteError, match=r"cannot write .*model000000003\.pt: File too large"):
        save_mdm(tmp_path, 3, network(1), our_args(), normalizer())
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["Mean.npy", "Std.npy", "args.json", "model000000003.pt"]
    assert torch.equal(output(load_mdm(path).network), output(network(0)))


def test_saving_refuses_arguments_of_another_network(tmp_path: Path) -> None:
    other = replace(CONFIG, mask_frames=True)
    with pytest.raises(ValueError, match=r"args\.mask_frames is False, the network has True"):
        save_mdm(tmp_path, 0, MDM(other), our_args(), normalizer())
    with pytest.raises(ValueError, match="the statistics have 3 numbers, the network 263"):
        save_mdm(tmp_path, 0, network(), our_args(), Normalizer(np.zeros(3), np.ones(3)))
    assert os.listdir(tmp_path) == []


def state_of(*names: str) -> dict[str, Tensor]:
    return {name: torch.zeros(2) for name in names}


WRONG_KINDS: dict[str, tuple[Any, str]] = {
    "optimizer": ({"state": {}, "param_groups": []}, "the state of an optimizer"),
    "guo": ({"movement_encoder": {}, "text_encoder": {}, "motion_encoder": {}, "epoch": 1}, "evaluator of Guo"),
    "guo text encoder": (state_of("hidden", "gru.weight_ih_l0", "output_net.0.weight"), "evaluator of Guo"),
    "tmr encoder": (state_of("tokens", "projection.weight", "seqTransEncoder.layers.0.norm1.bias"), "a TMR"),
    "tmr parts": ({"text_encoder": state_of("tokens", "seqTransEncoder.x")}, "a TMR"),
    "tmr lightning": ({"state_dict": state_of("motion_encoder.tokens", "text_encoder.tokens")}, "a TMR"),
    "critic": ({"epoch": 1, "model_state_dict": state_of("module.dstran.pos_embed")}, "a MotionCritic"),
    "adapters": ({"model": state_of("base_model.model.embed_text.base_layer.weight")}, "adapters that were not merged"),
    "action": (state_of("input_process.x", "seqTransEncoder.x", "embed_action.x"), "labelled with actions"),
    "tensor": (torch.zeros(263), "statistics of a dataset .*--stats_path"),
    "list": ([1, 2], "a list, not a state dict"),
    "anything": (state_of("conv.weight"), r"something unknown with 1 entries: conv\.weight"),
    "python objects": (nn.Linear(2, 2), "holds Python objects beside tensors"),
}


@pytest.mark.parametrize("kind", WRONG_KINDS)
def test_the_wrong_kind_of_file_is_named(tmp_path: Path, kind: str) -> None:
    contents, expected = WRONG_KINDS[kind]
    with pytest.raises(CheckpointError, match=rf"model000750000\.pt .*{expected}"):
        load_mdm(write(tmp_path, contents))


def test_files_that_are_no_torch_files_are_named(tmp_path: Path) -> None:
    model = network()
    add_lora(model, PolicySettings())
    good = write(tmp_path, official_state()).read_bytes()

    def content(data: bytes) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(data)

    def pickled(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, np.array([{"text": "a"}], dtype=object))

    cases: dict[str, tuple[Callable[[Path], object], str]] = {
        "Mean.npy": (
            lambda path: np.save(path, np.zeros(263)),
            r"a NumPy array \(263,\), as statistics .*--stats_path",
        ),
        "motion.npy": (lambda path: np.save(path, np.zeros((60, 263))), r"a NumPy array \(60, 263\)$"),
        "composite.npy": (pickled, "a NumPy file that is damaged or holds Python objects"),
        "results.npz": (lambda path: np.savez(path, a=np.zeros(2)), "a NumPy archive"),
        "args.json": (content(b'{"arch": "trans_enc"}'), "a JSON file"),
        "x.safetensors": (content(b"12345678"), "a damaged safetensors file"),
        "empty.pt": (content(b""), "empty"),
        "pointer.pt": (content(b"version https://git-lfs.github.com/spec/v1\n"), "a pointer of Git LFS"),
        "text.pt": (content(b"nothing of the kind"), "no torch file, or damaged"),
        "cut.pt": (content(good[:5000]), "cut off"),
    }
    for name, (make, expected) in cases.items():
        make(tmp_path / name)
        with pytest.raises(CheckpointError, match=rf"{name} is {expected}"):
            load_mdm(tmp_path / name)
    save_adapter(tmp_path / "adapter", model)
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is .* a LoRA adapter.*--adapter_path"):
        load_mdm(tmp_path / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("file", ["tmr.pt", "motioncritic.pt", "t2m_evaluator.pt"])
def test_real_weights_of_other_models_are_refused(tmp_path: Path, parity_dir: Path, file: str) -> None:
    fixture = torch.load(parity_dir / file, weights_only=True)
    states = [value for value in flat_states(fixture) if value]
    assert states
    for state in states:
        with pytest.raises(CheckpointError, match=r"TMR|MotionCritic|Guo|unknown"):
            load_mdm(write(tmp_path, state))


def flat_states(value: Any) -> list[dict[str, Tensor]]:
    """Every state dict inside a fixture."""
    if not isinstance(value, dict):
        return []
    if value and all(isinstance(v, Tensor) for v in value.values()) and any("weight" in str(k) for k in value):
        return [value]
    return [state for inner in value.values() for state in flat_states(inner)]


def test_missing_and_unexpected_tensors_and_shapes_are_named(tmp_path: Path) -> None:
    state = official_state()
    layer = "seqTransEncoder.layers.1.linear2.bias"
    with pytest.raises(CheckpointError, match=rf"33 of 34 names match; missing: {layer}"):
        load_mdm(write(tmp_path, {name: value for name, value in state.items() if name != layer}))
    with pytest.raises(CheckpointError, match=r"embed_text\.weight is missing"):
        load_mdm(write(tmp_path, {name: value for name, value in state.items() if name != "embed_text.weight"}))
    with pytest.raises(CheckpointError, match=r"unexpected: extra\.weight"):
        load_mdm(write(tmp_path, state | {"extra.weight": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"linear2\.bias has shape \(3,\); the config asks for \(16,\)"):
        load_mdm(write(tmp_path, state | {layer: torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=rf"{layer} is a str; expected a tensor"):
        load_mdm(write(tmp_path, state | {layer: "zeros"}))
    with pytest.raises(CheckpointError, match=r"with the sizes of its args\.json: .*of 3 layers: .*missing: seqTrans"):
        load_mdm(write(tmp_path, state, {"layers": 3}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float) -> None:
    state = official_state()
    state["seqTransEncoder.layers.0.norm1.weight"][3] = value
    with pytest.raises(CheckpointError, match=r"1 of 16 numbers of seqTransEncoder\.layers\.0\.norm1\.weight are not"):
        load_mdm(write(tmp_path, state))


UNSUPPORTED = {
    r"arch rwkv is not supported yet \(trans_enc, trans_dec, gru, mamba is\)": {"arch": "rwkv"},
    "it is unconstrained": {"unconstrained": True},
    "without text has no prompt": {"cond_mode": "no_cond"},
    "uestc is labelled with actions": {"dataset": "uestc"},
    "autoregressive models are not supported": {"pred_len": 40, "context_len": 20},
    "target conditioning is not supported": {"multi_target_cond": True},
    "emb_policy concat": {"emb_policy": "concat"},
    "sigma_small is false": {"sigma_small": False},
    "bert belongs to arch trans_dec": {"text_encoder_type": "bert"},
    "dataset is 'mine', which has no known skeleton; name it with --skeleton": {"dataset": "mine"},
    "noise_schedule: Input should be 'cosine' or 'linear'": {"noise_schedule": "sqrt"},
    "diffusion_steps: Input should be greater than or equal to 1": {"diffusion_steps": 0},
    "diffusion_steps: Field required": {"diffusion_steps": None},
}


@pytest.mark.parametrize("message", UNSUPPORTED)
def test_arguments_that_cannot_be_honoured_are_refused(tmp_path: Path, message: str) -> None:
    with pytest.raises(ModelArgsError, match=rf"args\.json: .*{message}"):
        load_mdm(write(tmp_path, official_state(), UNSUPPORTED[message]))


def test_args_json_missing_or_broken(tmp_path: Path) -> None:
    path = write(tmp_path, official_state())
    for text, expected in (("{", "not JSON"), ("[1]", "holds a list; expected an object")):
        (tmp_path / "args.json").write_text(text)
        with pytest.raises(ModelArgsError, match=expected):
            load_mdm(path)
    (tmp_path / "args.json").unlink()
    with pytest.raises(ModelArgsError, match=r"args\.json: no such file.*how many diffusion steps"):
        load_mdm(path)


def test_what_a_model_path_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (5, 30, 200):
        save_mdm(tmp_path / "run", step, network(), our_args(), normalizer())
    assert find_checkpoint(tmp_path / "run").name == "model000000200.pt"
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "model_final.pt").touch()
    assert find_checkpoint(tmp_path / "final").name == "model_final.pt"
    with pytest.raises(CheckpointError, match=r"no such file; in that folder: model000000005\.pt, .*Built-in:"):
        find_checkpoint(tmp_path / "run" / "model000000006.pt")
    with pytest.raises(CheckpointError, match=r"no model#########\.pt in this folder"):
        find_checkpoint(tmp_path)
    monkeypatch.setattr(checkpoints, "WEIGHTS_DIR", tmp_path)
    assert find_checkpoint("run") == tmp_path / "run" / "model000000200.pt"
    assert torch.equal(output(load_mdm("run").network), output(network()))
    with pytest.raises(CheckpointError, match=r"model_path is 'absent': no such file\. Built-in: run"):
        find_checkpoint("absent")


@pytest.mark.parametrize("name", checkpoints.builtin_names())
def test_models_that_ship_are_small_and_complete(name: str) -> None:
    loaded = load_mdm(name)
    assert loaded.normalizer is not None and loaded.args.command
    assert sum(file.stat().st_size for file in (checkpoints.WEIGHTS_DIR / name).iterdir()) < 6 * 2**20


def test_statistics_come_from_the_named_folder_or_the_checkpoints(tmp_path: Path) -> None:
    path = write(tmp_path, official_state())
    with pytest.raises(ValueError, match=r"no Mean\.npy and Std\.npy beside .*--stats_path"):
        load_policy(PolicySettings(model_path=str(path)), CPU)
    stats = tmp_path / "HumanML3D"
    stats.mkdir()
    normalizer().save(stats)
    policy = load_policy(PolicySettings(model_path=str(path), stats_path=str(stats), use_lora=False), CPU)
    np.testing.assert_array_equal(policy.normalizer.std, normalizer().std)
    assert policy.num_steps == 50
    (stats / "Std.npy").unlink()
    with pytest.raises(ValueError, match=r"Std\.npy: no such file"):
        load_mdm(path, stats_path=stats)
    np.save(tmp_path / "Mean.npy", np.zeros(251))
    np.save(tmp_path / "Std.npy", np.ones(251))
    with pytest.raises(ValueError, match=r"Mean\.npy: shape \(251,\), expected \(263,\)"):
        load_mdm(path)
    with pytest.raises(CheckpointError, match="has 263 features, skeleton kit has 251"):
        load_mdm(path, stats_path=stats, skeleton="kit")


def test_a_policy_starts_as_its_base_and_takes_adapters(tmp_path: Path) -> None:
    save_mdm(tmp_path, 3, network(), our_args(), normalizer())
    settings: dict[str, object] = {"model_path": str(tmp_path)}
    plain = load_policy(PolicySettings.model_validate(settings | {"use_lora": False}), CPU)
    assert set(plain.trainable_parameters()) == set(dict(network().named_parameters()))
    settings["use_lora"] = True
    policy = load_policy(PolicySettings.model_validate(settings | {"lora_r": 2, "lora_target_spec": "ffn"}), CPU)
    assert len(policy.trainable_parameters()) == 8
    assert torch.equal(output(policy.network), output(plain.network))

    weights = policy.weights()
    policy.load_weights({name: np.full_like(value, 0.01) for name, value in weights.items()})
    adapter = {"adapter_path": str(save_adapter(tmp_path / "adapter", policy.network))}
    again = load_policy(PolicySettings.model_validate(settings | adapter), CPU)
    assert torch.equal(output(again.network), output(policy.network))
    assert again.trainable_parameters().keys() == policy.trainable_parameters().keys()

    merged = load_policy(PolicySettings.model_validate(settings | adapter | {"merge_adapter": True}), CPU)
    assert len(merged.trainable_parameters()) == 30
    torch.testing.assert_close(output(merged.network), output(policy.network), atol=1e-6, rtol=1e-5)
    with merged.adapters_disabled():
        torch.testing.assert_close(output(merged.network), output(policy.network), atol=1e-6, rtol=1e-5)


ENCODER = """
class Twelve:
    dim, max_tokens, max_positions, fingerprint = 12, 4, 8, "twelve"
    def __init__(self, path): pass
    def tokenize(self, text): return [0, 1]
    def pooled(self, ids): ...
    def tokens(self, ids): ...
"""


def test_the_text_encoder_is_the_one_the_policy_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kinetune_twelve.py").write_text(ENCODER)
    monkeypatch.syspath_prepend(tmp_path)
    name = "kinetune_twelve:Twelve"

    def save(fingerprint: str | None) -> PolicySettings:
        args = model_args_of(
            network(), DiffusionSchedule("cosine", 10), "humanml3d", name, text_encoder_fingerprint=fingerprint
        )
        save_mdm(tmp_path, 3, network(), args, normalizer())
        return PolicySettings(model_path=str(tmp_path), text_encoder=name, max_text_tokens=6, truncate_text=True)

    for known in ("twelve", None):
        encoder = load_policy_text_encoder(save(known))
        assert (encoder.name, encoder.dim, encoder.max_tokens, encoder.truncate) == (name, 12, 6, True)
    with pytest.raises(ValueError, match=r"fingerprint twelve\) is not the one .*fingerprint thirteen"):
        load_policy_text_encoder(save("thirteen"))
    with pytest.raises(ValueError, match=r"text_encoder minilm \(384 numbers, .*trained with: kinetune_twelve"):
        load_policy_text_encoder(PolicySettings(model_path=str(tmp_path), text_encoder="minilm"))
