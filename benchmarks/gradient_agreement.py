"""How much of a GRPO gradient is signal: the agreement of gradients from independent samples.

    python -m benchmarks.gradient_agreement [--prompts 64] [--draws 4] [--json PATH]
    python -m benchmarks.gradient_agreement --sampling_steps 6 --group_size 48

Further options are those of `jobs.grpo`; the preset is `demo`. For every denoising step that can be stochastic, alone,
and for every normalisation of advantages, the gradient of the mean of A * log pi is computed at the base weights, for
the same prompts with independent draws of noise. The result is the mean cosine of two draws' gradients, by the group of
layers that adapters of `--lora_target_spec all` are on: near 0 an update with this number of prompts is noise and moves
the policy at random, near 1 it is signal. Samples of a group share their initial noise. `std` is the mean standard
deviation of the total reward within a group.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.learning import write_json
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.text.grpo_actors import mix_rewards
from jobs.text.grpo_prompts import training_prompts
from learners.grpo.advantages import group_advantages
from rewards.scorers import build_scorers
from rollouts.checkpoints.loading import load_policy, load_policy_text_encoder
from rollouts.diffusion.requests import prompt_conditions
from rollouts.diffusion.worker import RolloutWorker
from rollouts.gaussians import gaussian_log_prob
from rollouts.messages import PolicyVersion, RolloutRequest, Trajectory
from rollouts.networks.mdm import MDM

if TYPE_CHECKING:
    from motions.data.prompts import Prompt
    from rollouts.diffusion.policy import DiffusionPolicy

NORMALISATIONS: dict[str, dict[str, object]] = {
    "none": {"advantage_std": "none"},
    "batch": {"advantage_std": "batch"},
    "group": {"advantage_std": "group", "advantage_std_floor": 1e-4},
    "group, floor .05": {"advantage_std": "group", "advantage_std_floor": 0.05},
}
LAYERS: dict[str, tuple[str, ...]] = {
    **{name: MDM.adapter_targets[name] for name in ("text", "attn", "ffn")},
    "input": ("input_proj",),
    "output": ("output_proj",),
    "all": MDM.adapter_targets["all"],
}

Gradient = dict[str, Tensor]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    options, config = parse_arguments(arguments)
    torch.set_num_threads(config.cluster.threads_per_actor)
    policy = load_policy(config.policy, config.sampling)
    prompts = training_prompts(config, policy.skeleton)
    rows = []
    print(f"{'position':>8}  {'advantages':<17} {'std':>6}  " + " ".join(f"{name:>6}" for name in LAYERS))
    for position in range(policy.num_steps - 1):
        std, gradients = measure(config, policy, prompts, position, options.draws)
        for name, drawn in gradients.items():
            cosines = {layer: agreement([of_layers(one, LAYERS[layer]) for one in drawn]) for layer in LAYERS}
            rows.append({"position": position, "advantages": name, "group_std": std, "cosine": cosines})
            print(f"{position:>8}  {name:<17} {std:6.3f}  " + " ".join(f"{value:6.2f}" for value in cosines.values()))
    if options.json:
        write_json(options.json, {"config": config.flat(), "rows": rows})
    return 0


def measure(
    config: GRPOConfig, policy: DiffusionPolicy, prompts: Sequence[Prompt], position: int, draws: int
) -> tuple[float, dict[str, list[Gradient]]]:
    """Mean standard deviation of rewards within a group, and the gradient of each draw by normalisation."""
    encoder = load_policy_text_encoder(config.policy)
    conditions = prompt_conditions(policy, encoder, prompts)
    scorers = [factory() for factory in build_scorers(config.rewards, policy.skeleton, config.policy).values()]
    worker, version = RolloutWorker(policy), PolicyVersion(0, policy.weights())
    gradients: dict[str, list[Gradient]] = {name: [] for name in NORMALISATIONS}
    spreads = []
    for draw in range(draws):
        trajectories, totals = [], []
        for index, (prompt, condition) in enumerate(zip(prompts, conditions, strict=True)):
            request = RolloutRequest(
                step=draw,
                prompt_index=index,
                prompt=prompt,
                condition=condition,
                num_samples=config.grpo.group_size,
                seed=config.run.seed,
                stochastic_steps=(position,),
                trained_steps=(position,),
                share_initial_noise=True,
                policy_version=0,
            )
            motions, trajectory = worker.run(request, version)
            trajectories.append(trajectory)
            totals.append(mix_rewards(config.rewards, [scorer.score(motions) for scorer in scorers], prompt.text).total)
        rewards = np.stack(totals)
        spreads.append(rewards.std(axis=1).mean())
        advantages = {
            name: group_advantages(rewards, config.grpo.model_copy(update=changes)).values
            for name, changes in NORMALISATIONS.items()
        }
        for name, gradient in policy_gradients(policy, trajectories, advantages).items():
            gradients[name].append(gradient)
    return float(np.mean(spreads)), gradients


def policy_gradients(
    policy: DiffusionPolicy, trajectories: Sequence[Trajectory], advantages: Mapping[str, np.ndarray]
) -> dict[str, Gradient]:
    """Gradient of the sum of A * log pi of one recorded step per sample, for each set of advantages [P, N].

    Trajectories are groups that share their initial noise, so that their samples share one state.
    """
    parameters = policy.trainable_parameters()
    sums = {name: {key: torch.zeros_like(value) for key, value in parameters.items()} for name in advantages}
    for index, trajectory in enumerate(trajectories):
        state = torch.from_numpy(trajectory.states[0][:1])
        condition = trajectory.condition
        text, text_mask = (
            None if part is None else torch.from_numpy(np.array(part))[None]
            for part in (condition.values, condition.mask)
        )
        assert text is not None
        step = policy.transition(
            state, int(trajectory.steps[0]), text, None, text_mask=text_mask, boundaries=condition.boundaries
        )
        drawn = torch.from_numpy(trajectory.next_states[0])
        log_probs = gaussian_log_prob(drawn, step.mean.expand_as(drawn), step.std.expand(len(drawn)), None)
        for name, values in advantages.items():
            objective = (torch.from_numpy(values[index]) * log_probs).sum()
            found = torch.autograd.grad(objective, list(parameters.values()), retain_graph=True)
            for key, gradient in zip(parameters, found, strict=True):
                sums[name][key] += gradient
    return sums


def of_layers(gradient: Gradient, layers: Sequence[str]) -> Tensor:
    """The part of a gradient that belongs to the adapters of the given layers, as one vector."""
    return torch.cat([value.flatten() for key, value in gradient.items() if set(key.split(".")) & set(layers)])


def agreement(vectors: Sequence[Tensor]) -> float:
    """Mean cosine over pairs of different vectors."""
    pairs = itertools.combinations(vectors, 2)
    return float(torch.stack([torch.nn.functional.cosine_similarity(*pair, dim=0) for pair in pairs]).mean())


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, GRPOConfig]:
    """The benchmark's options and the job's."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gradient_agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prompts", type=int, default=64, help="training prompts to measure on")
    parser.add_argument("--draws", type=int, default=4, help="independent sets of samples of every prompt")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options, words = parser.parse_known_args(arguments)
    for name, least in (("prompts", 1), ("draws", 2)):
        if getattr(options, name) < least:
            parser.error(f"--{name} is {getattr(options, name)}, expected at least {least}")
    own = ["--save_dir", "unused", "--num_prompts", str(options.prompts), "--lora_target_spec", "all"]
    preset = [] if any(word.startswith("--preset") for word in words) else ["--preset", "demo"]
    try:
        return options, cli.parse(GRPOConfig, [*preset, *own, *words], "jobs.grpo").settings
    except cli.UsageError as error:
        parser.error("; ".join(error.lines))


if __name__ == "__main__":
    sys.exit(main())
