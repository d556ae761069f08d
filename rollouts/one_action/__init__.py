"""Policies of one action: a few Gaussian numbers over knots in time, and a network that makes a motion of them."""
