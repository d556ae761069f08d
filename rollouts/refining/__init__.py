"""PhysicsSSM: a network that refines motions of any origin, and its files."""
