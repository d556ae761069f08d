"""What the jobs of text-to-motion policies share."""
