"""Diffusion policies: noise schedule, transitions, sampling, and rollouts of groups."""
