"""Records of a run: its directory, metrics, trackers, Prometheus gauges and curves."""
