"""Films that a diffusion model paints over the poses of a simulated scene."""
