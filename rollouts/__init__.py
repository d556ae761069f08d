"""Policies and how they act: diffusion policies that generate motions, and controllers of simulated characters."""
