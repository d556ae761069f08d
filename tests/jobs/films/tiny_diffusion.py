"""Diffusion models with random weights, a few thousand numbers each, in the folders that `jobs.enhance` reads."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import torch


def save_models(folder: Path) -> None:
    """Writes `sd`, `control` and `adapter`; skips the test where diffusers is not installed."""
    diffusers: Any = pytest.importorskip("diffusers", reason="pip install 'kinetune[enhance]'")
    transformers: Any = pytest.importorskip("transformers")

    torch.manual_seed(0)
    blocks: dict[str, Any] = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        **{"block_out_channels": (8, 8), "layers_per_block": 1, "cross_attention_dim": 8, "attention_head_dim": 2},
    }
    unet = diffusers.UNet2DConditionModel(
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), sample_size=8, norm_num_groups=2, **blocks
    )
    control = diffusers.ControlNetModel(conditioning_embedding_out_channels=(8, 8), norm_num_groups=1, **blocks)
    with torch.no_grad():
        # A ControlNet begins with zeros, by which no pose would change anything.
        for one in control.parameters():
            one.add_(0.1 * torch.randn_like(one))
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
    )
    characters = [*string.ascii_lowercase, *string.digits, *".,'"]
    words = ["<|startoftext|>", "<|endoftext|>", *characters, *(f"{one}</w>" for one in characters)]
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=77
    )
    sizes: dict[str, Any] = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(**sizes, vocab_size=len(words), bos_token_id=0, eos_token_id=1, pad_token_id=1)
    )
    adapter = diffusers.MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for name, model in (("sd", pipeline), ("control", control), ("adapter", adapter)):
        model.save_pretrained(folder / name)
