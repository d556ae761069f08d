"""The task in MuJoCo."""
