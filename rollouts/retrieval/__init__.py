"""Texts that are nearest in meaning, and motions that are found by them."""
