"""Shared by all layers: atomic file writes, errors that a user can mend, and careful reading of foreign files."""
