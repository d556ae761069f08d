"""Options of the command lines of other public tools that are not settings here, most of MDM and of MDM-GRPO
(jufan666/text-to-motion).

Each either asks for the existing behaviour (it is accepted with a note) or for something unsupported (an error says
so): a documented command of those projects runs unchanged, and none of its options is ignored silently.
"""

from __future__ import annotations

from jobs.command_line.flags import ForeignFlag

_CHECKPOINT = "the network's shape is read from args.json beside the checkpoint"
_PROMPTS = "segments come with the prompts"
_LOADER = "GRPO reads prompts, it crops no clips"
_EVALUATION = "held-out evaluation is set by --eval_every, --num_eval_prompts and --eval_prompts_path"
_GENERATION = "jobs.generate makes motions"
_AUTOREGRESSIVE = "jobs.generate alone makes motions window by window"
_PRETRAINED = "jobs.pretrain measures nothing; jobs.grpo measures a policy before it trains"
_SAMPLES = "--num_samples motions are generated when the training ends"
_ACTIONS = "only models that read text are supported"
_LOSS = "it weighs a term of supervised training, of which jobs.pretrain has --lambda_vel"

_COMPLETION = ("context_len", "pred_len", "autoregressive", "autoregressive_include_prefix", "autoregressive_init")

ANY = ("*",)
OFF, ON = ("false", "0"), ("true", "1")

FOREIGN_TO_GRPO: dict[str, ForeignFlag] = {
    "k_segments": ForeignFlag(
        f"{_PROMPTS}; --composite_k_segments requires a number of them", ANY, same_number_as="composite_k_segments"
    ),
    "fps": ForeignFlag(
        "the frame rate is the skeleton's, 20 for humanml and 12.5 for kit",
        ("20", "20.0"),
        same_number_as="dataset",
        numbers={"humanml": 20.0, "builtin": 20.0, "kit": 12.5},
    ),
    "disable_random_crop": ForeignFlag(_LOADER, ("true", "1")),
    "cuda": ForeignFlag("--device chooses where the policy runs; give --device cpu to leave the GPU", ("true", "1")),
    "external_mode": ForeignFlag("there is no such mode", OFF),
    "emb_trans_dec": ForeignFlag(_CHECKPOINT, OFF),
    **dict.fromkeys(
        ("layers", "latent_dim", "mask_frames", "pos_embed_max_len", "noise_schedule"), ForeignFlag(_CHECKPOINT)
    ),
    "cond_mask_prob": ForeignFlag("GRPO never drops the text"),
    "unconstrained": ForeignFlag("a policy without text has no prompt to follow", OFF),
    **dict.fromkeys(("lambda_rcxyz", "lambda_vel", "lambda_fc", "lambda_target_loc"), ForeignFlag(_LOSS, ("0", "0.0"))),
    "multi_target_cond": ForeignFlag("target conditioning is not supported", OFF),
    "multi_encoder_type": ForeignFlag("target conditioning is not supported", ("single",)),
    "target_enc_layers": ForeignFlag("target conditioning is not supported", ("1",)),
    "target_joint_names": ForeignFlag("target conditioning is not supported", ("dimp_final",)),
    **dict.fromkeys(("context_len", "pred_len"), ForeignFlag(_AUTOREGRESSIVE, ("0",))),
    **dict.fromkeys(("autoregressive", "autoregressive_include_prefix"), ForeignFlag(_AUTOREGRESSIVE, OFF)),
    "autoregressive_init": ForeignFlag(_AUTOREGRESSIVE, ("data",)),
    "diffusion_steps": ForeignFlag(f"{_CHECKPOINT}; --sampling_steps keeps fewer of its steps"),
    "sigma_small": ForeignFlag("the posterior variance is used", ("true", "1")),
    **dict.fromkeys(("eval_batch_size", "eval_rep_times", "eval_num_samples"), ForeignFlag(_EVALUATION)),
    "eval_split": ForeignFlag(_EVALUATION, ("test",)),
    "eval_during_training": ForeignFlag(_EVALUATION, OFF),
    "num_frames": ForeignFlag("a prompt says how many frames it wants", ("60",)),
    "resume_checkpoint": ForeignFlag("--resume continues a run directory with its optimizer and random state", ("",)),
    "max_train_samples": ForeignFlag("--num_prompts limits the prompts", ("0",)),
    "gen_during_training": ForeignFlag(_GENERATION, OFF),
    **dict.fromkeys(("gen_num_samples", "gen_num_repetitions"), ForeignFlag(_GENERATION)),
    "gen_guidance_param": ForeignFlag("--guidance_scale is used in training and evaluation alike"),
    "avg_model_beta": ForeignFlag("--policy_ema_decay averages the policy's weights"),
}

