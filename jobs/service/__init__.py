"""What the commands around trainings do: lists of runs, going on with one, checks of a machine."""
