"""Gymnasium environments of the DeepMimic task; importing this package registers them.

kinetune/DeepMimic-v0          MuJoCo; as a vector environment N characters per call of `mujoco.rollout`
kinetune/DeepMimicBullet-v0    the same task in PyBullet; as a vector environment one character after the other
"""

import gymnasium

gymnasium.register(
    id="kinetune/DeepMimic-v0",
    entry_point="envs.mujoco.environment:DeepMimicEnv",
    vector_entry_point="envs.mujoco.vector_environment:DeepMimicVectorEnv",
)
gymnasium.register(
    id="kinetune/DeepMimicBullet-v0",
    entry_point="envs.bullet.environment:DeepMimicBulletEnv",
    vector_entry_point="envs.bullet.vector_environment:DeepMimicBulletVectorEnv",
)
