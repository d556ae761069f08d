"""Values that no option takes, options that are none, and options that contradict each other, over all jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.mistakes.table import Case, cases, require_refusal

pytestmark = pytest.mark.slow

VALUES = """
jobs.balance --output out.json
  --root_velocity_weight -inf >> --root_velocity_weight -inf >> expected finite number >= 0.0 or none
  --seam_blend_s much >> --seam_blend_s much >> expected number >= 0.0
  --action_mode wrong >> --action_mode wrong >> expected one of residual, absolute
  --first_horizon_s 1,5 >> --first_horizon_s 1,5 >> expected number > 0
  --population many >> --population many >> expected integer >= 4
  --push_force 1,5 >> --push_force 1,5 >> expected number >= 0.0 and <= 5000.0
  --joints wrong >> --joints wrong >> expected one of hinge, ball
  --push_direction_deg -inf >> --push_direction_deg -inf >> expected finite number or none
  --horizon_s 1,5 >> --horizon_s 1,5 >> expected number > 0
  --reward_preset wrong >> --reward_preset wrong >> expected one of upstream, paper, pybullet, mimickit
  --velocity_scale 1,5 >> --velocity_scale 1,5 >> expected number > 0.0 or none
  --action_scale much >> --action_scale much >> expected number > 0.0
  --start_noise 1,5 >> --start_noise 1,5 >> expected number >= 0.0 and <= 5.0
  --observation_blocks wrong >> --observation_blocks wrong >> root, joints, key_positions, bodies, phase
jobs.deepmimic --save_dir run
  --object_store_mb 0x10 >> --object_store_mb 0x10 >> expected integer >= 80 or none
  --cloning_weight much >> --cloning_weight much >> expected number >= 0
  --label_weighting wrong >> --label_weighting wrong >> expected one of uniform, reward
  --refine_horizon nan >> --refine_horizon nan >> expected integer >= 1
  --num_demo_envs many >> --num_demo_envs many >> expected integer >= 1
  --max_failures 1e400 >> --max_failures 1e400 >> expected integer >= 0
  --train_platform_type wrong >> --train_platform_type wrong >> NoPlatform, TensorboardPlatform, WandBPlatform
  --critic_warm_gamma much >> --critic_warm_gamma much >> expected number > 0 and < 1
  --target_steps nan >> --target_steps nan >> expected integers >= 0 and <= 60, or none
  --root_velocity_scale much >> --root_velocity_scale much >> expected number > 0.0 or none
  --seed 1.5 >> --seed 1.5 >> expected integer >= 0 and < 2147483648
  --video_s 1,5 >> --video_s 1,5 >> expected number >= 0
  --num_timesteps 1e400 >> --num_timesteps 1e400 >> expected integer >= 1
  --critic_learning_rate much >> --critic_learning_rate much >> expected number > 0
jobs.demo
  --runtime wrong >> --runtime wrong >> expected one of ray, local
  --num_steps 0x10 >> --num_steps 0x10 >> expected integer >= 1 or none
jobs.generate --text walks
  --sampling_steps 1e400 >> --sampling_steps 1e400 >> expected integer >= 1 or none
  --eta much >> --eta much >> expected number > 0.0 and <= 1.0
  --num_samples -1 >> --num_samples -1 >> expected integer >= 1 and <= 10000 or none
  --composite_blend wrong >> --composite_blend wrong >> expected one of linear, smooth, cut
  --num_repetitions nan >> --num_repetitions nan >> expected integer >= 1 and <= 10000 or none
  --amp_dtype wrong >> --amp_dtype wrong >> expected one of fp32, bf16, fp16
  --seconds nan >> --seconds nan >> expected finite number > 0 and <= 600
  --composite_overlap 1.5 >> --composite_overlap 1.5 >> expected integer >= 0
  --max_text_tokens -1 >> --max_text_tokens -1 >> expected integer >= 2 or none
  --guidance_scale 1,5 >> --guidance_scale 1,5 >> expected number >= 0.0
  --composite_denoising wrong >> --composite_denoising wrong >> expected one of pooled, composed
