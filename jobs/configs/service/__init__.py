"""Configurations of the commands around trainings: searches, lists of runs, checks of a machine."""
