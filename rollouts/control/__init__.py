"""Controllers of simulated characters, and sampling with them in vectorised environments."""