jobs.grpo --save_dir run
  --tracking_slip_weight nan >> --tracking_slip_weight nan >> expected finite number >= 0.0
  --call_timeout_s much >> --call_timeout_s much >> expected number > 0
  --beta_p nan >> --beta_p nan >> expected finite number >= 0.0
  --kl_weighting wrong >> --kl_weighting wrong >> expected one of exact, dt, x0
  --beta_t nan >> --beta_t nan >> expected finite number >= 0.0
  --beta_s inf >> --beta_s inf >> expected finite number >= 0.0
  --clip_epsilon_high much >> --clip_epsilon_high much >> expected number >= 1e-06 or none
  --learning_rate much >> --learning_rate much >> expected number > 0
  --eval_sampling_steps 0x10 >> --eval_sampling_steps 0x10 >> expected integer >= 1 or none
  --micro_batch_size 1e400 >> --micro_batch_size 1e400 >> expected integer >= 1
  --eval_seed many >> --eval_seed many >> expected integer >= 0 and < 9223372036854775808
  --num_rollout_actors 1.5 >> --num_rollout_actors 1.5 >> expected integer >= 1
  --on_reward_error wrong >> --on_reward_error wrong >> expected one of fail, drop_group
  --gpus_per_rollout_actor nan >> --gpus_per_rollout_actor nan >> expected finite number >= 0
jobs.import_motion --bvh_dir clips --captions captions.csv --save_dir out
  --test_share nan >> --test_share nan >> expected finite number >= 0 and < 1
  --floor wrong >> --floor wrong >> expected one of clip, file
  --val_share -inf >> --val_share -inf >> expected finite number >= 0 and < 1
  --rotation_unit wrong >> --rotation_unit wrong >> expected one of auto, degrees, radians
  --max_frames many >> --max_frames many >> expected integer >= 80 and <= 199
  --scale nan >> --scale nan >> expected finite number > 0 or none
  --accept wrong >> --accept wrong >> expected any of up_axis, rotations, sides
  --up_axis wrong >> --up_axis wrong >> expected one of auto, x, y, z, -x, -y, -z
  --seed many >> --seed many >> expected integer >= 0 and < 9223372036854775808
  --fps much >> --fps much >> expected number >= 5 and <= 1000 or none
  --short_clips wrong >> --short_clips wrong >> expected one of refuse, pad, join
jobs.pretrain --save_dir run
  --keep_checkpoints nan >> --keep_checkpoints nan >> expected integer >= 1
  --lambda_vel -inf >> --lambda_vel -inf >> expected finite number >= 0
  --wandb_mode wrong >> --wandb_mode wrong >> expected one of online, offline
  --num_composites -1 >> --num_composites -1 >> expected integer >= 1
  --num_heads 1.5 >> --num_heads 1.5 >> expected integer >= 1
  --diffusion_steps 0x10 >> --diffusion_steps 0x10 >> expected integer >= 2 and <= 100000
  --learning_rate 1,5 >> --learning_rate 1,5 >> expected number > 0
  --log_interval many >> --log_interval many >> expected integer >= 1
  --best_mode wrong >> --best_mode wrong >> expected one of max, min
  --layers nan >> --layers nan >> expected integer >= 1 and <= 1000
  --weight_decay inf >> --weight_decay inf >> expected finite number >= 0
  --dropout much >> --dropout much >> expected number >= 0 and < 1
  --adam_beta2 inf >> --adam_beta2 inf >> expected finite number >= 0 and < 1
  --captions_per_motion many >> --captions_per_motion many >> expected integer >= 1 or none
