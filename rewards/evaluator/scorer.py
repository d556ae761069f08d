"""The semantic reward by the evaluator of Guo et al. (2022), `--reward_model_type mdm`.

Rewards of `reward_type`, by the distance d of a motion to its text (real pairs of the published evaluator are near 3):

    matching       1 - clamp(d / 10, 0, 1)
    r_precision    1 if no distractor's text is nearer to the motion than its own, otherwise 1 / (1 + d)
    combined       0.7 matching + 0.3 r_precision

They are those of MDM-GRPO (jufan666/text-to-motion) before it replaced them, but for the pool: there a motion competes
with the other samples of its batch, which have the same text. Here the pool is fixed, so that a motion's reward depends
on nothing but itself: the first `num_distractors` captions of a list that are not its own text. In dense mode, which
only `matching` has, the reward of TMR's (`rewards/tmr/segments.py`) is made of these similarities.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.data.captions import load_captions
from motions.data.prompts import MIN_SEGMENT_FRAMES, Prompt
from motions.skeleton.skeletons import Skeleton
from rewards.declared.semantic import EvaluatorFileSettings, SemanticSettings
from rewards.evaluator.checkpoints import LoadedEvaluator, load_evaluator
from rewards.evaluator.words import MAX_WORDS, Vocabulary, read_tagged_captions
from rewards.messages import RewardTerms
from rewards.settings import RewardSettings
from rewards.tmr import segments
from rewards.tmr.scorer import frame_ranges, judged_texts
from rewards.tmr.similarity import distances, euclidean
from rewards.validation import check_motions, check_terms, shortened
from rollouts.devices import resolve_device
from rollouts.messages import GroupMotions
from rollouts.settings import CheckpointSettings
from rollouts.text.conditions import pieces_of

MAX_DISTANCE = 10.0
"""Distance at which `matching` is 0."""
MATCHING_SHARE = 0.7
"""Of `matching` in `combined`."""


class EvaluatorEmbedder:
    """Embeds texts and motions by one evaluator.

    Args:
        loaded: the network.
        vocabulary: the words it was trained with.
        tagged: tokens of known texts; others are read by the vocabulary's rules.
        truncate: read the first 20 words of longer texts, as the public code does. Otherwise these are cut at the ends
            of clauses, and their embedding is the mean of those of the pieces.
    """

    def __init__(
        self,
        loaded: LoadedEvaluator,
        vocabulary: Vocabulary,
        tagged: dict[str, list[str]] | None = None,
        device: torch.device | str = "cpu",
        truncate: bool = False,
    ) -> None:
        config = loaded.evaluator.config
        if vocabulary.dim != config.word_dim:
            raise UserError(
                f"glove_path: vectors of {vocabulary.dim} numbers; the evaluator {loaded.source} reads "
                f"{config.word_dim}"
            )
        self.report = str(loaded)
        self.evaluator = loaded.evaluator.requires_grad_(False).to(device)
        self.vocabulary = vocabulary
        self.device = torch.device(device)
        self.truncate = truncate
        self._tagged = tagged or {}
        self._texts: dict[str, np.ndarray] = {}

    def check_skeleton(self, skeleton: Skeleton) -> None:
        """Raises UserError where the evaluator reads another number of features than a skeleton's motions have."""
        width = self.evaluator.config.num_features
        if width != skeleton.num_features:
            raise UserError(
                f"the evaluator reads {width} features; motions of skeleton {skeleton.name} have "
                f"{skeleton.num_features}"
            )

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text, not cut."""
        return self._tagged.get(text) or self.vocabulary.tokens_of(text)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings [M, E] float32; each distinct text is encoded once, by itself."""
        for text in dict.fromkeys(texts):
            if text not in self._texts:
                pieces = [self._embed_tokens(self.tokens(piece)) for piece in self._pieces(text)]
                self._texts[text] = pieces[0] if len(pieces) == 1 else np.stack(pieces).mean(axis=0)
        return np.stack([self._texts[text] for text in texts])

    def _embed_tokens(self, tokens: list[str]) -> np.ndarray:
        sentence = self.vocabulary.sentence(tokens)
        words, classes = (torch.from_numpy(part)[None].to(self.device) for part in self.vocabulary.vectors(sentence))
        with torch.inference_mode():
            return self.evaluator.encode_text(words, classes, torch.tensor([len(sentence)]))[0].cpu().numpy()

    def _pieces(self, text: str) -> list[str]:
        """The text, or its pieces where it is too long."""
        return [text] if self.truncate else pieces_of(text, lambda part: len(self.tokens(part)), MAX_WORDS)

    def embed_motions(self, clips: list[np.ndarray]) -> np.ndarray:
        """Embeddings [M, E] float32 of M clips [t, D] in physical units, in one batch and in their order."""
        features, lengths = segments.pad(clips)
        with torch.inference_mode():
            embedded = self.evaluator.encode_motion(
                torch.from_numpy(features).to(self.device), torch.from_numpy(lengths)
            )
        return embedded.cpu().numpy()

    def embed_with_gradient(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings [M, E] of clips [M, t, D] in physical units; gradients flow to the features."""
        # cuDNN has no backward of a recurrent network in eval mode.
        with torch.backends.cudnn.flags(enabled=False):
            return self.evaluator.encode_motion(features.to(self.device), lengths.cpu())

    def text_misfit(self, text: str) -> str | None:
        """Why a text cannot be read, for a message; None if it can."""
        tokens = self.tokens(text)
        known = [token for token in tokens if token.rpartition("/")[0] in self.vocabulary.index]
        if not known:
            return f"{shortened(text)!r} has no word of the vocabulary, so it is like any other such text"
        for piece in self._pieces(text):
            if not self.truncate and (count := len(self.tokens(piece))) > MAX_WORDS:
                return (
                    f"the evaluator reads {MAX_WORDS} words, and {shortened(piece)!r} has {count} and no clause to be "
                    "cut at. Shorten it, split it into segments with --use_dense_reward, or set --truncate_text"
                )
        return None


class EvaluatorScorer:
    """Text-motion similarity by the evaluator. Terms: semantic, r_pos, r_neg, evaluator_distance, those of the mode.

    Example:
        scorer = EvaluatorScorer.from_settings(RewardSettings.of(reward_model_type="mdm"), HUMANML3D)
        scorer.score(motions).terms["semantic"]   # [N]
    """

    name = "semantic"

    def __init__(
        self,
        embedder: EvaluatorEmbedder,
        settings: RewardSettings,
        skeleton: Skeleton,
        distractors: Sequence[str] = (),
    ) -> None:
        """A scorer for motions of `skeleton`.

        Args:
            distractors: captions of the pool; with `reward_type` matching none is needed.

        Raises:
            UserError: the evaluator is of another skeleton, or there are too few distractors.
        """
        embedder.check_skeleton(skeleton)
        self.embedder = embedder
        self.settings = settings
        self.own = settings.semantic
        self._distractors = list(dict.fromkeys(distractors))
        needed = self.own.num_distractors + 1
        if self.own.reward_type != "matching" and len(self._distractors) < needed:
            raise UserError(
                f"distractors: {len(self._distractors)} different captions; num_distractors "
                f"{self.own.num_distractors} needs {needed}, one of which may be the prompt's own"
            )

    @classmethod
    def from_settings(
        cls, settings: RewardSettings, skeleton: Skeleton, texts: CheckpointSettings | None = None
    ) -> EvaluatorScorer:
        """Loads what the settings name; `texts` says whether longer texts are truncated."""
        truncate = texts is not None and texts.truncate_text
        embedder = load_evaluator_embedder(settings.semantic, skeleton, settings.reward_device, truncate)
        return cls(embedder, settings, skeleton, read_distractors(settings.semantic))

    def score(self, motions: GroupMotions) -> RewardTerms:
        """Terms [N] of one group, in the order of its samples."""
        started = time.perf_counter()
        check_motions(self.name, motions, self.embedder.evaluator.config.num_features, MIN_SEGMENT_FRAMES)
        ranges = frame_ranges(self.name, motions.prompt, motions.lengths, self.settings)
        clips = segments.cut(motions.features, ranges)
        embeddings = self.embedder.embed_motions(clips).reshape(*ranges.shape[:2], -1)
        terms = {name: value.astype(np.float32) for name, value in self._terms(motions.prompt, embeddings).items()}
        check_terms(self.name, terms, motions.prompt.text, len(motions.features))
        return RewardTerms(self.name, terms, time.perf_counter() - started)

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        """Terms of several groups, in their order."""
        return [self.score(group) for group in groups]

    def misfit(self, prompt: Prompt) -> str | None:
        """Why motions of a prompt cannot be scored: a segment of too few frames, or a text that cannot be read."""
        judged = self.settings.max_motion_length
        for place, (start, end) in enumerate(prompt.boundaries if self.own.use_dense_reward else (), start=1):
            if min(end, judged) - start < MIN_SEGMENT_FRAMES:
                return f"its segment {place} has fewer than {MIN_SEGMENT_FRAMES} of the first {judged} frames"
        found = (self.embedder.text_misfit(text) for text in judged_texts(prompt, self.own))
        return next((why for why in found if why is not None), None)

    def pool(self, text: str) -> list[str]:
        """The distractors of a text."""
        return [other for other in self._distractors if other != text][: self.own.num_distractors]

    def score_with_gradient(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        """The main term [N] of motions [N, T, D] of one prompt; see `rewards.gradients`.

        A retrieved motion has no gradient of `r_precision`, which is 1 there.

        Raises:
            RewardError: a segment has fewer than 4 frames.
        """
        ranges = frame_ranges(self.name, prompt, lengths.cpu().numpy(), self.settings)
        clips, counts = segments.cut_with_gradient(features, ranges)
        embeddings = self.embedder.embed_with_gradient(clips, counts).unflatten(0, ranges.shape[:2])
        names = judged_texts(prompt, self.own)
        texts = self._text_tensor(names, embeddings)
        if self.own.use_dense_reward:
            found, own = matching(distances(embeddings, texts)), matching(distances(texts, texts))
            return segments.dense_reward_with_gradient(found, own, self.own.alpha)
        distance = distances(embeddings[:, 0], texts)[:, 0]
        reward = matching(distance)
        if self.own.reward_type == "matching":
            return reward
        others = distances(embeddings[:, 0], self._text_tensor(self.pool(names[0]), embeddings))
        retrieved = torch.where(distance <= others.amin(dim=1), 1.0, 1.0 / (1.0 + distance))
        return self._share * reward + (1.0 - self._share) * retrieved

    @property
    def _share(self) -> float:
        """Of `matching` in the reward, beside that of being retrieved."""
        return MATCHING_SHARE if self.own.reward_type == "combined" else 0.0

    def _text_tensor(self, texts: Sequence[str], like: Tensor) -> Tensor:
        return torch.from_numpy(self.embedder.embed_texts(texts)).to(like.device)

    def _terms(self, prompt: Prompt, embeddings: np.ndarray) -> dict[str, np.ndarray]:
        """Terms from clip embeddings [N, K, E]."""
        texts = judged_texts(prompt, self.own)
        own = self.embedder.embed_texts(texts)
        if self.own.use_dense_reward:
            apart = euclidean(embeddings, own)
            similarity, texts_alike = (matching(torch.from_numpy(d)).numpy() for d in (apart, euclidean(own, own)))
            dense = segments.dense_reward(similarity, texts_alike, self.own.alpha)
            return {
                "semantic": dense.semantic,
                "r_pos": dense.r_pos,
                "r_neg": dense.r_neg,
                "margin_active": dense.margin_active,
                "logic_accuracy": dense.logic_accuracy,
                "evaluator_distance": np.diagonal(apart, axis1=1, axis2=2).mean(axis=1),
            }
        distance = euclidean(embeddings[:, 0], own)[:, 0]
        terms = {"evaluator_distance": distance}
        reward = matching(torch.from_numpy(distance)).numpy()
        if self.own.reward_type != "matching":
            others = euclidean(embeddings[:, 0], self.embedder.embed_texts(self.pool(texts[0])))
            found = distance <= others.min(axis=1)
            retrieved = np.where(found, 1.0, 1.0 / (1.0 + distance))
            reward = self._share * reward + (1.0 - self._share) * retrieved
            terms["retrieved"] = found.astype(np.float64)
        return {"semantic": reward, "r_pos": reward, "r_neg": np.zeros_like(reward)} | terms


def load_evaluator_embedder(
    settings: EvaluatorFileSettings, skeleton: Skeleton, device: str = "cpu", truncate: bool = False
) -> EvaluatorEmbedder:
    """The evaluator, its statistics and its vocabulary that the settings name, for motions of a skeleton. Arguments as
    of `EvaluatorEmbedder`.

    Raises:
        EvaluatorFileError: the weights (see `load_evaluator`).
        UserError: vocabulary, statistics or captions; the evaluator is of another skeleton; no such device.
    """
    dataset = "kit" if skeleton.name == "kit" else "t2m"
    loaded = load_evaluator(
        settings.evaluator_path or f"{dataset}/text_mot_match/model/finest.tar", settings.evaluator_stats_path, dataset
    )
    tagged = None if settings.evaluator_texts_path is None else read_tagged_captions(settings.evaluator_texts_path)
    embedder = EvaluatorEmbedder(loaded, Vocabulary.load(settings.glove_path), tagged, resolve_device(device), truncate)
    embedder.check_skeleton(skeleton)
    return embedder


def matching(distance: Tensor) -> Tensor:
    """1 - clamp(d / 10, 0, 1)."""
    return 1.0 - (distance / MAX_DISTANCE).clamp(0.0, 1.0)


def read_distractors(settings: SemanticSettings) -> list[str]:
    """The captions that motions must tell from their own text: one a line of `distractors_path`, or the captions of the
    built-in clips, taken in turn so that the first ones are of different clips.

    Raises UserError where the file does not exist.
    """
    if settings.distractors_path is None:
        groups = [captions.train for captions in load_captions().values()]
        longest = max(len(group) for group in groups)
        return [group[place] for place in range(longest) for group in groups if place < len(group)]
    path = Path(settings.distractors_path).expanduser()
    if not path.is_file():
        raise UserError(f"distractors_path {path}: no such file")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]
