"""The denoisers and samplers that options and args.json know by name; imports neither torch nor ray.

A new one is a module and a line here. One's own needs no line: it is named `package.module:Class`.
"""

DENOISERS = {"trans_enc": "rollouts.networks.mdm:MDM"}
"""Subclasses of `rollouts.networks.denoiser_network.DenoiserNetwork` by architecture (`arch` of args.json)."""

SAMPLERS = {"ddpm": "rollouts.diffusion.samplers:DDPM", "ddim": "rollouts.diffusion.samplers:DDIM"}
"""Implementations of `rollouts.diffusion.samplers.Sampler`."""
