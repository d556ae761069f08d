"""The mocap humanoid: clips, kinematics, fitting, retargeting."""
