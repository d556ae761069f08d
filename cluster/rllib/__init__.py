"""Trainings of controllers as algorithms of Ray RLlib."""
