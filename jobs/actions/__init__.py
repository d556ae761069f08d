"""The scripts around MotionCritic's tuning of an MDM on HumanAct12, under their names there."""
