"""Files of policies: MDM checkpoints, LoRA adapters, and loading a policy from them."""
