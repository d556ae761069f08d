"""Rewards as functions of motions and texts, for notebooks and scripts: what the scorers of a run are to its actors.

The names and arguments are those of the public project MDM-GRPO (jufan666/text-to-motion), the numbers those of the
options of the same names:

    reward_fn = create_tmr_reward_function(tmr_checkpoint_path="models/tmr_humanml3d_guoh3dfeats", reward_type="cosine")
    rewards = reward_fn(motions, ["a person walks", "a person jumps"])     # [2]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.data.prompts import Prompt, Segment
from motions.settings import BUILTIN
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton
from rewards.mixing import MixedRewards, combine
from rewards.scorers import build_scorers
from rewards.settings import RewardSettings
from rollouts.messages import GroupMotions

SKELETONS = {"humanml": HUMANML3D, "kit": KIT}
"""MDM's names of data sets, and the skeletons of their features."""


class RewardFunction:
    """The total reward of motions, with its terms.

    Args:
        settings: options of the rewards, as on the command line.
        skeleton: of the motions' features.
        normalizer: statistics by which the motions that are given are normalised; by default they are physical.

    Example:
        reward_fn = RewardFunction(RewardSettings.of(use_physics_reward=True), HUMANML3D)
        reward_fn(motions, prompts)        # [N] float32
        reward_fn.terms["skating_ratio"]   # [N] of the last call
    """

    def __init__(self, settings: RewardSettings, skeleton: Skeleton, normalizer: Normalizer | None = None) -> None:
        self.settings = settings
        self.skeleton = skeleton
        self.terms: dict[str, Tensor] = {}
        """Terms [N] of the last call, by name: those that all of its motions have."""
        self._normalizer = normalizer
        self._scorers = [factory() for factory in build_scorers(settings, skeleton).values()]

    def __call__(
        self,
        motions: Tensor | np.ndarray,
        prompts: Sequence[str | Prompt],
        lengths: Sequence[int] | np.ndarray | Tensor | None = None,
    ) -> Tensor:
        """Total rewards [N] float32, in the order of the motions.

        Args:
            motions: [N, T, D], or in MDM's layout [N, D, 1, T].
            prompts: N texts or prompts; a prompt of several segments has as many frames as its motion, or fewer.
            lengths: N numbers of valid frames; by default all.

        Raises:
            UserError: shapes or numbers that do not fit each other or the skeleton.
            RewardError: motions that cannot be scored, such as those that are not finite.
        """
        features = self._features(motions)
        counts = self._counts(lengths, len(features), features.shape[1])
        if isinstance(prompts, str):
            raise UserError(f"prompts are the text {prompts!r}; give a list of them, one for each motion")
        if len(prompts) != len(features):
            raise UserError(f"{len(prompts)} prompts for {len(features)} motions; give one for each")
        scored = [
            self.score(GroupMotions(row[None, :count], np.array([count]), _prompt(prompt, count), 0, 0.0))
            for row, count, prompt in zip(features, counts.tolist(), prompts, strict=True)
        ]
        shared = [name for name in scored[0].terms if all(name in one.terms for one in scored)] if scored else []
        self.terms = {name: torch.from_numpy(np.concatenate([one.terms[name] for one in scored])) for name in shared}
        return torch.from_numpy(np.concatenate([one.total for one in scored]) if scored else np.zeros(0, np.float32))

    def score(self, group: GroupMotions) -> MixedRewards:
        """Rewards of motions of one prompt, in physical units, as a run's reward actors give them."""
        return combine([scorer.score(group) for scorer in self._scorers], self.settings, group.prompt.text)

    def _features(self, motions: Tensor | np.ndarray) -> np.ndarray:
        array = motions.detach().cpu().numpy() if isinstance(motions, Tensor) else np.asarray(motions)
        width = self.skeleton.num_features
        if array.ndim == 4 and array.shape[1:3] == (width, 1):
            array = array[:, :, 0].transpose(0, 2, 1)
        if array.ndim != 3 or array.shape[2] != width:
            raise UserError(
                f"motions have shape {tuple(array.shape)}; skeleton {self.skeleton.name} takes [N, T, {width}], or in "
                f"MDM's layout [N, {width}, 1, T]"
            )
        array = np.ascontiguousarray(array, dtype=np.float32)
        if self._normalizer is None:
            return array
        return self._normalizer.denormalize(torch.from_numpy(array)).numpy()

    @staticmethod
    def _counts(lengths: Sequence[int] | np.ndarray | Tensor | None, num_motions: int, most: int) -> np.ndarray:
        if lengths is None:
            return np.full(num_motions, most, np.int64)
        given = np.asarray(lengths.cpu() if isinstance(lengths, Tensor) else lengths)
        counts = given.astype(np.int64)
        is_legal = counts.shape == (num_motions,) and bool(((counts == given) & (counts > 0) & (counts <= most)).all())
        if not is_legal:
            raise UserError(f"lengths are {given.tolist()}; expected {num_motions} numbers from 1 to {most}")
        return counts


