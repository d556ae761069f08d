"""MotionCritic: a network that scores how natural a motion looks, and the reward that it gives."""
