"""Settings models as command lines."""
