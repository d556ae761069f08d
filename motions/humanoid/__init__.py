"""The DeepMimic humanoid: motion clips, kinematics, and conversion to and from HumanML3D's 22 joints."""
