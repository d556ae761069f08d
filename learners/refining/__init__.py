"""Training of refiners: corrupted motions, and the learner that restores them."""
