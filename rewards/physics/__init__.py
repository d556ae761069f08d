"""Physics rewards: kinematic terms, and tracking by a simulated humanoid."""
