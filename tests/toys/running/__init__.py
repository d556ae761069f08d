"""Runs, actors and trainings of a step or two, for tests of what runs them."""
