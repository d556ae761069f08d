"""Evaluation of text-to-motion policies and of controllers, and comparison of evaluations."""
