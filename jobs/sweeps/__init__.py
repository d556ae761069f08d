"""What `jobs.sweep` does: which trainings it knows, how it starts, what it concludes, and its report."""
