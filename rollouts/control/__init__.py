"""Controllers of characters and how they act in vectorised environments."""
