"""The semantic reward: how well the motion matches the text, by TMR.

Global mode compares the whole motion with the whole text (the segments' texts joined by a space, if there are several);
dense mode compares every segment with every segment's text (`rewards/tmr/segments.py`). Choices:

* All clips of a call go through the motion encoder in one padded batch. Each distinct text is encoded once, by itself,
  so that the bits of its embedding depend on nothing else.
* A cosine in global mode is TMR's own score, cos / 2 + 0.5 in [0, 1]; dense mode uses the cosine itself in [-1, 1], for
  which R_neg's margin is defined. Rewards of distances are in [0, 1] in both modes.
* R_pos, R_neg and R_sem are returned in both modes. Logic-Acc and the active margin exist in dense mode only; otherwise
  they are left out instead of being reported as 0.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.data.prompts import MIN_SEGMENT_FRAMES, Prompt
from motions.skeleton.skeletons import Skeleton
from rewards.declared.semantic import SemanticSettings
from rewards.messages import RewardError, RewardTerms
from rewards.settings import BUILTIN_TMR_FOLDER, RewardSettings
from rewards.tmr import segments
from rewards.tmr.checkpoints import LoadReport, load_tmr
from rewards.tmr.network import TMR
from rewards.tmr.similarity import similarities, similarity
from rewards.validation import check_motions, check_terms, shortened
from rollouts.devices import resolve_device
from rollouts.messages import GroupMotions
from rollouts.settings import CheckpointSettings
from rollouts.text.encoders import load_text_encoder
from rollouts.text.padding import pad_tokens

_ENCODER_NAMES = {"distilbert-base-uncased": "distilbert"}
"""Maps names of text encoders in TMR's config.json to kinetune's."""


class TokenEncoder(Protocol):
    """The methods of `rollouts.text.encoders.TextEncoder` that are used here."""

    name: str
    dim: int
    fingerprint: str
    max_tokens: int
    truncate: bool

    def num_tokens(self, text: str) -> int:
        """Number of tokens of a text before any truncation."""
        ...

    def encode_tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token embeddings [L_i, dim] of each text."""
        ...


class Embedder:
    """Embeds texts and motions by one TMR; used by the reward and by the evaluating TMR.

    Args:
        tmr: the network; it is set to eval mode.
        text_encoder: the encoder whose tokens it was trained on.
        device: device of the network.
        report: report of loading the weights, if they were loaded.

    Raises:
        UserError: the text encoder is not the one that the TMR was trained with.
    """

    def __init__(
        self,
        tmr: TMR,
        text_encoder: TokenEncoder,
        device: torch.device | str = "cpu",
        report: LoadReport | None = None,
    ) -> None:
        trained_with = tmr.text_encoder_fingerprint
        if text_encoder.dim != tmr.config.text_dim or trained_with not in (None, text_encoder.fingerprint):
            raise UserError(
                f"text encoder {text_encoder.name} ({text_encoder.dim} numbers, {text_encoder.fingerprint[:12]}): this "
                f"TMR was trained on {tmr.text_encoder_name} ({tmr.config.text_dim} numbers, "
                f"{(trained_with or '?')[:12]})"
            )
        self.tmr = tmr.eval().requires_grad_(False).to(device)
        self.device = torch.device(device)
        self.text_encoder = text_encoder
        self.report = report
        self._texts: dict[str, np.ndarray] = {}

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings [M, d] float32 of M texts; each distinct text is encoded once in the life of this object."""
        for text in texts:
            if text not in self._texts:
                tokens, lengths = pad_tokens(self.text_encoder.encode_tokens([text]))
                with torch.inference_mode():
                    latent = self.tmr.encode_text(tokens.to(self.device), lengths.to(self.device))
                self._texts[text] = latent.mu[0].cpu().numpy()
        return np.stack([self._texts[text] for text in texts])

    def embed_motions(self, clips: list[np.ndarray]) -> np.ndarray:
        """Embeddings [M, d] float32 of M clips [t, D] in physical units, in one batch and in their order."""
        features, lengths = segments.pad(clips)
        with torch.inference_mode():
            latent = self.tmr.encode_motion(
                torch.from_numpy(features).to(self.device), torch.from_numpy(lengths).to(self.device)
            )
        return latent.mu.cpu().numpy()

    def embed_with_gradient(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings [M, d] of clips [M, t, D] in physical units; gradients flow to the features."""
        return self.tmr.encode_motion(features.to(self.device), lengths.to(self.device)).mu

    def check_skeleton(self, skeleton: Skeleton) -> None:
        """Checks that the TMR fits a skeleton's features.

        Raises:
            UserError: the TMR was trained on features of another width or frame rate than the skeleton's.
        """
        config = self.tmr.config
        if config.num_features != skeleton.num_features or config.fps != skeleton.fps:
            raise UserError(
                f"TMR takes {config.num_features} features at {config.fps} fps; motions of skeleton {skeleton.name} "
                f"have {skeleton.num_features} at {skeleton.fps} fps"
            )

    def text_misfit(self, reader: str, texts: Sequence[str]) -> str | None:
        """Which of the texts is over the text encoder's limit, for a message; None if none is, or they are truncated.

        Args:
            reader: what reads them, for the message.
        """
        encoder = self.text_encoder
        for text in () if encoder.truncate else texts:
            if (num_tokens := encoder.num_tokens(text)) > encoder.max_tokens:
                return (
                    f"the {reader} reads {shortened(text)!r}, {num_tokens} tokens; its text encoder "
                    f"{encoder.name} reads at most {encoder.max_tokens}. Shorten it, split it into segments, or set "
                    "--truncate_text"
                )
        return None

    def has_weights_of(self, other: Embedder) -> bool:
        """Whether both have bitwise equal weights, even if loaded from different files."""
        ours, theirs = self.tmr.state_dict(), other.tmr.state_dict()
        return ours.keys() == theirs.keys() and all(
            values.shape == theirs[name].shape and torch.equal(values.cpu(), theirs[name].cpu())
            for name, values in ours.items()
        )


