"""Code shared by the jobs that train controllers of simulated characters."""
