"""Skeletons, rotations and the motion features made of them."""
