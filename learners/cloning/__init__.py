"""Behaviour cloning of an expert, with DAgger."""