jobs.sft
  --pd wrong >> --pd wrong >> expected one of damping, actuator, stable
  --dagger_betas 1,inf >> --dagger_betas 1 inf >> expected one or more finite numbers >= 0 and <= 1
  --push_direction_deg -inf >> --push_direction_deg -inf >> expected finite number or none
  --epochs -1 >> --epochs -1 >> expected integer >= 1
  --action_scale much >> --action_scale much >> expected number > 0.0
  --end_effector_scale much >> --end_effector_scale much >> expected number > 0.0 or none
  --num_layers nan >> --num_layers nan >> expected integer >= 1 and <= 16
  --velocity_scale 1,5 >> --velocity_scale 1,5 >> expected number > 0.0 or none
  --nthread 1e400 >> --nthread 1e400 >> expected integer >= 1 and <= 256
  --reference_start wrong >> --reference_start wrong >> expected one of random, fixed
  --refine_samples 0x10 >> --refine_samples 0x10 >> expected integer >= 1
  --velocity_weight much >> --velocity_weight much >> expected number >= 0.0 or none
  --eval_push_forces nan >> --eval_push_forces nan >> expected finite numbers > 0, or none
  --control_hz 1e400 >> --control_hz 1e400 >> expected integer >= 5 and <= 240
jobs.train_retrieval --save_dir run
  --temperature nan >> --temperature nan >> expected finite number > 0
  --min_crop_frames -1 >> --min_crop_frames -1 >> expected integer >= 4
  --tmr_heads 1.5 >> --tmr_heads 1.5 >> expected integer >= 1
  --lambda_latent much >> --lambda_latent much >> expected number >= 0
  --lr_schedule wrong >> --lr_schedule wrong >> expected one of constant, cosine
  --tmr_ff_size nan >> --tmr_ff_size nan >> expected integer >= 1
  --weight_decay inf >> --weight_decay inf >> expected finite number >= 0
  --lambda_contrastive nan >> --lambda_contrastive nan >> expected finite number >= 0
  --weights_dtype wrong >> --weights_dtype wrong >> expected one of float32, float16
  --near_miss_share much >> --near_miss_share much >> expected number >= 0 and <= 1
  --tmr_layers many >> --tmr_layers many >> expected integer >= 1 and <= 1000
  --captions wrong >> --captions wrong >> expected one of train, judge
  --lambda_recons 1,5 >> --lambda_recons 1,5 >> expected number >= 0
  --noise_std much >> --noise_std much >> expected number >= 0
jobs.trpo
  --com_scale -inf >> --com_scale -inf >> expected finite number > 0.0 or none
  --cpus_per_env_runner much >> --cpus_per_env_runner much >> expected number >= 0
  --max_runner_restarts nan >> --max_runner_restarts nan >> expected integer >= 0
  --runtime wrong >> --runtime wrong >> expected one of ray, local
  --pose_scale much >> --pose_scale much >> expected number > 0.0 or none
  --push_at_s inf >> --push_at_s inf >> expected finite number >= 0.0 or none
  --num_env_runners many >> --num_env_runners many >> expected integer >= 0
  --hidden_size 1e400 >> --hidden_size 1e400 >> expected integer >= 1 and <= 4096
  --reward_preset wrong >> --reward_preset wrong >> expected one of upstream, paper, pybullet, mimickit
  --clone_kl_decay much >> --clone_kl_decay much >> expected number > 0 and <= 1
  --root_weight nan >> --root_weight nan >> expected finite number >= 0.0 or none
  --save_per_iter 0x10 >> --save_per_iter 0x10 >> expected integer >= 1
  --max_episode_s much >> --max_episode_s much >> expected number > 0.0
  --armature nan >> --armature nan >> expected finite number >= 0.0 and <= 1.0
