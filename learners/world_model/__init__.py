"""Learning a character's dynamics from its own rollouts, and its policy by gradients through imagined ones."""
