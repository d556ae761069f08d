"""Options of the command lines of MDM and of MDM-GRPO (jufan666/text-to-motion) that are not settings here.

Each either asks for the existing behaviour (it is accepted with a note) or for something unsupported (an error says
so): a documented command of those projects runs unchanged, and none of its options is ignored silently.
"""

from __future__ import annotations

from jobs.command_line.flags import GuideFlag

_CHECKPOINT = "the network's shape is read from args.json beside the checkpoint"
_FLOW = "it belongs to flow_grpo, which is not supported; --sampling_steps sets the denoising steps"
_PROMPTS = "segments come with the prompts"
_LOADER = "GRPO reads prompts, it crops no clips"
_EVALUATION = "held-out evaluation is set by --eval_every, --num_eval_prompts and --eval_prompts_path"
_GENERATION = "jobs.generate makes motions"
_AUTOREGRESSIVE = "autoregressive models are not supported"
_PRETRAINED = "jobs.pretrain measures nothing; jobs.grpo measures a policy before it trains"
_SAMPLES = "--num_samples motions are generated when the training ends"
_ACTIONS = "only models that read text are supported"
_LOSS = "it weighs a term of supervised training, of which jobs.pretrain has --lambda_vel"

ANY = ("*",)
OFF = ("false", "0")

GRPO_GUIDE: dict[str, GuideFlag] = {
    "grpo_type": GuideFlag("normal_grpo is the algorithm here", ("normal_grpo",)),
    "noise_scale": GuideFlag(_FLOW),
    "train_timesteps": GuideFlag(_FLOW),
    "inference_timesteps": GuideFlag(_FLOW),
    "ref_model_path": GuideFlag(
        "the reference is the policy before training (its network with adapters off)", same_as="model_path"
    ),
    "k_segments": GuideFlag(_PROMPTS, ANY),
    "disable_random_crop": GuideFlag(_LOADER, ("true", "1")),
    "fps": GuideFlag("the frame rate is the skeleton's, 20 for humanml and 12.5 for kit", ("20", "20.0")),
    "cuda": GuideFlag("--device chooses where the policy runs; give --device cpu to leave the GPU", ("true", "1")),
    "external_mode": GuideFlag("there is no such mode", OFF),
    "arch": GuideFlag(_CHECKPOINT, ("trans_enc",)),
    "emb_trans_dec": GuideFlag(_CHECKPOINT, OFF),
    "layers": GuideFlag(_CHECKPOINT),
    "latent_dim": GuideFlag(_CHECKPOINT),
    "mask_frames": GuideFlag(_CHECKPOINT),
    "pos_embed_max_len": GuideFlag(_CHECKPOINT),
    "cond_mask_prob": GuideFlag("GRPO never drops the text"),
    "unconstrained": GuideFlag("a policy without text has no prompt to follow", OFF),
    "lambda_rcxyz": GuideFlag(_LOSS, ("0", "0.0")),
    "lambda_vel": GuideFlag(_LOSS, ("0", "0.0")),
    "lambda_fc": GuideFlag(_LOSS, ("0", "0.0")),
    "lambda_target_loc": GuideFlag(_LOSS, ("0", "0.0")),
    "multi_target_cond": GuideFlag("target conditioning is not supported", OFF),
    "multi_encoder_type": GuideFlag("target conditioning is not supported", ("single",)),
    "target_enc_layers": GuideFlag("target conditioning is not supported", ("1",)),
    "target_joint_names": GuideFlag("target conditioning is not supported", ("dimp_final",)),
    "context_len": GuideFlag(_AUTOREGRESSIVE, ("0",)),
    "pred_len": GuideFlag(_AUTOREGRESSIVE, ("0",)),
    "autoregressive": GuideFlag(_AUTOREGRESSIVE, OFF),
    "autoregressive_include_prefix": GuideFlag(_AUTOREGRESSIVE, OFF),
    "autoregressive_init": GuideFlag(_AUTOREGRESSIVE, ("data",)),
    "noise_schedule": GuideFlag(_CHECKPOINT),
    "diffusion_steps": GuideFlag(f"{_CHECKPOINT}; --sampling_steps keeps fewer of its steps"),
    "sigma_small": GuideFlag("the posterior variance is used", ("true", "1")),
    "eval_batch_size": GuideFlag(_EVALUATION),
    "eval_split": GuideFlag(_EVALUATION, ("test",)),
    "eval_during_training": GuideFlag(_EVALUATION, OFF),
    "eval_rep_times": GuideFlag(_EVALUATION),
    "eval_num_samples": GuideFlag(_EVALUATION),
    "num_frames": GuideFlag("a prompt says how many frames it wants", ("60",)),
    "resume_checkpoint": GuideFlag("--resume continues a run directory with its optimizer and random state", ("",)),
    "max_train_samples": GuideFlag("--num_prompts limits the prompts", ("0",)),
    "gen_during_training": GuideFlag(_GENERATION, OFF),
    "gen_num_samples": GuideFlag(_GENERATION),
    "gen_num_repetitions": GuideFlag(_GENERATION),
    "gen_guidance_param": GuideFlag("--guidance_scale is used in training and evaluation alike"),
    "avg_model_beta": GuideFlag("--policy_ema_decay averages the policy's weights"),
}

PRETRAIN_GUIDE: dict[str, GuideFlag] = {
    name: GRPO_GUIDE[name]
    for name in (
        *("cuda", "external_mode", "emb_trans_dec", "unconstrained", "lambda_rcxyz", "lambda_fc"),
        *("lambda_target_loc", "multi_target_cond", "multi_encoder_type", "target_enc_layers", "target_joint_names"),
        *("context_len", "pred_len", "autoregressive", "autoregressive_include_prefix", "autoregressive_init"),
        *("sigma_small",),
    )
} | {
    "use_ema": GuideFlag("the averaged weights are kept and used unless --avg_model_beta is 0", ("true", "1")),
    "resume_checkpoint": GuideFlag("--resume continues the training in --save_dir, with its optimizer", ("",)),
    "num_frames": GuideFlag("clips have their own lengths; --max_frames crops longer ones", ("60",)),
    "eval_during_training": GuideFlag(_PRETRAINED, OFF),
    "eval_batch_size": GuideFlag(_PRETRAINED),
    "eval_split": GuideFlag(_PRETRAINED),
    "eval_rep_times": GuideFlag(_PRETRAINED),
    "eval_num_samples": GuideFlag(_PRETRAINED),
    "gen_during_training": GuideFlag(_SAMPLES, OFF),
    "gen_num_samples": GuideFlag(_SAMPLES),
    "gen_num_repetitions": GuideFlag(_SAMPLES),
}

GENERATE_GUIDE: dict[str, GuideFlag] = {
    name: GRPO_GUIDE[name]
    for name in (
        *("cuda", "external_mode", "arch", "emb_trans_dec", "layers", "latent_dim", "mask_frames", "cond_mask_prob"),
        *("pos_embed_max_len", "unconstrained", "noise_schedule", "diffusion_steps", "sigma_small"),
        *("context_len", "pred_len", "autoregressive", "autoregressive_include_prefix", "autoregressive_init"),
    )
} | {
    "batch_size": GuideFlag("the motions of a prompt are one batch", ANY),
    "action_file": GuideFlag(_ACTIONS, ("",)),
    "action_name": GuideFlag(_ACTIONS, ("",)),
}
