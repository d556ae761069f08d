"""Code shared by the jobs of text-to-motion policies."""
