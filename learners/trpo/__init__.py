"""Trust region policy optimisation (TRPO) of controllers."""
