"""What a denoising step does with the clean motion that the network predicts: one module a sampler."""

from rollouts.diffusion.samplers.protocol import Sampler as Sampler
from rollouts.diffusion.samplers.protocol import make_sampler as make_sampler
