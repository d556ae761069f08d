"""Mistakes on command lines and in files: a table over all jobs."""
