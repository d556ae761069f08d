"""Shared by all layers: atomic file writes, the error a user can mend, and safe reading of object arrays."""
