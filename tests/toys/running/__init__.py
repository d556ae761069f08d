"""Tasks, rollouts and networks of simulated characters, made small for tests."""
