"""Datasets, captions and prompts."""
