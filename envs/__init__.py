"""Gymnasium environments of the DeepMimic task; importing this package registers them.

kinetune/DeepMimic-v0          MuJoCo; as a vector environment N characters per call of `mujoco.rollout`
kinetune/DeepMimicBullet-v0    the same task in PyBullet; as a vector environment one character after the other

The names below are this layer's public interface, as in `from envs import make_vector_env`.
"""

from typing import TYPE_CHECKING

import gymnasium

from motions.base.public_names import lazy_names

if TYPE_CHECKING:
    from envs.bullet.environment import DeepMimicBulletEnv as DeepMimicBulletEnv
    from envs.bullet.vector_environment import DeepMimicBulletVectorEnv as DeepMimicBulletVectorEnv
    from envs.mujoco.environment import DeepMimicEnv as DeepMimicEnv
    from envs.mujoco.vector_environment import DeepMimicVectorEnv as DeepMimicVectorEnv
    from envs.mujoco.vector_environment import make_vector_env as make_vector_env
    from envs.recording import RecordVideo as RecordVideo
    from envs.settings import DeepMimicSettings as DeepMimicSettings
else:
    __getattr__ = lazy_names(__name__)

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
