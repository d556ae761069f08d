"""Behaviour cloning with DAgger."""
