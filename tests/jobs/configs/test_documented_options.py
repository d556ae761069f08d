"""Every option that MDM-GRPO documents is an option of `jobs.grpo`, or is answered by name.

That each of them has an effect, and which values are refused, is tested where its part is tested.
"""

from __future__ import annotations

import pytest

from jobs.command_line.flags import flags_of, names_of
from jobs.command_line.foreign_flags import FOREIGN_TO_GRPO
from jobs.configs.grpo import GRPOConfig
from motions.settings import retired_options

DOCUMENTED = {
    "grpo": "model_path ref_model_path group_size learning_rate clip_epsilon kl_penalty num_epochs kl_threshold "
    "grpo_type noise_scale train_timesteps inference_timesteps",
    "rewards": "reward_model_type reward_type tmr_text_encoder_path tmr_motion_encoder_path tmr_movement_encoder_path "
    "tmr_checkpoint_path tmr_similarity_type tmr_normalization tmr_max_distance tmr_scale use_dense_reward "
    "use_physics_reward k_segments max_motion_length alpha beta_s beta_p lambda_skate lambda_jerk fps "
    "disable_random_crop",
    "base": "cuda device seed batch_size train_platform_type external_mode",
    "data": "dataset data_dir use_composite_dataset composite_data_path composite_k_segments",
    "model": "arch text_encoder_type emb_trans_dec layers latent_dim cond_mask_prob mask_frames lambda_rcxyz "
    "lambda_vel lambda_fc lambda_target_loc unconstrained pos_embed_max_len use_ema use_lora lora_r lora_alpha "
    "lora_dropout lora_target_spec multi_target_cond multi_encoder_type target_enc_layers context_len pred_len",
    "diffusion": "noise_schedule diffusion_steps sigma_small",
    "training": "save_dir overwrite lr weight_decay lr_anneal_steps eval_batch_size eval_split eval_during_training "
    "eval_rep_times eval_num_samples log_interval save_interval num_steps num_frames resume_checkpoint "
    "max_train_samples gen_during_training gen_num_samples gen_num_repetitions gen_guidance_param avg_model_beta "
    "adam_beta2 target_joint_names autoregressive autoregressive_include_prefix autoregressive_init",
}


@pytest.mark.parametrize("group", DOCUMENTED)
def test_every_documented_option_is_known(group: str) -> None:
    known = names_of(flags_of(GRPOConfig)).keys() | FOREIGN_TO_GRPO.keys() | retired_options(GRPOConfig).keys()
    assert not set(DOCUMENTED[group].split()) - known
