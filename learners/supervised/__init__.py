"""Supervised training of diffusion policies and of TMR."""
