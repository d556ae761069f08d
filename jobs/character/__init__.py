"""What the jobs of physics characters share."""