FOREIGN_TO_PRETRAIN: dict[str, ForeignFlag] = {
    name: FOREIGN_TO_GRPO[name]
    for name in (
        *("cuda", "external_mode", "unconstrained", "lambda_rcxyz", "lambda_fc"),
        *("lambda_target_loc", "multi_target_cond", "multi_encoder_type", "target_enc_layers", "target_joint_names"),
        *_COMPLETION,
        *("sigma_small",),
    )
} | {
    "use_ema": ForeignFlag("the averaged weights are kept and used unless --avg_model_beta is 0", ("true", "1")),
    "resume_checkpoint": ForeignFlag("--resume continues the training in --save_dir, with its optimizer", ("",)),
    "num_frames": ForeignFlag("clips have their own lengths; --max_frames crops longer ones", ("60",)),
    "eval_during_training": ForeignFlag(_PRETRAINED, OFF),
    **dict.fromkeys(("eval_batch_size", "eval_split", "eval_rep_times", "eval_num_samples"), ForeignFlag(_PRETRAINED)),
    "gen_during_training": ForeignFlag(_SAMPLES, OFF),
    **dict.fromkeys(("gen_num_samples", "gen_num_repetitions"), ForeignFlag(_SAMPLES)),
}

FOREIGN_TO_TRPO: dict[str, ForeignFlag] = {
    "g_step": ForeignFlag("an iteration is one rollout and one policy step", ("1", "3")),
    "cpu": ForeignFlag("everything runs on the CPU unless --gpus_per_learner asks for a GPU", ("true", "1")),
}

FOREIGN_TO_GENERATE: dict[str, ForeignFlag] = {
    name: FOREIGN_TO_GRPO[name]
    for name in (
        *("cuda", "external_mode", "emb_trans_dec", "layers", "latent_dim", "mask_frames", "cond_mask_prob"),
        *("pos_embed_max_len", "unconstrained", "noise_schedule", "diffusion_steps", "sigma_small"),
    )
} | {
    "autoregressive_include_prefix": ForeignFlag("the frames of --given_motion are part of the motion", ON),
    "autoregressive_init": ForeignFlag("--given_motion and --keep_first say with which frames a motion begins"),
    "batch_size": ForeignFlag("the motions of a prompt are one batch", ANY),
    **dict.fromkeys(("action_file", "action_name"), ForeignFlag(_ACTIONS, ("",))),
}

FOREIGN_TO_EVALUATE: dict[str, ForeignFlag] = {
    name: FOREIGN_TO_GENERATE[name]
    for name in (
        *("cuda", "external_mode", "emb_trans_dec", "layers", "latent_dim", "mask_frames", "cond_mask_prob"),
        *("pos_embed_max_len", "unconstrained", "noise_schedule", "diffusion_steps", "sigma_small"),
    )
} | {
    **{name: FOREIGN_TO_GRPO[name] for name in _COMPLETION},
    "batch_size": ForeignFlag("the pool of R-precision is --pool_size", ("32",)),
    "train_platform_type": ForeignFlag("an evaluation writes files and tells no tracker", ("noplatform",)),
}

FOREIGN_TO_COMPOSITE: dict[str, ForeignFlag] = {
    "fps": FOREIGN_TO_GRPO["fps"],
    **dict.fromkeys(
        ("abs_path", "cache_path"), ForeignFlag("--data_dir names the folder of the data; nothing is cached", (".",))
    ),
}
