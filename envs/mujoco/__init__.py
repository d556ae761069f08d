"""The DeepMimic task simulated in MuJoCo."""
