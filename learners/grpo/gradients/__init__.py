"""Losses that follow the gradient of a reward through the policy."""
