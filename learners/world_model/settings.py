"""Options of the world model and of the policy that is trained in it; imports neither torch nor ray."""

from __future__ import annotations

from pydantic import Field

from learners.settings import LearningRateSchedule, ScheduledSettings
from motions.settings import Settings


class RolloutSettings(Settings):
    """Rollouts in the simulator, and which of them are kept."""

    rollout_steps: int = Field(default=1920, ge=1)
    """Environment steps per iteration, over all environments together; rounded up to whole steps of all of them."""

    warmup_iterations: int = Field(default=10, ge=1)
    """Iterations that are rolled out by the untrained policy, which with residual actions follows the reference in open
    loop. The model is first fitted to these rollouts, and the updates begin with the last of them."""

    noise_correlation: float = Field(default=0.7, ge=0, lt=1)
    """Correlation of the noise on the actions of rollouts from one control step to the next."""

    noise_spread: float = Field(default=1.0, ge=0, le=1)
    """By how much environments differ in that noise: its standard deviation goes from 1 - this times the policy's in
    the first to 1 + this times in the last."""

    push_from_iteration: int = Field(default=75, ge=0)
    """Iteration, counted from 0, with which the pushes of `push_force` begin: a character that cannot walk yet learns
    little from being pushed over."""

    replay_steps: int = Field(default=250_000, ge=1)
    """Newest environment steps that are kept for the updates, over all environments together."""


class DynamicsSettings(Settings):
    """The model of the dynamics."""

    model_hidden_size: int = Field(default=256, ge=1, le=4096)
    """Width of the model's hidden layers."""

    model_layers: int = Field(default=2, ge=1, le=16)
    """Number of the model's hidden layers."""

    model_learning_rate: float = Field(default=1e-3, gt=0)
    """Adam's learning rate for the model."""

    model_batch_size: int = Field(default=256, ge=1)
    """Recorded windows per update of the model."""

    model_window: int = Field(default=8, ge=1)
    """Control steps over which the model predicts without correction in its updates; at most those that an environment
    makes per iteration."""

    model_warmup_updates: int = Field(default=400, ge=0)
    """Updates of the model after the iterations that only collect."""

    model_updates: int = Field(default=8, ge=1)
    """Updates of the model per iteration."""

    model_root_weight: float = Field(default=3.0, gt=0)
    """Weight of the root in the model's loss, in units of a joint coordinate's."""


class ImaginationSettings(ScheduledSettings):
    """The policy's updates by gradients through imagined steps."""

    policy_learning_rate: float = Field(default=2e-4, gt=0)
    """Adam's learning rate for the policy."""

    lr_schedule: LearningRateSchedule = "constant"
    """Learning rates of policy and model after the first iterations: constant, or falling to 0 along a cosine until the
    end of the training."""

    policy_updates: int = Field(default=12, ge=1)
    """Updates of the policy per iteration."""

    imagined_starts: int = Field(default=128, ge=1)
    """Recorded states from which imagined rollouts start, per update."""

    imagined_steps: int = Field(default=20, ge=1)
    """Control steps of an imagined rollout."""

    tracking_cost: float = Field(default=1.0, ge=0)
    """Weight of distances from the reference (of root, joints and the root's velocities) that are subtracted from the
    reward: unlike the reward, they lead back from far away."""

    action_cost: float = Field(default=0.02, ge=0)
    """Weight of squared actions."""

    smoothness_cost: float = Field(default=0.02, ge=0)
    """Weight of squared differences of consecutive actions."""

    gradient_limit: float = Field(default=3.0, ge=0)
    """The gradient at an imagined state is shortened to this multiple of the batch's median length; 0 means no
    limit."""

    policy_average: float = Field(default=0.99, ge=0, lt=1)
    """Decay per update of the average of the policy's weights, which acts and is kept; 0 keeps the policy itself."""


class WorldModelSettings(RolloutSettings, DynamicsSettings, ImaginationSettings):
    """Model-based training of a character's controller."""

    @property
    def steps_per_batch(self) -> int:
        """`rollout_steps`, under the name that all learners from rollouts have for it."""
        return self.rollout_steps
