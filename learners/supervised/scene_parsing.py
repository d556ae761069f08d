"""Training of a parser of scenes: cross entropy of the tokens of a line, given a text (Raffel et al. 2020).

Legend: B examples, L tokens of a text, M tokens of a line.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learners.optimizer import DivergenceError, Optimizer, OptimizerOptions
from learners.supervised.resumable import ResumableLearner
from learners.supervised.settings import SceneParsingSettings
from rollouts.text.scene_parser import SceneParser, padded

IGNORED = -100
"""Label of padding, which PyTorch's cross entropy leaves out."""


@dataclass(frozen=True, slots=True)
class ParserBatch:
    """B texts and their lines, as token ids."""

    texts: Tensor
    """[B, L] int64."""
    mask: Tensor
    """[B, L] int64, 1 at tokens."""
    labels: Tensor
    """[B, M] int64, `IGNORED` in padding."""


def parser_batch(texts: Sequence[Sequence[int]], lines: Sequence[Sequence[int]], pad: int) -> ParserBatch:
    """A batch of token ids that `SceneParser.encode` gives."""
    ids, mask = padded(texts, pad)
    labels, real = padded(lines, pad)
    return ParserBatch(ids, mask, labels.masked_fill(real == 0, IGNORED))


class SceneParsingLearner(ResumableLearner):
    """Trains a T5 to write the scenes of texts.

    Example:
        learner = SceneParsingLearner(parser, settings, total_steps=1000, seed=0)
        metrics = learner.update(batch)
    """

    kind = "scene_parsing"

    def __init__(self, parser: SceneParser, settings: SceneParsingSettings, total_steps: int, seed: int) -> None:
        """Trains the network of `parser`; a cosine falls over `total_steps`, those of the whole training."""
        self.parser = parser
        parameters = dict(parser.model.named_parameters())
        options = OptimizerOptions(**settings.optimizer_options(total_steps))
        super().__init__(parameters, Optimizer(parameters, options), seed)

    def update(self, batch: ParserBatch) -> dict[str, float]:
        """One optimizer step. Returns loss, grad_norm, learning_rate and seconds_update.

        Raises:
            DivergenceError: the loss or a gradient is not finite; the weights are unchanged.
        """
        start = time.perf_counter()
        learning_rate = self._optimizer.learning_rate
        self.parser.model.train()
        loss = self._loss(batch)
        if not bool(loss.isfinite()):
            raise DivergenceError(f"step {self.num_steps}: the loss is {loss.item()}; the weights were not changed")
        self._optimizer.zero_grad()
        loss.backward()
        grad_norm = self._optimizer.step()
        self.num_steps += 1
        return {
            "loss": loss.item(),
            "grad_norm": grad_norm,
            "learning_rate": learning_rate,
            "seconds_update": time.perf_counter() - start,
        }

    @torch.inference_mode()
    def validate(self, batches: Sequence[ParserBatch]) -> float:
        """Mean loss of a token over held-out batches."""
        self.parser.model.eval()
        counts = [int((batch.labels != IGNORED).sum()) for batch in batches]
        losses = [self._loss(batch).item() for batch in batches]
        return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)

    def _loss(self, batch: ParserBatch) -> Tensor:
        device = self.parser.model.device
        output = self.parser.model(
            input_ids=batch.texts.to(device), attention_mask=batch.mask.to(device), labels=batch.labels.to(device)
        )
        return output.loss
