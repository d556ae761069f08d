"""Motions with captions: datasets on disk and built in, prompts, composite prompts, and batches."""
