"""What a run leaves: its directory, metrics, trackers, gauges, curves."""
