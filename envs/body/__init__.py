"""The simulated humanoid: its model, its state, and what of it is tracked."""
