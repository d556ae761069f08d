"""Files of policies: MDM checkpoints, adapters, and loading."""
