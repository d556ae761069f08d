"""What a composed policy reads of prompts: one text for each of their segments.

A prompt's own segments are used. What would not fit is cut into more of them: a text over the text encoder's limit at
the ends of its sentences and clauses, with an equal share of the frames for each piece, and a segment of more frames
than a crop may have into equal ones with the same text.

A policy that is not composed reads one text for all frames. Where that is over the limit, it reads the texts of the
segments, or the pieces, together: the mean of their embeddings, or all of their tokens. Nothing is cut off.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Sequence

import numpy as np

from motions.base.errors import UserError
from motions.data.composites import split_caption
from motions.data.prompts import MIN_SEGMENT_FRAMES, Prompt, Segment
from rollouts.messages import TextCondition, TextForm
from rollouts.text.encoders import TextEncoder

logger = logging.getLogger(__name__)

_CLAUSE_END = re.compile(r",\s+(?:and\s+)?|\s+and\s+|\s+(?=while\s|with\s)")


def composed_conditions(
    encoder: TextEncoder, prompts: Sequence[Prompt], form: TextForm, max_frames: int, overlap: int
) -> list[TextCondition]:
    """The condition of each prompt: of its text where one segment is enough, else of the texts of its segments.

    Args:
        form: what the network reads.
        max_frames: most frames of a crop.
        overlap: frames that a crop reaches beyond its segment on either side.

    Raises:
        PromptTooLongError: a text is over the text encoder's limit and has no clause to be cut at.
        UserError: the overlap leaves no room for a segment, or the encoder has no embeddings of that form.
    """
    cut = [segments_to_read(prompt, encoder, max_frames, overlap) for prompt in prompts]
    rows = iter(encoder.conditions([segment.text for segments in cut for segment in segments], form))
    return [_joined(segments, list(itertools.islice(rows, len(segments)))) for segments in cut]


def pooled_conditions(encoder: TextEncoder, prompts: Sequence[Prompt], form: TextForm) -> list[TextCondition]:
    """The condition of each prompt's whole text; of one over the text encoder's limit by its segments or clauses, as
    the mean of their embeddings or as all of their tokens. A warning counts these.

    Args:
        form: what the network reads.

    Raises:
        PromptTooLongError: a text is over the limit and has no clause to be cut at.
        UserError: the encoder has no embeddings of that form.
    """
    read = [_texts_to_read(prompt, encoder) for prompt in prompts]
    if split := [prompt for prompt, texts in zip(prompts, read, strict=True) if len(texts) > 1]:
        logger.warning(
            "%d of %d prompts are over the %d tokens that text_encoder %s reads, such as %.60r: they are read by "
            "segment or clause, %s",
            *(len(split), len(prompts), encoder.max_tokens, encoder.name, split[0].text),
            "as the mean of their embeddings" if form == "pooled" else "all of their tokens together",
        )
    rows = iter(encoder.conditions([text for texts in read for text in texts], form))
    return [_together(list(itertools.islice(rows, len(texts))), form) for texts in read]


def _texts_to_read(prompt: Prompt, encoder: TextEncoder) -> list[str]:
    if encoder.truncate or encoder.num_tokens(prompt.text) <= encoder.max_tokens:
        return [prompt.text]
    parts = [segment.text for segment in prompt.segments] if len(prompt.segments) > 1 else [prompt.text]
    return [piece for part in parts for piece in pieces_of(part, encoder.num_tokens, encoder.max_tokens)]


def _together(rows: Sequence[TextCondition], form: TextForm) -> TextCondition:
    if len(rows) == 1:
        return rows[0]
    values = np.concatenate([row.values for row in rows])
    return TextCondition(values.mean(axis=0, keepdims=True) if form == "pooled" else values)


def pieces_of(text: str, count: Callable[[str], int], most: int) -> list[str]:
    """The text in pieces, cut at the ends of its sentences and clauses where it counts more than `most`; a piece that
    has no such end may count more.

    Args:
        count: tokens or words of a text.
    """
    actions = [text] if count(text) <= most else split_caption(text)
    return [piece for action in actions for piece in _halved(action, count, most)]


def segments_to_read(prompt: Prompt, encoder: TextEncoder, max_frames: int, overlap: int) -> tuple[Segment, ...]:
    """The segments that a prompt is denoised in; a single one has the prompt's own text. Arguments and errors as in
    `composed_conditions`."""
    segments = prompt.segments if len(prompt.segments) > 1 else (Segment(prompt.text, prompt.num_frames),)
    pieces = [piece for segment in segments for piece in _fitting_texts(segment, encoder)]
    if len(pieces) == 1 and prompt.num_frames <= max_frames:
        return tuple(pieces)
    longest = max_frames - 2 * overlap
    if longest < MIN_SEGMENT_FRAMES:
        raise UserError(
            f"composite_overlap is {overlap}: with it on both sides, a segment of {MIN_SEGMENT_FRAMES} frames is over "
            f"the {max_frames} frames that the policy makes at a time"
        )
    return tuple(part for piece in pieces for part in piece.divided([piece.text] * -(-piece.num_frames // longest)))


def _fitting_texts(segment: Segment, encoder: TextEncoder) -> list[Segment]:
    """The segment, or one for each piece of its text if that is too long; as it is where it cannot be cut."""
    if encoder.truncate:
        return [segment]
    texts = pieces_of(segment.text, encoder.num_tokens, encoder.max_tokens)
    if segment.num_frames < MIN_SEGMENT_FRAMES * len(texts):
        return [segment]
    return list(segment.divided(texts))


def _halved(text: str, count: Callable[[str], int], most: int) -> list[str]:
    """The text, cut at the clause that ends nearest to its middle until all pieces are short enough."""
    ends = list(_CLAUSE_END.finditer(text)) if count(text) > most else []
    if not ends:
        return [text]
    end = min(ends, key=lambda found: abs(found.start() + found.end() - len(text)))
    return [piece for half in (text[: end.start()], text[end.end() :]) for piece in _halved(half, count, most)]


def _joined(segments: Sequence[Segment], rows: Sequence[TextCondition]) -> TextCondition:
    """One condition of K texts, padded to the longest."""
    if len(rows) == 1:
        return rows[0]
    lengths = [len(row.values) for row in rows]
    values = np.zeros((len(rows), max(lengths), rows[0].values.shape[1]), np.float32)
    for place, row in zip(values, rows, strict=True):
        place[: len(row.values)] = row.values
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ends = np.cumsum([segment.num_frames for segment in segments]).tolist()
    boundaries = tuple(zip([0, *ends[:-1]], ends, strict=True))
    return TextCondition(values, None if mask.all() else mask, boundaries)
