"""Sets of composite prompts: what `jobs.composite` does."""
