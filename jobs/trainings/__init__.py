"""Every training by name, and the options of the commands that start one: they stand above all trainings' options."""
