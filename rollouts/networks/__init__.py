"""Denoiser networks and their layers."""
