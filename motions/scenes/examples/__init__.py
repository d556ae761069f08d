"""Texts with the scenes that they tell, for training parsers of scenes."""
