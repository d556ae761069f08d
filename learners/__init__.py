"""How parameters change: GRPO, supervised diffusion training, retrieval training."""
