"""Command lines for configuration models: flags, presets, files, `--help` and error messages."""
