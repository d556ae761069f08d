"""Supervised training of diffusion policies and retrieval models."""
