"""TRPO as an algorithm of Ray RLlib."""
