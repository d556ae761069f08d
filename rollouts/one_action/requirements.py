"""What a policy of one action needs of options that are written for policies that denoise."""

from __future__ import annotations

from motions.base.errors import UserError
from rollouts.one_action.motion_ssm import MotionSSM
from rollouts.one_action.policy import ONE_STEP
from rollouts.one_action.public_regressor import PublicRegressor
from rollouts.settings import DenoisingSettings, SamplingSettings

_HEARD = ("device", "scan_backend", "amp_dtype", "share_initial_noise", "timestep_fraction", "composite_denoising")


def sampling_of_one_action(sampling: SamplingSettings) -> SamplingSettings:
    """The settings with the only window of stochastic steps that there is.

    Raises:
        UserError: an option is set that only denoising hears.
    """
    require_no_denoising(sampling)
    return sampling.model_copy(update=ONE_STEP)


def require_no_denoising(sampling: DenoisingSettings) -> None:
    """Checks that no option is set that only denoising hears.

    Raises:
        UserError: one is.
    """
    for name, field in type(sampling).model_fields.items():
        value = getattr(sampling, name)
        if name not in _HEARD and value not in (field.get_default(call_default_factory=True), ONE_STEP.get(name)):
            raise UserError(f"{name} is {value}: a policy of one action does not denoise; leave the option out")


def require_latent(network: MotionSSM | PublicRegressor) -> None:
    """Checks that the policy draws something.

    Raises:
        UserError: it is a regressor.
    """
    if not network.latent_dim:
        raise UserError(
            "model_path holds a MotionSSM without a latent (latent_dim 0): it gives a prompt the same motion every "
            "time, so that the rewards of a group are equal, all advantages 0, and nothing can be learned; train one "
            "with --latent_dim 8"
        )
