"""What the commands about critics do: training, scores of files."""
