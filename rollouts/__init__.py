"""Policies and how they act: networks, denoising, samplers, text encoders, checkpoints, character controllers.

A rollout is a function of its request and the policy's weights, to the bit: all noise comes from counter-based
generators keyed by seed, step, prompt and sample. The names below are this layer's public interface: what your own
reward, text encoder or script imports, as in `from rollouts import GroupMotions`.
"""

from typing import TYPE_CHECKING

from motions.base.public_names import lazy_names

if TYPE_CHECKING:
    from rollouts.checkpoints.loading import load_policy as load_policy
    from rollouts.checkpoints.loading import load_policy_text_encoder as load_policy_text_encoder
    from rollouts.control.actor_critic import ActorCritic as ActorCritic
    from rollouts.control.actor_critic import ActorCriticConfig as ActorCriticConfig
    from rollouts.control.actor_critic import load_controller as load_controller
    from rollouts.control.actor_critic import save_controller as save_controller
    from rollouts.diffusion.policy import DiffusionPolicy as DiffusionPolicy
    from rollouts.diffusion.samplers import Sampler as Sampler
    from rollouts.diffusion.schedule import DiffusionSchedule as DiffusionSchedule
    from rollouts.diffusion.worker import RolloutWorker as RolloutWorker
    from rollouts.messages import GroupMotions as GroupMotions
    from rollouts.messages import PolicyVersion as PolicyVersion
    from rollouts.messages import RolloutRequest as RolloutRequest
    from rollouts.messages import TextCondition as TextCondition
    from rollouts.messages import Trajectory as Trajectory
    from rollouts.networks.denoiser_network import DenoiserNetwork as DenoiserNetwork
    from rollouts.networks.mdm import MDM as MDM
    from rollouts.networks.mdm_config import MDMConfig as MDMConfig
    from rollouts.policy import Policy as Policy
    from rollouts.settings import PolicySettings as PolicySettings
    from rollouts.settings import SamplingSettings as SamplingSettings
    from rollouts.text.encoders import TextEncoder as TextEncoder
    from rollouts.text.encoders import load_text_encoder as load_text_encoder
    from rollouts.text.models import TextModel as TextModel
else:
    __getattr__ = lazy_names(__name__)
