"""TRPO on RLlib."""