class TMRCosineSimilarityReward(RewardFunction):
    """The cosine of a motion and its text by a TMR, mapped to [0, 1]. Arguments as of `create_tmr_reward_function`."""

    def __init__(
        self,
        tmr_checkpoint_path: str = BUILTIN,
        dataset_name: str = "humanml",
        device: str = "auto",
        normalizer: Normalizer | None = None,
        **options: Any,
    ) -> None:
        given = {"tmr_checkpoint_path": tmr_checkpoint_path, "reward_type": "cosine", "reward_device": device}
        super().__init__(RewardSettings.of(given, **options), _skeleton(dataset_name), normalizer)


class TMRMatchingScoreReward(RewardFunction):
    """The similarity of a motion and its text by a TMR, from cosine or distance. Arguments as of
    `create_tmr_reward_function`."""

    def __init__(
        self,
        tmr_checkpoint_path: str = BUILTIN,
        similarity_type: str = "cosine",
        normalization: str = "linear",
        max_distance: float = 10.0,
        scale: float = 2.0,
        dataset_name: str = "humanml",
        device: str = "auto",
        normalizer: Normalizer | None = None,
        **options: Any,
    ) -> None:
        given = {
            "tmr_checkpoint_path": tmr_checkpoint_path,
            "reward_type": "matching",
            "tmr_similarity_type": similarity_type,
            "tmr_normalization": normalization,
            "tmr_max_distance": max_distance,
            "tmr_scale": scale,
            "reward_device": device,
        }
        super().__init__(RewardSettings.of(given, **options), _skeleton(dataset_name), normalizer)


def create_tmr_reward_function(
    tmr_checkpoint_path: str = BUILTIN,
    reward_type: str = "matching",
    similarity_type: str = "cosine",
    normalization: str = "linear",
    max_distance: float = 10.0,
    scale: float = 2.0,
    dataset_name: str = "humanml",
    device: str = "auto",
    normalizer: Normalizer | None = None,
    **options: Any,
) -> RewardFunction:
    """A reward by text-motion retrieval (TMR).

    Args:
        tmr_checkpoint_path: weights in any layout of `rewards.tmr.components`; `builtin` are those of kinetune.
        reward_type: `cosine`, or `matching` for the similarity that the following arguments choose.
        similarity_type: `cosine` or `euclidean`.
        normalization: reward of a distance: `linear`, `exponential` or `sigmoid`.
        max_distance: distance of reward 0, for `linear`.
        scale: of distances, for `exponential` and `sigmoid`.
        dataset_name: `humanml` or `kit`: the features of the motions.
        device: of the networks.
        normalizer: statistics by which the motions that are given are normalised; by default they are physical.
        options: any other options of the rewards by their names on the command line, such as `use_dense_reward`,
            `use_physics_reward`, `tmr_text_model` or `tmr_motion_encoder_path`.

    Raises:
        UserError: an unknown option or value, or what is wrong with the files.
        pydantic.ValidationError: a value of another type than an option's.
    """
    shared: dict[str, Any] = {"dataset_name": dataset_name, "device": device, "normalizer": normalizer} | options
    if reward_type == "cosine":
        return TMRCosineSimilarityReward(tmr_checkpoint_path, **shared)
    if reward_type == "matching":
        return TMRMatchingScoreReward(
            tmr_checkpoint_path, similarity_type, normalization, max_distance, scale, **shared
        )
    raise UserError(f"reward_type is {reward_type!r}; a TMR has 'cosine' and 'matching'")


def create_mdm_reward_function(
    reward_type: str = "matching",
    dataset_name: str = "humanml",
    device: str = "auto",
    normalizer: Normalizer | None = None,
    **options: Any,
) -> RewardFunction:
    """A reward by the evaluator of Guo et al. (2022), by which MDM's metrics are made.

    Args:
        reward_type: `matching`, `r_precision` or `combined`.
        dataset_name: `humanml` or `kit`: the features of the motions.
        device: of the networks.
        normalizer: as in `create_tmr_reward_function`.
        options: any other options of the rewards, such as `evaluator_path`, `glove_path` or `use_dense_reward`.

    Raises:
        UserError: an unknown option or value, or what is wrong with the files.
    """
    given = {"reward_model_type": "mdm", "reward_type": reward_type, "reward_device": device}
    return RewardFunction(RewardSettings.of(given, **options), _skeleton(dataset_name), normalizer)


def _skeleton(dataset_name: str) -> Skeleton:
    if dataset_name not in SKELETONS:
        raise UserError(f"dataset_name is {dataset_name!r}; legal: {', '.join(SKELETONS)}")
    return SKELETONS[dataset_name]


def _prompt(prompt: str | Prompt, num_frames: int) -> Prompt:
    return prompt if isinstance(prompt, Prompt) else Prompt(prompt, (Segment(prompt, num_frames),))
