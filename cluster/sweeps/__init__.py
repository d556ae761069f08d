"""Searches over the options of a training, on Ray Tune."""
