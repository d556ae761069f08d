"""How long the segment-dense reward takes, against one encoder call per pair of segment and text.

    python -m benchmarks.rewards [--samples 64] [--segments 3] [--repeats 3] [--json PATH] [--check]

A TMR of the published size with random weights scores N motions of 195 frames of one prompt of K segments. Measured is
the processor time of one thread, which other processes do not lengthen, the least of some repeats in turn:

    reward    `SemanticScorer.score`: one call for all N*K segments, each text encoded once
    pairs     the same numbers by one call of the motion encoder and one of the text encoder per (segment, text) pair,
              as in MDM-GRPO (jufan666/text-to-motion); the tokens of the texts are given to it
    encoder   the forward of all N*K segments alone

Targets: pairs / reward is at least 5, reward / encoder at most 1.3, and both rewards are equal. With --check, a missed
target gives exit code 1 and is named on the last line.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.learning import write_json
from motions.data.prompts import Prompt, Segment
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D
from rewards.settings import RewardSettings
from rewards.tmr import segments
from rewards.tmr.network import TMR, TMRConfig
from rewards.tmr.scorer import Embedder, SemanticScorer
from rewards.tmr.similarity import cosine
from rollouts.messages import GroupMotions

NUM_FRAMES = 195
LEAST_GAIN, MOST_OVERHEAD = 5.0, 1.3


class FixedTokens:
    """A text encoder whose tokens cost nothing: the benchmark is about the reward's own networks."""

    name, fingerprint, max_tokens, truncate = "fixed", "fixed", 64, False

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def num_tokens(self, text: str) -> int:
        """Number of words."""
        return len(text.split())

    def encode_tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """[number of words, dim] of each text."""
        rng = np.random.default_rng(0)
        return [rng.standard_normal((self.num_tokens(text), self.dim)).astype(np.float32) for text in texts]


def group_of(num_samples: int, num_segments: int) -> GroupMotions:
    """Random motions of one prompt of equal segments."""
    texts = [f"a person does the action of number {number}" for number in range(num_segments)]
    ends = np.linspace(0, NUM_FRAMES, num_segments + 1).astype(int)
    parts = tuple(Segment(text, int(frames)) for text, frames in zip(texts, np.diff(ends), strict=True))
    features = np.random.default_rng(1).standard_normal((num_samples, NUM_FRAMES, HUMANML3D.num_features))
    lengths = np.full(num_samples, NUM_FRAMES)
    return GroupMotions(features.astype(np.float32), lengths, Prompt(", then ".join(texts), parts), 0, 0.0)


def reward_by_pairs(embedder: Embedder, group: GroupMotions, alpha: float) -> np.ndarray:
    """R_sem [N] with one call of each encoder for every (segment, text) pair, of motions and of texts alike."""
    texts = [segment.text for segment in group.prompt.segments]

    def text_latent(text: str) -> np.ndarray:
        # The embedder keeps what it has encoded; each pair encodes anew.
        return Embedder(embedder.tmr, embedder.text_encoder).embed_texts([text])

    margins = np.array([[cosine(text_latent(one), text_latent(other))[0, 0] for other in texts] for one in texts])
    scores = np.array(
        [
            [
                [cosine(embedder.embed_motions([motion[start:end]]), text_latent(text))[0, 0] for text in texts]
                for start, end in group.prompt.boundaries
            ]
            for motion in group.features
        ]
    )
    return segments.dense_reward(scores, margins, alpha).semantic


def seconds_of(action: Callable[[], object]) -> float:
    """Processor time of a call."""
    started = time.process_time()
    action()
    return time.process_time() - started


def measure(num_samples: int, num_segments: int, repeats: int, config: TMRConfig) -> dict[str, float]:
    """Seconds of the three ways, their ratios, and the largest difference of the two rewards."""
    torch.manual_seed(0)
    normalizer = Normalizer(np.zeros(config.num_features), np.ones(config.num_features))
    embedder = Embedder(TMR(config, normalizer, "fixed", with_decoder=False), FixedTokens(config.text_dim))
    settings = RewardSettings.of(use_dense_reward=True)
    group = group_of(num_samples, num_segments)
    clips = [motion[start:end] for motion in group.features for start, end in group.prompt.boundaries]
    padded, lengths = (torch.from_numpy(part) for part in segments.pad(clips))

    def forward() -> None:
        with torch.inference_mode():
            embedder.tmr.encode_motion(padded, lengths)

    def reward() -> np.ndarray:
        # A new embedder has no text in its memory.
        own = SemanticScorer(Embedder(embedder.tmr, embedder.text_encoder), settings, HUMANML3D)
        return own.score(group).terms["semantic"]

    def pairs() -> np.ndarray:
        return reward_by_pairs(embedder, group, settings.semantic.alpha)

    difference = float(np.abs(reward() - pairs()).max())
    times: dict[str, list[float]] = {"reward": [], "pairs": [], "encoder": []}
    for _ in range(repeats):
        for name, action in (("reward", reward), ("encoder", forward), ("pairs", pairs)):
            times[name].append(seconds_of(action))
    best = {f"{name}_s": min(values) for name, values in times.items()}
    return best | {
        "gain": best["pairs_s"] / best["reward_s"],
        "overhead": best["reward_s"] / best["encoder_s"],
        "difference": difference,
    }


def missed(found: dict[str, float]) -> list[str]:
    """Targets that are missed, one line each."""
    lines = []
    if found["gain"] < LEAST_GAIN:
        lines.append(f"the reward is {found['gain']:.1f} times as fast as pair by pair; target {LEAST_GAIN:g}")
    if found["overhead"] > MOST_OVERHEAD:
        lines.append(f"the reward takes {found['overhead']:.2f} of the encoder's own time; target {MOST_OVERHEAD:g}")
    if found["difference"] > 1e-4:
        lines.append(f"the rewards differ by {found['difference']:.2g}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    found = measure(options.samples, options.segments, options.repeats, TMRConfig())
    print(f"K = {options.segments}, N = {options.samples}, processor time of one thread:")
    for name, value in found.items():
        print(f"  {name:<12} {value:.3g}")
    if options.json is not None:
        write_json(options.json, found)
    lines = missed(found)
    if options.check and lines:
        print("missed: " + "; ".join(lines))
        return 1
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rewards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=64, help="motions N")
    parser.add_argument("--segments", type=int, default=3, help="segments K of the prompt")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a target is missed")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
