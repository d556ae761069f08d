"""Trust region policy optimisation (TRPO)."""
