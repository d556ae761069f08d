"""Demonstrations: experts, labels and their refinement."""
