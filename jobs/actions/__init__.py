"""The scripts around MotionCritic's tuning of an MDM on HumanAct12 and UESTC, under their names there."""
