"""Measured claims: each module states its targets and, with --check, exits 1 when one is missed."""
