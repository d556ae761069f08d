"""BVH files: reading, joint names, import."""
