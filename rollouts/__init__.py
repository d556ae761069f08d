"""Policies and how they act: networks, schedules, samplers, text encoders, adapters, checkpoints, group rollouts."""
