"""Loads a complete policy from settings: checkpoint, adapters, statistics, skeleton, schedule, text encoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeVar

import numpy as np

from motions.base.errors import UserError
from motions.base.named import named_in_file
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT
from rollouts.checkpoints.adapted import has_lora
from rollouts.checkpoints.mdm_files import STATISTICS, LoadedMDM, find_checkpoint, load_mdm
from rollouts.checkpoints.model_args import ARGS_FILE, read_model_args
from rollouts.checkpoints.motion_ssm_files import (
    WEIGHTS_FILE,
    LoadedMotionSSM,
    MotionSSMReport,
    is_motion_ssm,
    load_motion_ssm,
    read_config,
)
from rollouts.checkpoints.public_motion_ssm import is_public_motion_ssm, load_public_motion_ssm
from rollouts.diffusion.policy import DiffusionPolicy, require_denoising
from rollouts.one_action.policy import OneActionPolicy, train_only
from rollouts.policy import Policy, PolicyNetwork
from rollouts.settings import CheckpointSettings, PolicySettings, SamplingSettings
from rollouts.text.encoders import TextEncoder, load_text_encoder
from rollouts.text.words import Words

logger = logging.getLogger(__name__)
CheckpointT = TypeVar("CheckpointT", bound=CheckpointSettings)
NetworkT = TypeVar("NetworkT", bound=PolicyNetwork)
LoadedBase = LoadedMDM | LoadedMotionSSM
"""A checkpoint of any kind of policy, without adapters."""


def is_one_action(settings: CheckpointSettings) -> bool:
    """Whether the policy is one of one action: a refiner by the options, a MotionSSM by its files.

    Raises:
        UserError: `policy_type` says another kind.
    """
    return settings.policy_type == "physics_ssm" or _holds_motion_ssm(settings)


def _holds_motion_ssm(settings: CheckpointSettings) -> bool:
    """Whether `model_path` is a MotionSSM. Raises as `is_one_action`."""
    found = is_motion_ssm(settings.model_path) or is_public_motion_ssm(settings.model_path)
    if settings.policy_type == "motion_ssm" and not found:
        raise UserError(f"policy_type is motion_ssm, and model_path {settings.model_path} holds no MotionSSM")
    if settings.policy_type == "diffusion" and found:
        raise UserError(f"policy_type is diffusion, and model_path {settings.model_path} holds a MotionSSM")
    return found


def model_file(settings: CheckpointSettings) -> Path:
    """The file of the weights.

    Raises:
        UserError: there is none.
    """
    if not is_one_action(settings):
        return find_checkpoint(settings.model_path)
    path = Path(settings.model_path)
    return path / WEIGHTS_FILE if path.is_dir() else path


def open_base(settings: PolicySettings) -> LoadedBase:
    """The checkpoint that the settings name, of whatever kind, without adapters.

    Raises:
        UserError: no such file, another kind than `policy_type` says, or not loadable.
    """
    if not is_one_action(settings):
        return load_base(settings)
    return _open_public(settings) if is_public_motion_ssm(settings.model_path) else load_motion_ssm(settings.model_path)


def open_policy(loaded: LoadedBase, settings: PolicySettings, sampling: SamplingSettings) -> Policy:
    """The policy of a result of `open_base`, whose network it takes over; adapters as in `load_policy`.

    Example:
        policy = open_policy(open_base(config.policy), config.policy, config.sampling)

    Raises:
        UserError: parts do not fit each other or the device.
    """
    if isinstance(loaded, LoadedMDM):
        return build_policy(loaded, settings, sampling)
    network = loaded.network
    train_only(network, settings.train)
    if settings.use_lora and settings.lora_target_spec == "all" and settings.train != "both":
        settings = settings.model_copy(update={"lora_target_spec": settings.train})
    return OneActionPolicy(
        with_adapters(network, settings),
        loaded.normalizer,
        loaded.skeleton,
        sampling,
        trained_frames=loaded.trained_frames,
        max_frames=network.max_frames,
    )


def _open_public(settings: PolicySettings) -> LoadedMotionSSM:
    """The public regressor, whose file says neither statistics nor skeleton."""
    path = Path(settings.model_path)
    network, words = load_public_motion_ssm(path)
    folder = path.parent if settings.stats_path is None else Path(settings.stats_path)
    files = [folder / name for name in STATISTICS]
    if lacking := [str(file) for file in files if not file.is_file()]:
        raise UserError(
            f"{', '.join(lacking)}: no such file; --stats_path names the folder of the training's statistics"
        )
    normalizer = Normalizer.load(*files, num_features=network.num_features)
    fitting = [each for each in (KIT, HUMANML3D) if each.num_features == network.num_features]
    if not fitting:
        raise UserError(f"{path} makes {network.num_features} features; legal: {KIT.num_features} of KIT-ML")
    report = MotionSSMReport(path, len(network.state_dict()), 0)
    return LoadedMotionSSM(
        network=network,
        normalizer=normalizer,
        skeleton=fitting[0],
        trained_frames=network.max_frames,
        text_encoder="words",
        text_encoder_fingerprint=words.fingerprint,
        words=(),
        report=report,
    )


def load_policy(settings: PolicySettings, sampling: SamplingSettings) -> DiffusionPolicy:
    """The policy that the settings describe; equal settings and files give the same bits in every process.

    With `use_lora` the network has adapters: those of `adapter_path`, or new ones that do not change the output.

    Example:
        policy = load_policy(config.policy, config.sampling)

    Raises:
        CheckpointError, ModelArgsError, AdapterError: see `load_mdm` and `load_adapter`.
        UserError: there are no statistics, or parts do not fit each other or the device.
    """
    return build_policy(load_base(settings), settings, sampling)


def build_policy(loaded: LoadedMDM, settings: PolicySettings, sampling: SamplingSettings) -> DiffusionPolicy:
    """Builds the policy from the result of `load_base`, whose report some callers need; it takes over the network."""
    if loaded.normalizer is None:
        raise UserError(
            f"there is no Mean.npy and Std.npy beside {loaded.report.path}; --stats_path names the folder of the "
            "statistics the model was trained with (HumanML3D's own folder for official models)"
        )
    _tell_of_guidance(loaded, sampling)
    network = with_adapters(loaded.network, settings)
    return DiffusionPolicy(
        network,
        loaded.schedule,
        loaded.normalizer,
        loaded.skeleton,
        sampling,
        trained_frames=loaded.args.trained_frames,
    )


def load_reference(settings: PolicySettings, policy: Policy, sampling: SamplingSettings) -> DiffusionPolicy | None:
    """The frozen policy of `ref_model_path`; None without it, and where it is the start of the policy anyway.

    Raises:
        CheckpointError, ModelArgsError: see `load_mdm`.
        UserError: its denoising steps, statistics, skeleton or text encoder are not those of the policy, or the policy
            does not denoise.
    """
    path = settings.ref_model_path
    if path is None or (path == settings.model_path and not settings.merge_adapter):
        return None
    require_denoising(policy, f"ref_model_path {path}")
    alone = {
        "model_path": path,
        "ref_model_path": None,
        "use_lora": False,
        "adapter_path": None,
        "merge_adapter": False,
    }
    loaded, own = load_base(settings.model_copy(update=alone)), load_base(settings)
    reference = build_policy(loaded, settings.model_copy(update=alone), sampling)
    same = {
        "skeleton": loaded.skeleton == own.skeleton,
        "denoising steps": loaded.schedule.alphas_cumprod.tolist() == own.schedule.alphas_cumprod.tolist(),
        "statistics (Mean.npy, Std.npy)": all(
            np.array_equal(getattr(reference.normalizer, name), getattr(policy.normalizer, name))
            for name in ("mean", "std")
        ),
        "text encoder": (loaded.args.text_encoder, loaded.network.text_dim, loaded.network.text_form)
        == (own.args.text_encoder, own.network.text_dim, own.network.text_form),
    }
    if other := [name for name, equal in same.items() if not equal]:
        raise UserError(
            f"ref_model_path {loaded.report.path} has other {', '.join(other)} than model_path {own.report.path}: the "
            "KL between them is not defined"
        )
    reference.network.requires_grad_(False)
    return reference


def load_base(settings: PolicySettings) -> LoadedMDM:
    """The checkpoint that the settings name, without adapters."""
    return load_mdm(
        settings.model_path,
        arch=None if settings.arch == "auto" else settings.arch,
        use_ema=settings.use_ema,
        stats_path=settings.stats_path,
        skeleton=settings.skeleton,
    )


def load_policy_text_encoder(settings: PolicySettings) -> TextEncoder:
    """The text encoder of the policy, chosen by args.json; does not read the weights.

    Raises:
        UserError: it cannot be loaded, is a class of which only args.json speaks, or is not the one that the policy was
            trained with (by width, or by the fingerprint that kinetune's checkpoints hold).
    """
    if _holds_motion_ssm(settings):
        return _text_encoder_of_motion_ssm(settings)
    file = find_checkpoint(settings.model_path)
    args = read_model_args(file)
    name = settings.text_encoder
    if name == "auto":
        name = named_in_file(f"{file.with_name(ARGS_FILE)}: text_encoder_type", args.text_encoder, "text_encoder")
    encoder = _text_encoder(name, settings)
    if args.text_width not in (None, encoder.dim) or args.text_encoder_fingerprint not in (None, encoder.fingerprint):
        trained_with = (args.text_encoder_fingerprint or "unknown")[:12]
        raise UserError(
            f"text_encoder {name} ({encoder.dim} numbers, fingerprint {encoder.fingerprint[:12]}) is not the one that "
            f"{file} was trained with: {args.text_encoder} ({args.text_width} numbers, fingerprint {trained_with})"
        )
    return encoder


def _text_encoder(name: str, settings: CheckpointSettings) -> TextEncoder:
    return load_text_encoder(
        name,
        settings.text_encoder_path,
        max_tokens=settings.max_text_tokens,
        truncate=settings.truncate_text,
        cache_dir=settings.text_cache_dir,
    )


def _text_encoder_of_motion_ssm(settings: CheckpointSettings) -> TextEncoder:
    """The encoder that `config.json` names; errors as of `load_policy_text_encoder`."""
    path = Path(settings.model_path)
    if is_public_motion_ssm(path):
        return TextEncoder("words", load_public_motion_ssm(path)[1])
    folder = path if path.is_dir() else path.parent
    config = read_config(folder)
    if words := config["words"]:
        if settings.text_encoder not in ("auto", "words"):
            raise UserError(f"text_encoder is {settings.text_encoder}; {folder} reads words of its own vocabulary")
        return TextEncoder("words", Words(words), truncate=settings.truncate_text)
    name = settings.text_encoder
    if name == "auto":
        name = named_in_file(f"{folder / 'config.json'}: text_encoder", config["text_encoder"], "text_encoder")
    encoder = _text_encoder(name, settings)
    if encoder.fingerprint != config["text_encoder_fingerprint"]:
        raise UserError(
            f"text_encoder {name} (fingerprint {encoder.fingerprint[:12]}) is not the one that {folder} was trained "
            f"with: {config['text_encoder']} (fingerprint {config['text_encoder_fingerprint'][:12]})"
        )
    return encoder


def with_statistics_of(settings: CheckpointT, data_folder: str | Path) -> CheckpointT:
    """The settings with the statistics of a data set where none are named and none lie beside the checkpoint, as MDM's
    own code reads them; says so. Unchanged where there are none either."""
    if settings.stats_path is not None or is_motion_ssm(settings.model_path):
        return settings
    beside, folder = find_checkpoint(settings.model_path).parent, Path(data_folder).expanduser()
    if any((beside / name).is_file() for name in STATISTICS) or not all(
        (folder / name).is_file() for name in STATISTICS
    ):
        return settings
    print(f"stats_path {folder}: the data's statistics, because {beside} has none")
    return settings.model_copy(update={"stats_path": str(folder)})


def _tell_of_guidance(loaded: LoadedMDM, sampling: SamplingSettings) -> None:
    """Warns where guidance asks the network for motions without text, which it was never trained on."""
    scales = {sampling.denoising.guidance_scale, sampling.evaluation.guidance_scale} - {0.0, 1.0}
    if scales and loaded.args.cond_mask_prob == 0.0:
        logger.warning(
            "%s: cond_mask_prob is 0, so the model was never trained without text, and guidance_scale %g pushes away "
            "from what it makes of no text, which is arbitrary; --guidance_scale 1 turns guidance off",
            *(loaded.report.path.with_name(ARGS_FILE), max(scales)),
        )


def with_adapters(network: NetworkT, settings: PolicySettings) -> NetworkT:
    """The network with the adapters of the settings, if they ask for any.

    Raises:
        AdapterError: they do not fit the network.
    """
    if settings.adapter_path is None and not settings.use_lora:
        return network
    # Imported here because peft takes seconds to import and a policy without adapters does not need it.
    from rollouts.checkpoints.adapters import add_lora, load_adapter, merge_into_base

    if settings.adapter_path is not None:
        load_adapter(network, settings.adapter_path, allow_other_base=settings.allow_other_base)
        if settings.merge_adapter:
            network = merge_into_base(network)
    if settings.use_lora and not has_lora(network):
        add_lora(network, settings)
    return network
