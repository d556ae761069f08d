"""The simulated world of a scene: floor, objects and humanoids, in MuJoCo and in PyBullet behind one interface."""