jobs.world_model
  --model_learning_rate nan >> --model_learning_rate nan >> expected finite number > 0
  --action_bound much >> --action_bound much >> expected number > 0.0
  --tracking_cost inf >> --tracking_cost inf >> expected finite number >= 0
  --model_layers 1e400 >> --model_layers 1e400 >> expected integer >= 1 and <= 16
  --imagined_steps 0x10 >> --imagined_steps 0x10 >> expected integer >= 1
  --noise_correlation inf >> --noise_correlation inf >> expected finite number >= 0 and < 1
  --friction nan >> --friction nan >> expected finite number > 0.0 and <= 5.0
  --push_direction_deg -inf >> --push_direction_deg -inf >> expected finite number or none
  --eval_push_force -inf >> --eval_push_force -inf >> expected finite number >= 0
  --smoothness_cost nan >> --smoothness_cost nan >> expected finite number >= 0
  --rollout_steps 0x10 >> --rollout_steps 0x10 >> expected integer >= 1
  --model_root_weight nan >> --model_root_weight nan >> expected finite number > 0
  --policy_learning_rate 1,5 >> --policy_learning_rate 1,5 >> expected number > 0
  --com_scale much >> --com_scale much >> expected number > 0.0 or none
"""

WORDS = """
jobs.grpo --save_dir run
  --grop_size 3 >> unknown option --grop_size >> --group_size
  --group_size >> --group_size needs a value
  --group_size 3 --group_size 4 >> --group_size is given twice
  --group_size 3 4 >> unexpected word '4'
  group_size 3 >> unexpected 'group_size 3' >> --group_size 3
  --no_group_size >> only a switch can be turned off
  --use_lora maybe >> --use_lora maybe: expected true or false
  --preset nothing >> --preset nothing: no such preset >> demo
  --preset pretrain_small >> pretrain_small >> jobs.pretrain
  --device cuda:99 >> device is 'cuda:99' >> gpus_per_rollout_actor
  --device tpu >> --device tpu
  --reward_device cuda >> reward_device is 'cuda' >> gpus_per_reward_actor
  --runtime local --device cuda:99 >> device is 'cuda:99'
  --ray_address nowhere >> ray_address is 'nowhere' >> host:port
  --ray_address ray://a:1 >> ray job submit
  --resume --overwrite >> resume and overwrite are both set
  --allow_changed no_such --dry_run >> allow_changed no_such
  --prompts_path empty.txt --composite_data_path empty.jsonl >> both given
  --composite_data_path empty.jsonl >> without use_composite_dataset
  --beta_s 0 --dry_run >> nothing to learn
  --gpus_per_learner 1.5 >> 1.5 GPUs
  --extra_rewards nothing --dry_run >> nothing >> package.module:Class
  --extra_rewards no.module:Class --dry_run >> no.module:Class
  --extra_rewards json:JSONDecoder=nan --dry_run >> nan
  --dataset humanact12 >> humanact12 >> captions
  --dataset builtin --data_dir folder >> data_dir belongs to
  --dataset nowhere --dry_run >> nowhere
  --sampler json:JSONDecoder --dry_run >> json:JSONDecoder
  --sampler nothing >> sampler >> nothing >> ddpm, ddim
  --sampling_steps 100000 --dry_run >> 100000
  --text_encoder nothing --dry_run >> nothing
  --skeleton nothing --dry_run >> nothing
jobs.pretrain --save_dir run
  --latent_dim 1000000 --dry_run >> latent_dim 1000000 >> GB
  --num_heads 3 >> latent_dim is 512 >> a multiple of 2 * num_heads = 6
  --device cuda:99 --dry_run >> device is 'cuda:99'
  --arch nothing >> arch >> nothing >> trans_enc
  --arch json:JSONDecoder --dry_run >> json:JSONDecoder
  --dataset uestc >> uestc >> captions
  --dataset humanml --dry_run >> dataset/HumanML3D
  --captions_per_motion 0 >> --captions_per_motion 0
  --diffusion_steps 200 --pos_embed_max_len 100 --dry_run >> pos_embed_max_len
  --max_frames 150 --pos_embed_max_len 100 --dry_run >> pos_embed_max_len
  --noise_schedule linear --diffusion_steps 5 --dry_run >> 21
  --resume --overwrite >> resume and overwrite are both set
