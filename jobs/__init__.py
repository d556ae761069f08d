"""What a person runs: one module per job, presets, the demo, the report."""
