"""Trainings of state-space policies."""
