"""Measured claims: each module states its targets and, with --check, exits with status 1 if one is missed."""
