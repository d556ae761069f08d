"""Trainings of state-space policies and refiners."""
