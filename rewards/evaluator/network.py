"""The evaluator of Guo et al. (2022): recurrent encoders that put texts and motions into one space, by distance.

Its parameters have the names of the public code (EricGuo5513/text-to-motion), so that its files load as they are.
Unlike there, results come in the order of the inputs; the public code sorts by length and leaves the result so, whereby
MDM-GRPO (jufan666/text-to-motion) gives a sample another one's reward.

Legend: B batch, T frames, D motion features, L words, W width of a word vector (300), P classes of words (15), E width
of the embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from motions.skeleton.normalization import Normalizer

FRAMES_PER_STEP = 4
"""Frames that become one step of the motion encoder."""
PADDED_FRAMES = 196
"""Frames of a motion in the public data loader, which pads shorter ones."""
NUM_CONTACTS = 4
"""Last features of a motion, the contacts of the feet, which it does not read."""


@dataclass(frozen=True, slots=True)
class EvaluatorConfig:
    """Sizes; the defaults are those of the published HumanML3D evaluator."""

    num_features: int = 263
    word_dim: int = 300
    num_classes: int = 15
    movement_hidden: int = 512
    movement_dim: int = 512
    text_hidden: int = 512
    motion_hidden: int = 1024
    embedding_dim: int = 512


class MovementEncoder(nn.Module):
    """Two strided convolutions over time, without the contacts: four frames become one step."""

    def __init__(self, config: EvaluatorConfig) -> None:
        super().__init__()
        channels = config.num_features - NUM_CONTACTS
        # Places 1 and 4 have dropout in the public code, which evaluation does not use.
        self.main = nn.Sequential(
            nn.Conv1d(channels, config.movement_hidden, 4, stride=2, padding=1),
            nn.Identity(),
            nn.LeakyReLU(0.2),
            nn.Conv1d(config.movement_hidden, config.movement_dim, 4, stride=2, padding=1),
            nn.Identity(),
            nn.LeakyReLU(0.2),
        )
        self.out_net = nn.Linear(config.movement_dim, config.movement_dim)

    def forward(self, motions: Tensor) -> Tensor:
        """[B, T, D] normalised -> [B, T // 4, movement_dim]."""
        steps = self.main(motions[..., :-NUM_CONTACTS].transpose(1, 2)).transpose(1, 2)
        return self.out_net(steps)


class BiGRU(nn.Module):
    """A bidirectional GRU with a learned first state, whose two last states become an embedding."""

    def __init__(self, input_dim: int, hidden: int, embedding_dim: int) -> None:
        super().__init__()
        self.input_emb = nn.Linear(input_dim, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.output_net = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, embedding_dim)
        )
        self.hidden = nn.Parameter(torch.randn(2, 1, hidden))

    def forward(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """sequence [B, L, input_dim], lengths [B] -> [B, E]; what is beyond a length is not seen."""
        packed = pack_padded_sequence(self.input_emb(sequence), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed, self.hidden.repeat(1, len(sequence), 1))
        return self.output_net(torch.cat([last[0], last[1]], dim=1))


class TextBiGRU(BiGRU):
    """The text encoder: word vectors plus an embedding of their classes."""

    def __init__(self, config: EvaluatorConfig) -> None:
        super().__init__(config.word_dim, config.text_hidden, config.embedding_dim)
        self.pos_emb = nn.Linear(config.num_classes, config.word_dim)


class Evaluator(nn.Module):
    """The three networks with the statistics that their motions are normalised by.

    Args:
        normalizer: the evaluator's own statistics (`t2m_mean.npy`, `t2m_std.npy`), not the policy's.

    Raises:
        ValueError: statistics of another width.
    """

    def __init__(self, config: EvaluatorConfig, normalizer: Normalizer) -> None:
        super().__init__()
        if normalizer.num_features != config.num_features:
            raise ValueError(f"statistics of {normalizer.num_features} numbers, {config.num_features} features")
        self.config = config
        self.normalizer = normalizer
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.movement_encoder = MovementEncoder(config)
            self.motion_encoder = BiGRU(config.movement_dim, config.motion_hidden, config.embedding_dim)
            self.text_encoder = TextBiGRU(config)

    def encode_text(self, words: Tensor, classes: Tensor, lengths: Tensor) -> Tensor:
        """Word vectors [B, L, W], one-hot classes [B, L, P] and numbers of words [B] -> [B, E]."""
        return self.text_encoder(words + self.text_encoder.pos_emb(classes), lengths)

    def encode_motion(self, motions: Tensor, lengths: Tensor) -> Tensor:
        """Motions [B, T, D] in physical units with lengths [B] of at least 4 frames -> [B, E].

        Frames beyond the last whole four are cut, as the public data loader does; then zeros follow up to its 196
        frames. The last step of a motion sees four of them, so here no more are made.
        """
        whole = lengths.to(motions.device) // FRAMES_PER_STEP * FRAMES_PER_STEP
        longest = int(whole.max())
        width = max(longest, min(longest + FRAMES_PER_STEP, PADDED_FRAMES))
        motions = F.pad(motions[:, :longest], (0, 0, 0, width - longest))
        valid = torch.arange(width, device=motions.device) < whole[:, None]
        normalised = self.normalizer.normalize(motions) * valid.unsqueeze(2)
        return self.motion_encoder(self.movement_encoder(normalised), whole // FRAMES_PER_STEP)
