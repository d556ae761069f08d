"""Commands of state-space models: their options, and what they do."""
