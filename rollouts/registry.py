"""The denoisers and samplers that options and args.json know by name; imports neither torch nor ray.

A denoiser or sampler that is added to kinetune needs a module and a line here. A class of your own needs no line: an
option names it as `package.module:Class`.
"""

DENOISERS: dict[str, str] = dict.fromkeys(("trans_enc", "trans_dec", "gru", "mamba"), "rollouts.networks.mdm:MDM")
"""Subclasses of `rollouts.networks.denoiser_network.DenoiserNetwork` by architecture (`arch` of args.json)."""

SAMPLERS = {"ddpm": "rollouts.diffusion.samplers:DDPM", "ddim": "rollouts.diffusion.samplers:DDIM"}
"""Implementations of `rollouts.diffusion.samplers.Sampler`."""
