"""Physics rewards: kinematic terms, and tracking in a simulator."""
