"""Tests of jobs/evaluation/."""
