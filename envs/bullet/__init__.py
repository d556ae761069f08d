"""The DeepMimic task simulated in PyBullet."""
