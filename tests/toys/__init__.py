"""What several test modules share: small models, data, runs and misbehaving parts, one noun a module.

What only one folder needs stands beside its tests; fixtures that many need are in `tests/conftest.py`."""
