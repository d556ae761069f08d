"""The simulated humanoid: its MuJoCo model, its state, and the quantities that are compared with the reference."""
