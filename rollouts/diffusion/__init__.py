"""Diffusion policies: schedule, transitions, sampling, rollouts of groups."""
