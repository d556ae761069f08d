"""Tests of jobs/composites/."""
