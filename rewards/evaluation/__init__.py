"""Evaluation of policies and characters, and comparisons of evaluations."""
