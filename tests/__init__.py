"""Tests: plain pytest functions on small real or made data."""
