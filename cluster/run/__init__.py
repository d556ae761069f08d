"""Training runs: the controller of a GRPO run, its learner, plan and metrics."""