jobs.train_retrieval --save_dir run
  --tmr_latent_dim 1000000 --dry_run >> tmr_latent_dim 1000000 >> GB
  --tmr_latent_dim 30 --tmr_heads 4 --dry_run >> latent_dim >> 30
  --device cuda:99 --dry_run >> device is 'cuda:99'
  --batch_size 1 >> --batch_size 1
  --captions nothing >> --captions nothing
  --text_encoder nothing --dry_run >> nothing
jobs.prefer
   >> --inputs is required
  nowhere.bvh >> nowhere.bvh: no such file or folder
  nowhere.bvh --num_pairs 0 >> --num_pairs 0
  nowhere.bvh --repeat_share 2 >> --repeat_share 2
  nowhere.bvh --seconds 0 >> --seconds 0
jobs.train_critic --save_dir run
  --critic_dim_feat 1000000 --dry_run >> critic_dim_feat 1000000 >> GB
  --critic_dim_feat 30 >> critic_dim_feat 30 >> critic_heads 8
  --clip_frames 20 >> min_crop_frames 24 is above clip_frames 20
  --clip_frames 300 >> --clip_frames 300 >> <= 243
  --eval_pairs_path empty.jsonl >> eval_pairs_path is given without pairs_path
  --pairs nowhere.json --dry_run >> pairs_path nowhere.json: no such file
  --pairs nowhere.json --critic_depth 2 >> critic_depth is of a new critic, and critic_checkpoint_path builtin
  --critic_inputs places >> --critic_inputs places
  --device cuda:99 --dry_run >> device is 'cuda:99'
jobs.generate
  --num_samples 2 >> there is no prompt
  --text walks --no_gif --formats gif >> --formats is gif, and no_gif
  --text walks --text_file empty.txt >> text and text_file are both given
  --text walks --seconds 0.001 --dry_run >> seconds is 0.001
  --text walks --seconds 20 --composite_denoising pooled --dry_run >> walks >> 400 frames
  --text walks --seconds 1e9 >> --seconds 1e9
  --text walks --device cuda:99 --dry_run >> device is 'cuda:99'
  --text walks --device mps:1 >> --device mps:1
  --text walks --sampling_steps 100000 --dry_run >> 100000
  --text walks --model_path nothing --dry_run >> nothing
  --num_samples 2 --num_repetitions 1 --dataset nowhere --dry_run >> nowhere
jobs.demo
  --grpo_preset nothing --dry_run >> nothing >> no such preset
  --grpo_preset pretrain_small --dry_run >> jobs.pretrain
  --fresh maybe >> --fresh maybe: expected true or false
  --num_stepz 3 >> unknown option --num_stepz
jobs.deepmimic
  --task train >> --save_dir is required
  --task report >> save_dir is required
  --save_dir run --controller folder >> controller is what evaluate, video and web play
  --save_dir run --check >> --check belongs to --task evaluate
  --task evaluate --motion run --check --dry_run >> targets exist for walk
  --task evaluate --check --eval_steps 20 --dry_run >> eval_steps 600
  --task evaluate --check --eval_push_forces none --dry_run >> eval_push_forces
  --task evaluate --check --eval_episodes 3 --dry_run >> eval_episodes 20
  --task evaluate --motion nothing --dry_run >> no controller ships for nothing
  --task evaluate --max_episode_s 3 --dry_run >> max_episode_s
  --save_dir run --no_trpo --learner world_model >> no_trpo
  --save_dir run --runtime local --num_env_runners 2 >> num_env_runners is 2, >> runtime local
  --save_dir run --num_envs 3 --num_env_runners 2 >> num_envs is 3
  --save_dir run --cloning_device cuda:99 --dry_run >> cloning_device is 'cuda:99'
  --save_dir run --motion nothing --dry_run >> unknown clip 'nothing'
  --save_dir run --motion wlak --dry_run >> unknown clip 'wlak' >> 'walk'
  --save_dir run --learner world_model --observation_blocks bodies --dry_run >> observation_blocks
  --save_dir run --observation_blocks root root >> observation_blocks
  --save_dir run --physics_hz 100 >> physics_hz is 100 >> 30
  --save_dir run --push_body tail >> push_body >> tail
  --save_dir run --ground_bodies tail >> ground_bodies >> tail
  --save_dir run --motion_weights 1 2 >> motion_weights has 2 numbers
  --save_dir run --keep_cycle_height >> seam_blend_s
  --save_dir run --expert nothing --dry_run >> expert >> nothing
