"""`jobs.sample_and_save` and `jobs.test_mdm`: motions of a policy for the actions of real clips."""

from __future__ import annotations

import re

import numpy as np
import torch
import yaml

from jobs.actions.parts import (
    load_action_critic,
    load_action_policy,
    open_output,
    read_clips,
    sample_actions,
    scores_in_batches,
    write_tensors,
)
from jobs.actions.real_clips import NOT_COMPARABLE, NUM_BLOCKS
from jobs.actions.settings import MeasureMDMConfig, SampleAndSaveConfig
from rewards.actions.classifier import load_action_classifier
from rewards.actions.humanact12 import joints_of_mdm, mdm_of_features
from rewards.actions.measures import ActionFeatures, action_features, measure_actions, score_blocks
from rewards.critic.network import MotionCritic
from rewards.critic.poses import upright
from rollouts.checkpoints.mdm_files import find_checkpoint
from rollouts.diffusion.policy import DiffusionPolicy


def sample_and_save(config: SampleAndSaveConfig) -> None:
    """One motion for the action of every clip: `uncriticed-motions-step{n}.pth` and `uncriticed-critics-step{n}.pth`,
    where n is the step of the checkpoint."""
    clips = read_clips(config.data)
    critic = load_action_critic(config.critic, config.data.num_frames)
    policy = load_action_policy(config.policy.model_path, config.policy.sampling_steps, config.output.device)
    folder = open_output(config.output)
    made, scores = _made(config, policy, critic, clips.actions)
    digits = re.findall(r"\d+", find_checkpoint(config.policy.model_path).stem)
    step = int(digits[-1]) if digits else 0
    actions = torch.from_numpy(clips.actions)
    motion = upright(mdm_of_features(torch.from_numpy(made)))
    write_tensors(folder / f"uncriticed-motions-step{step}.pth", {"motion": motion, "action": actions})
    write_tensors(folder / f"uncriticed-critics-step{step}.pth", {"score": torch.from_numpy(scores), "action": actions})
    print(f"{len(made)} motions in {folder}; mean score {scores.mean():.3f}")


def measure_mdm(config: MeasureMDMConfig) -> None:
    """Accuracy, FID, diversity, multimodality and score of motions for the actions of each block of real clips, against
    all real clips, in `test_mdm.yaml`."""
    clips = read_clips(config.data)
    critic = load_action_critic(config.critic, config.data.num_frames)
    classifier = load_action_classifier(config.classifier.classifier_path)
    policy = load_action_policy(config.policy.model_path, config.policy.sampling_steps, config.output.device)
    folder = open_output(config.output)
    features = clips.windows(config.output.seed, frames=config.data.num_frames)
    real_scores = scores_in_batches(critic, features, config.output.batch_size)
    made, scores = _made(config, policy, critic, clips.actions)

    def read(motions: np.ndarray, rows: np.ndarray) -> ActionFeatures:
        joints = joints_of_mdm(mdm_of_features(torch.from_numpy(motions[rows]))).numpy()
        return action_features(classifier, joints, np.full(len(rows), config.data.num_frames), clips.actions[rows])

    everything = np.arange(len(clips.actions))
    real = read(features, everything)
    parts = [("all", everything)]
    parts += [(f"block {number}", rows) for number, rows in enumerate(score_blocks(real_scores, NUM_BLOCKS))]
    table = []
    for name, rows in parts:
        figures = measure_actions(real, read(made, rows), config.output.seed)
        critics = {"critic_gen": float(scores[rows].mean()), "critic_gt": float(real_scores[rows].mean())}
        table.append({"part": name} | figures | critics)
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in (figures | critics).items()))
    (folder / "test_mdm.yaml").write_text(yaml.safe_dump({"note": NOT_COMPARABLE, "parts": table}, sort_keys=False))
    print(f"{NOT_COMPARABLE}\nresults: {folder / 'test_mdm.yaml'}")


def _made(
    config: SampleAndSaveConfig, policy: DiffusionPolicy, critic: MotionCritic, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Motions for the actions and their scores."""
    output = config.output
    made = sample_actions(
        policy, actions, config.data.num_frames, output.seed, output.batch_size, noisy=not config.ddim_sampling
    )
    return made, scores_in_batches(critic, made, output.batch_size)
