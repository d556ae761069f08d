"""How parameters change: GRPO, TRPO, world models, cloning, and supervised training of policies and retrieval models.

Losses are pure functions; a learner holds parameters and optimizer, and offers `update`, `state` and `load`. The names
below are this layer's public interface, as in `from learners import GRPOLearner`.
"""

from typing import TYPE_CHECKING

from motions.base.public_names import lazy_names

if TYPE_CHECKING:
    from learners.cloning.learner import CloningLearner as CloningLearner
    from learners.grpo.advantages import Advantages as Advantages
    from learners.grpo.advantages import group_advantages as group_advantages
    from learners.grpo.gradients.loss import GradientInputs as GradientInputs
    from learners.grpo.gradients.loss import GradientLoss as GradientLoss
    from learners.grpo.gradients.loss import gradient_loss as gradient_loss
    from learners.grpo.learner import GRPOLearner as GRPOLearner
    from learners.grpo.loss import GRPOInputs as GRPOInputs
    from learners.grpo.loss import GRPOTerms as GRPOTerms
    from learners.grpo.loss import PolicyLoss as PolicyLoss
    from learners.grpo.loss import grpo_loss as grpo_loss
    from learners.grpo.motion_loss import MotionInputs as MotionInputs
    from learners.grpo.motion_loss import MotionLoss as MotionLoss
    from learners.grpo.motion_loss import motion_loss as motion_loss
    from learners.grpo.settings import GRPOSettings as GRPOSettings
    from learners.grpo_trainer import GRPOTrainer as GRPOTrainer
    from learners.grpo_trainer import create_grpo_trainer as create_grpo_trainer
    from learners.supervised.diffusion import SupervisedLearner as SupervisedLearner
    from learners.supervised.diffusion import diffusion_loss as diffusion_loss
    from learners.supervised.retrieval import RetrievalLearner as RetrievalLearner
    from learners.trpo.learner import TRPOLearner as TRPOLearner
    from learners.trpo.settings import TRPOSettings as TRPOSettings
    from learners.trpo.trust_region import trust_region_step as trust_region_step
    from learners.world_model.learner import WorldModelLearner as WorldModelLearner
    from learners.world_model.settings import WorldModelSettings as WorldModelSettings
else:
    __getattr__ = lazy_names(__name__)
