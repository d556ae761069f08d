"""Options of MotionCritic's guide that are no settings of a job here, so that its commands run unchanged.

Each asks for what happens anyway, or belongs to another of its scripts, which all take the same options there.
"""

from __future__ import annotations

from collections.abc import Collection

from jobs.command_line.flags import ForeignFlag
from jobs.command_line.foreign_flags import ANY, OFF

_CHECKPOINT = "the network's shape is read from args.json beside the checkpoint"
_EVALUATION = "jobs.test_mdm measures accuracy, FID and diversity"
_OTHER = "it belongs to another of MotionCritic's scripts"
_RENDERING = "jobs.tune_mdm writes pages of its evaluations, and jobs.view shows motions of any file"
_NONE = ("0", "0.0")

_FOREIGN: dict[str, ForeignFlag] = {
    "cuda": ForeignFlag("--device chooses the device", ("true", "1")),
    "arch": ForeignFlag(_CHECKPOINT, ("trans_enc",)),
    "emb_trans_dec": ForeignFlag(_CHECKPOINT, OFF),
    **dict.fromkeys(("layers", "latent_dim", "noise_schedule", "diffusion_steps"), ForeignFlag(_CHECKPOINT, ANY)),
    "cond_mask_prob": ForeignFlag("actions are never dropped, and motions not guided", (*_NONE, "0.1")),
    **dict.fromkeys(
        ("lambda_rcxyz", "lambda_vel", "lambda_fc"),
        ForeignFlag("the loss on real clips is that of rotations and translation", _NONE),
    ),
    "unconstrained": ForeignFlag("motions are made for actions", OFF),
    "sigma_small": ForeignFlag("the posterior variance is used", ("true", "1")),
    **dict.fromkeys(
        ("eval_batch_size", "eval_split", "eval_rep_times", "eval_num_samples", "eval_during_training"),
        ForeignFlag(_EVALUATION, ANY),
    ),
    "log_interval": ForeignFlag("every step is recorded", ANY),
    **dict.fromkeys(("lr_anneal_steps",), ForeignFlag(_OTHER, ANY)),
    "wandb": ForeignFlag("--train_platform_type WandBPlatform records with Weights & Biases", ("none",)),
    "sample_when_eval": ForeignFlag(
        "evaluations score motions of every action; jobs.sample_and_save keeps motions", ANY
    ),
    **dict.fromkeys(("render_video", "render_gt", "render_batch_size"), ForeignFlag(_RENDERING, ANY)),
    "train_platform_type": ForeignFlag(_OTHER, ("noplatform",)),
    **dict.fromkeys(
        (
            *("critic_scale", "reward_scale", "random_critic_loss", "random_reward_loss", "no_critic_loss"),
            *("no_reward_loss", "kl_scale", "use_kl_loss", "relu_loss", "denoise_lower", "denoise_upper"),
            *("ddim_sampling", "lr", "weight_decay", "num_steps", "save_interval", "resume_checkpoint", "batch_size"),
        ),
        ForeignFlag(_OTHER, ANY),
    ),
}


def foreign_beside(own: Collection[str]) -> dict[str, ForeignFlag]:
    """Options of MotionCritic's guide beside those that a job has itself."""
    return {name: flag for name, flag in _FOREIGN.items() if name not in own}
