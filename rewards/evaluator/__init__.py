"""The evaluator of Guo et al. (2022) as a reward: its networks, its words, its files, and its scorer."""
