"""The task in PyBullet."""
