"""The imitation task: reference, observations, reward, falls and pushes, for any simulator."""
