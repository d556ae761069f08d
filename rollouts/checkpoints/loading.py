"""Loads a complete policy from settings: checkpoint, adapters, statistics, skeleton, schedule, text encoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeVar

import numpy as np

from motions.base.errors import UserError
from motions.base.named import named_in_file
from rollouts.checkpoints.mdm_files import STATISTICS, LoadedMDM, find_checkpoint, load_mdm
from rollouts.checkpoints.model_args import ARGS_FILE, read_model_args
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.networks.denoiser_network import DenoiserNetwork
from rollouts.settings import CheckpointSettings, PolicySettings, SamplingSettings
from rollouts.text.encoders import TextEncoder, load_text_encoder

logger = logging.getLogger(__name__)
CheckpointT = TypeVar("CheckpointT", bound=CheckpointSettings)


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
    network = _with_adapters(loaded.network, settings)
    return DiffusionPolicy(
        network,
        loaded.schedule,
        loaded.normalizer,
        loaded.skeleton,
        sampling,
        trained_frames=loaded.args.trained_frames,
    )


def load_reference(
    settings: PolicySettings, policy: DiffusionPolicy, sampling: SamplingSettings
) -> DiffusionPolicy | None:
    """The frozen policy of `ref_model_path`; None without it, and where it is the start of the policy anyway.

    Raises:
        CheckpointError, ModelArgsError: see `load_mdm`.
        UserError: its denoising steps, statistics, skeleton or text encoder are not those of the policy.
    """
    path = settings.ref_model_path
    if path is None or (path == settings.model_path and not settings.merge_adapter):
        return None
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
    file = find_checkpoint(settings.model_path)
    args = read_model_args(file)
    name = settings.text_encoder
    if name == "auto":
        name = named_in_file(f"{file.with_name(ARGS_FILE)}: text_encoder_type", args.text_encoder, "text_encoder")
    encoder = load_text_encoder(
        name,
        settings.text_encoder_path,
        max_tokens=settings.max_text_tokens,
        truncate=settings.truncate_text,
        cache_dir=settings.text_cache_dir,
    )
    if args.text_width not in (None, encoder.dim) or args.text_encoder_fingerprint not in (None, encoder.fingerprint):
        trained_with = (args.text_encoder_fingerprint or "unknown")[:12]
        raise UserError(
            f"text_encoder {name} ({encoder.dim} numbers, fingerprint {encoder.fingerprint[:12]}) is not the one that "
            f"{file} was trained with: {args.text_encoder} ({args.text_width} numbers, fingerprint {trained_with})"
        )
    return encoder


def with_statistics_of(settings: CheckpointT, data_folder: str | Path) -> CheckpointT:
    """The settings with the statistics of a data set where none are named and none lie beside the checkpoint, as MDM's
    own code reads them; says so. Unchanged where there are none either."""
    if settings.stats_path is not None:
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


def _with_adapters(network: DenoiserNetwork, settings: PolicySettings) -> DenoiserNetwork:
    if settings.adapter_path is None and not settings.use_lora:
        return network
    # Imported here because peft takes seconds to import and a policy without adapters does not need it.
    from rollouts.checkpoints.adapters import add_lora, has_lora, load_adapter, merge_into_base

    if settings.adapter_path is not None:
        load_adapter(network, settings.adapter_path, allow_other_base=settings.allow_other_base)
        if settings.merge_adapter:
            network = merge_into_base(network)
    if settings.use_lora and not has_lora(network):
        add_lora(network, settings)
    return network
