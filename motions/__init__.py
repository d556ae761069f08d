"""What a motion is: skeletons, rotations, features, mocap, datasets, prompts, composites, metrics, drawing."""
