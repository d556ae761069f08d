"""The page that the demonstration writes before anything else: what the base policy makes of prompts that it will be
measured on, so that something moves on the screen within seconds."""

from __future__ import annotations

from pathlib import Path

from jobs.configs.grpo import GRPOConfig
from jobs.report.gallery import GalleryRow, render_gallery
from jobs.text.generation import shown_motion
from jobs.text.grpo_prompts import evaluation_prompts
from motions.base.atomic import atomic_write
from rewards.evaluation.text import metre_joints
from rollouts.checkpoints.loading import build_policy, load_base, load_policy_text_encoder
from rollouts.diffusion.worker import generate

NUM_PROMPTS, NUM_MOTIONS = 6, 2


def first_page_of(save_dir: Path) -> Path:
    """The page's file: beside the run's folder, which only the run itself fills."""
    return save_dir.with_name(f"{save_dir.name}_first_page.html")


def write_first_page(config: GRPOConfig) -> Path:
    """Writes the base policy's motions for the first prompts of the run's evaluation; returns the file.

    They have the noise of the evaluation, so that the report shows the same motions as those before the training.

    Raises:
        UserError: policy, text encoder or prompts cannot be read.
    """
    # Adapters begin as no change, and the library that makes them takes seconds to load.
    settings = config.policy.model_copy(update={"use_lora": config.policy.adapter_path is not None})
    policy = build_policy(load_base(settings), settings, config.sampling.model_copy(update={"device": "cpu"}))
    prompts = evaluation_prompts(config, policy.skeleton)[:NUM_PROMPTS]
    acting = policy.denoising(config.sampling.evaluation)
    encoder = load_policy_text_encoder(config.policy)
    rows = []
    for group in generate(acting, encoder, prompts, NUM_MOTIONS, config.evaluation.eval_seed):
        joints = metre_joints(group, policy.skeleton)
        motions = [
            shown_motion(f"motion_{place + 1}", policy.skeleton, group, joints, place) for place in range(len(joints))
        ]
        rows.append(GalleryRow(group.prompt.text, motions))
    lead = f"Prompts that the training will not see, {NUM_MOTIONS} motions each, by the policy as it is now."
    page = first_page_of(config.run.save_dir)
    page.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(page) as file:
        file.write(render_gallery("Before the fine-tuning", lead, rows).encode())
    return page
