"""The configuration models, one module per job."""
