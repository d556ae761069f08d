"""What runs need of a cluster, written for KubeRay and Slurm; pure functions that need no Ray."""
