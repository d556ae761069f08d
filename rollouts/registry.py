"""The denoisers and samplers that options and args.json know by name; imports neither torch nor ray.

A denoiser or sampler that is added to kinetune needs a module and a line here. A class of your own needs no line: an
option names it as `package.module:Class`.
"""

DENOISERS: dict[str, str] = dict.fromkeys(("trans_enc", "trans_dec", "gru", "mamba"), "rollouts.networks.mdm:MDM")
"""Subclasses of `rollouts.networks.denoiser_network.DenoiserNetwork` by architecture (`arch` of args.json)."""

SAMPLERS = {
    "ddpm": "rollouts.diffusion.samplers.ancestral:DDPM",
    "ddim": "rollouts.diffusion.samplers.ancestral:DDIM",
    "dpmpp_2m": "rollouts.diffusion.samplers.dpm_solver:DPMSolver",
    "flow_sde": "rollouts.diffusion.samplers.rectified_flow:FlowSDE",
    "dance_sde": "rollouts.diffusion.samplers.rectified_flow:DanceSDE",
    "cps": "rollouts.diffusion.samplers.cps:CPS",
}
"""Implementations of `rollouts.diffusion.samplers.Sampler`."""

DETERMINISTIC_SAMPLERS = ("dpmpp_2m",)
"""Samplers whose steps never draw noise."""

NO_DENSITY = (
    "its steps draw no noise, so that they have no density and no policy gradient can train them. It is for evaluation "
    "(eval_sampler), for generation without --stochastic, and for rollouts of which only the final motions are read "
    "(rollout_sampler)"
)
"""Why they are refused where noise is drawn."""

NOISE_SCALES = {"flow_sde": 0.7, "dance_sde": 0.3, "cps": 0.7}
"""Samplers whose noise is set by `noise_scale`, with the values of their papers."""