jobs.trpo
  --task evaluate --dry_run >> controller.safetensors
  --task sample --load_model_path nothing --dry_run >> nothing
  --load_model_path nothing >> load_model_path is what evaluate plays
  --env_id Nothing-v1 --dry_run >> Nothing-v1
  --env_id no.module:Nothing-v1 --dry_run >> no.module
  --env_id Hopper-v5 --motion run >> options of DeepMimic
  --env_id Hopper-v5 --cloning_weight 1 >> cloning_weight
  --env_id Hopper-v5 --env_options frame_skip >> name=value
  --env_id Hopper-v5 --env_options nothing=3 --dry_run >> nothing
  --env_options frame_skip=2 >> env_options
  --runtime local --num_learners 2 >> num_learners is 2
  --num_envs 2 --num_learners 3 >> num_learners is 3
  --load_sft_pretrain CONTROLLER --hidden_size 64 >> hidden_size 64
jobs.world_model
  --runtime local --num_env_runners 2 --num_envs 2 >> num_env_runners is 2
  --model_window 100000 >> model_window is 100000
  --observation_blocks bodies --dry_run >> observation_blocks has bodies
  --motion nothing --dry_run >> unknown clip 'nothing'
jobs.sft
  --cloning_device cuda:99 --dry_run >> cloning_device is 'cuda:99'
  --motion nothing --dry_run >> unknown clip 'nothing'
  --expert no.module:Class --dry_run >> no.module:Class
  --hidden_size 64 none --dry_run >> --hidden_size
jobs.balance --output out.json
  --motion nothing --dry_run >> unknown clip 'nothing'
  --population 3 >> --population 3
  --motion walk run --motion_weights -1 1 >> --motion_weights
  --motion walk run --motion_weights 0 0 >> motion_weights is (0.0, 0.0); legal: at least one above 0
jobs.grpo --save_dir run --runtime local --num_prompts 4 --num_eval_prompts 2 --dry_run
  --group_size 1 --batch_size 1 >> group_size
  --sde_window 50 >> sde_window
  --sampling_steps 1 >> sampling_steps is 1
  --eval_sampling_steps 100000 >> eval_sampling_steps
  --use_lora --lora_target_spec nothing >> lora_target_spec >> nothing
  --use_lora --lora_target_spec none >> lora_target_spec
  --composite_k_segments 9 >> --composite_k_segments 9
  --max_motion_length 2 >> --max_motion_length 2
  --use_tracking_reward --tracking_controller nothing >> nothing
  --use_tracking_reward --tracking_controller POLICY >> .pt
  --reward_type nothing >> --reward_type nothing
  --tmr_text_encoder_path folder >> tmr_text_encoder_path
  --max_text_tokens 100000 >> max_text_tokens is 100000
  --clip_epsilon 2 >> --clip_epsilon 2
  --policy_ema_decay 1 >> --policy_ema_decay 1
jobs.import_motion --bvh_dir clips --captions captions.csv --save_dir out
  --root Spine --test_share 0 --dry_run >> Spine
  --fps 1 >> --fps 1
  --val_share 0.6 --test_share 0.5 >> val_share 0.6 >> test_share 0.5
"""


@pytest.mark.parametrize("case", [*cases(VALUES), *cases(WORDS)], ids=str)
def test_a_wrong_option_is_one_clear_error(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_refusal(case, tmp_path, monkeypatch, capsys)
