"""BVH motion capture: reading files, recognising joints by name, and importing captioned recordings as a dataset."""
