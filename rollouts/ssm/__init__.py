"""State-space layers: the scan over time, and the blocks around it."""