class SemanticScorer:
    """Text-motion similarity by TMR. Terms: semantic, r_pos, r_neg; in dense mode also margin_active, logic_accuracy.

    Example:
        scorer = SemanticScorer.from_settings(RewardSettings.of(use_dense_reward=True), HUMANML3D)
        scorer.score(motions).terms["semantic"]   # [N]
    """

    name = "semantic"

    def __init__(self, embedder: Embedder, settings: RewardSettings, skeleton: Skeleton) -> None:
        """Creates a scorer for motions of `skeleton`.

        Raises:
            UserError: the TMR was trained on features of another width or frame rate.
        """
        embedder.check_skeleton(skeleton)
        self.embedder = embedder
        self.settings = settings
        self.own = settings.semantic

    @classmethod
    def from_settings(
        cls, settings: RewardSettings, skeleton: Skeleton, texts: CheckpointSettings | None = None
    ) -> SemanticScorer:
        """Load the weights and the text encoder the settings name; `texts` as for `load_embedder`."""
        return cls(load_embedder(settings, texts), settings, skeleton)

    def score(self, motions: GroupMotions) -> RewardTerms:
        """Terms [N] of one group, in the order of its samples."""
        return self.score_many([motions])[0]

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        """Terms of several groups from one encoder call, in the order of the groups and of their samples.

        Raises:
            RewardError: a motion cannot be scored (not finite, or a segment of fewer than 4 frames), or a term is not
                finite.
            UserError: a text is over the text encoder's limit.
        """
        start = time.perf_counter()
        ranges = [self._ranges(group) for group in groups]
        clips = [segments.cut(group.features, rows) for group, rows in zip(groups, ranges, strict=True)]
        embeddings = self.embedder.embed_motions([clip for group in clips for clip in group])
        offsets = np.cumsum([len(group) for group in clips])[:-1]
        parts = np.split(embeddings, offsets)
        all_terms = [
            self._terms(group, part.reshape(*rows.shape[:2], -1))
            for group, part, rows in zip(groups, parts, ranges, strict=True)
        ]
        seconds = (time.perf_counter() - start) / len(groups)
        return [RewardTerms(self.name, terms, seconds) for terms in all_terms]

    def score_with_gradient(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        """The main term [N] of motions [N, T, D] of one prompt; see `rewards.gradients`.

        Raises:
            RewardError: a segment has fewer than 4 frames.
        """
        ranges = frame_ranges(self.name, prompt, lengths.cpu().numpy(), self.settings)
        clips, counts = segments.cut_with_gradient(features, ranges)
        embeddings = self.embedder.embed_with_gradient(clips, counts).unflatten(0, ranges.shape[:2])
        texts = torch.from_numpy(self.embedder.embed_texts(judged_texts(prompt, self.own))).to(embeddings.device)
        found = similarities(embeddings, texts, self.own)
        if self.own.use_dense_reward:
            return segments.dense_reward_with_gradient(found, similarities(texts, texts, self.own), self.own.alpha)
        score = found[:, 0, 0]
        return score / 2.0 + 0.5 if self.own.tmr_similarity_type == "cosine" else score

    def misfit(self, prompt: Prompt) -> str | None:
        """Why motions of a prompt cannot be scored: in dense mode a segment of too few frames; a text over the text
        encoder's limit."""
        judged = self.settings.max_motion_length
        boundaries = prompt.boundaries if self.own.use_dense_reward else []
        for place, (start, end) in enumerate(boundaries, start=1):
            if min(end, judged) - start < MIN_SEGMENT_FRAMES:
                return (
                    f"its segment {place} is frames {start} to {end}; rewards look at the first {judged} "
                    f"(max_motion_length), and the dense reward needs {MIN_SEGMENT_FRAMES} of every segment"
                )
        return self.embedder.text_misfit("reward", judged_texts(prompt, self.own))

    def _ranges(self, motions: GroupMotions) -> np.ndarray:
        """Frame ranges [N, K, 2] of the clips to embed."""
        check_motions(self.name, motions, self.embedder.tmr.config.num_features, MIN_SEGMENT_FRAMES)
        return frame_ranges(self.name, motions.prompt, motions.lengths, self.settings)

    def _terms(self, motions: GroupMotions, embeddings: np.ndarray) -> dict[str, np.ndarray]:
        """Terms from clip embeddings [N, K, d]."""
        prompt = motions.prompt
        if self.own.use_dense_reward:
            texts = self.embedder.embed_texts(judged_texts(prompt, self.own))
            scores = similarity(embeddings, texts, self.own)
            dense = segments.dense_reward(scores, similarity(texts, texts, self.own), self.own.alpha)
            values = {
                "semantic": dense.semantic,
                "r_pos": dense.r_pos,
                "r_neg": dense.r_neg,
                "margin_active": dense.margin_active,
                "logic_accuracy": dense.logic_accuracy,
            }
        else:
            text = self.embedder.embed_texts(judged_texts(prompt, self.own))
            score = similarity(embeddings[:, 0], text, self.own)[:, 0]
            if self.own.tmr_similarity_type == "cosine":
                score = score / 2.0 + 0.5
            values = {"semantic": score, "r_pos": score, "r_neg": np.zeros_like(score)}
        terms = {name: value.astype(np.float32) for name, value in values.items()}
        check_terms(self.name, terms, prompt.text, len(motions.features))
        return terms


def frame_ranges(name: str, prompt: Prompt, lengths: np.ndarray, settings: RewardSettings) -> np.ndarray:
    """Frame ranges [N, K, 2] of what is compared with texts: the whole motion (K = 1), in dense mode its segments.

    Raises:
        RewardError: a segment has fewer than 4 frames.
    """
    if not settings.semantic.use_dense_reward:
        ends = np.minimum(lengths, settings.max_motion_length)
        return np.stack([np.zeros_like(ends), ends], axis=1)[:, None]
    try:
        return segments.segment_ranges(prompt, lengths, settings.max_motion_length)
    except ValueError as error:
        raise RewardError(f"reward {name!r}: {error}") from error


def judged_texts(prompt: Prompt, settings: SemanticSettings) -> list[str]:
    """The texts that a prompt's motions are compared with: in dense mode those of its segments; otherwise a single one,
    the prompt's own text or its segments' texts joined by a space."""
    segment_texts = [segment.text for segment in prompt.segments]
    if settings.use_dense_reward:
        return segment_texts
    return [" ".join(segment_texts) if len(segment_texts) > 1 else prompt.text]


def load_embedder(settings: RewardSettings, texts: CheckpointSettings | None = None) -> Embedder:
    """The TMR and the text encoder that the settings name.

    Args:
        texts: whether long texts are truncated (`truncate_text`) and where embeddings are cached (`text_cache_dir`).
            The limit is the text encoder's own: `max_text_tokens` belongs to the policy's encoder.

    Raises:
        TMRCheckpointError: weights are missing, of another kind, incomplete or not finite.
        UserError: unknown text encoder, or one of another width; a device that does not exist.
    """
    own = settings.semantic
    by_file = bool(own.tmr_text_encoder_path)
    path = BUILTIN_TMR_FOLDER if own.builtin_tmr else Path(own.tmr_checkpoint_path)
    loaded = load_tmr(
        None if by_file else path,
        text_encoder=own.tmr_text_encoder_path,
        motion_encoder=own.tmr_motion_encoder_path,
        motion_decoder=own.tmr_movement_encoder_path,
        stats=own.tmr_stats_path,
        text_encoder_name=own.tmr_text_model,
    )
    name = loaded.tmr.text_encoder_name
    encoder = load_text_encoder(
        _ENCODER_NAMES.get(name, name),
        own.tmr_text_model_path,
        truncate=texts is not None and texts.truncate_text,
        cache_dir=None if texts is None else texts.text_cache_dir,
    )
    return Embedder(loaded.tmr, encoder, resolve_device(settings.reward_device), loaded.report)
