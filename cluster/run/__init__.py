"""A run: plan, session, controller."""
