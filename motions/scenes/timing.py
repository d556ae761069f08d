"""How long actions take, and the prompts of a scene: one for each actor, with segments and their frames.

A duration that the text gives holds. Any other is the median length of the clips of a dataset whose captions are most
like the action's. What happens together takes the same time.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.data.composites import join_captions
from motions.data.prompts import MAX_FRAMES, MIN_SEGMENT_FRAMES, OVERLAP_FRAMES, Prompt, Segment, seconds_to_frames
from motions.data.text_motion import TextMotion
from motions.scenes.scene import MOST_SECONDS, Action, Scene, wrong_seconds

STANDING = "a person stands still"
"""What an actor does who waits for another."""
SHORTEST_WAIT_S = 0.5
"""Shorter gaps are added to the action before."""

Encode = Callable[[Sequence[str]], np.ndarray]
"""Texts to embeddings [N, D]."""


class CaptionTimes:
    """Lengths of actions, from the clips of a dataset whose captions are nearest.

    Example:
        times = CaptionTimes(dataset.items("train"), dataset.skeleton.fps, encoder.encode_pooled)
        times.seconds("a man walks to the table")   # 3.1
    """

    def __init__(self, items: Sequence[TextMotion], fps: float, encode: Encode, *, nearest: int = 10) -> None:
        """Encodes all captions once.

        Args:
            nearest: number of captions whose clips count.

        Raises ValueError for no clips or no caption to look for.
        """
        frames: dict[str, list[int]] = {}
        for item in items:
            for caption in item.captions:
                frames.setdefault(caption, []).append(item.num_frames)
        if not frames or nearest < 1:
            raise ValueError(f"{len(frames)} captions, nearest is {nearest}; both are at least 1")
        self.captions = tuple(frames)
        self._frames = [np.array(lengths) for lengths in frames.values()]
        self._fps, self._encode, self._nearest = fps, encode, nearest
        self._embeddings = _unit(encode(self.captions))

    def seconds(self, text: str) -> float:
        """Median length in seconds of the clips of the nearest captions, at most 60."""
        places = np.argsort(-(self._embeddings @ _unit(self._encode([text]))[0]), kind="stable")[: self._nearest]
        median = float(np.median(np.concatenate([self._frames[place] for place in places])))
        return min(median / self._fps, MOST_SECONDS)


@dataclass(frozen=True, slots=True)
class ActorPrompt:
    """What an actor of a scene is to do."""

    actor: str
    part: int
    """Motions over the longest one are made in parts; 0 is the first."""
    start_frame: int
    """Frame of the scene at which it begins."""
    prompt: Prompt
    actions: tuple[tuple[int, ...], ...]
    """Of each segment: which of the scene's actions it is; none while waiting."""


@dataclass(frozen=True, slots=True)
class TimedAction:
    """An action with its place in time, in seconds from the beginning of the scene."""

    index: int
    """Of the action in the scene."""
    start: float
    end: float


def timeline(scene: Scene, seconds: Callable[[str], float]) -> list[TimedAction]:
    """When each action begins and ends.

    An action of the kind `with` belongs to the group of the action before it. A group takes as long as the longest
    duration that is given in it, else as its longest action; an action without a duration of its own takes as long as
    its group.

    Raises:
        UserError: an action of a length that is not above 0 and at most 60 s.
    """
    timed: list[TimedAction] = []
    clock = 0.0
    for group in _groups(scene.actions):
        given = [one.seconds for _, one in group if one.seconds is not None]
        length = max(given or (one.repeat * seconds(one.text) for _, one in group))
        for index, action in group:
            own = action.seconds if action.seconds is not None else length
            if wrong := wrong_seconds(own):
                raise UserError(f"actions[{index}], {action.text!r}, would last {wrong}")
            timed.append(TimedAction(index, clock, clock + own))
        clock += length
    return timed


def to_prompts(
    scene: Scene, seconds: Callable[[str], float], fps: float, *, max_frames: int = MAX_FRAMES
) -> list[ActorPrompt]:
    """The prompts of a scene, actor by actor: persons that do something.

    A repeated action is as many segments; who waits for another stands still. A motion of more than `max_frames` is
    made in parts, each a prompt of its own, to be generated one after the other. They leave room for `OVERLAP_FRAMES`
    of the part before.

    Args:
        seconds: length of an action by its caption, such as `CaptionTimes.seconds`.
        fps: frames per second of the motions.

    Raises:
        UserError: an action has fewer than 4 frames for each repetition, or more than 60 s; or a motion needs parts,
            and `max_frames` leaves no room for any.
    """
    timed = timeline(scene, seconds)
    prompts = []
    for entity in scene.entities:
        own = [one for one in timed if scene.actions[one.index].actor == entity.name]
        if not own or not entity.is_actor:
            continue
        pieces = _pieces(scene, own)
        start = round(pieces[0].start * fps)
        lengths = seconds_to_frames([piece.end - piece.start for piece in pieces], fps)
        at_once = max_frames if sum(lengths) <= max_frames else max_frames - OVERLAP_FRAMES
        if at_once < MIN_SEGMENT_FRAMES:
            raise UserError(
                f"max_frames is {max_frames}, and the motion of {entity.name!r} has {sum(lengths)} frames: its parts "
                f"need at least {OVERLAP_FRAMES + MIN_SEGMENT_FRAMES}"
            )
        segments: list[tuple[_Piece, Segment]] = []
        for piece, frames in zip(pieces, lengths, strict=True):
            if frames < MIN_SEGMENT_FRAMES * piece.repeat:
                raise UserError(
                    f"{piece.text!r} {piece.repeat} times in {frames} frames; each has at least {MIN_SEGMENT_FRAMES}"
                )
            count = max(piece.repeat, -(-frames // at_once))
            segments += [(piece, part) for part in Segment(piece.text, frames).divided([piece.text] * count)]
        for number, part in enumerate(_parts(segments, at_once)):
            prompt = Prompt(_text(part), tuple(segment for _, segment in part))
            actions = tuple(piece.actions for piece, _ in part)
            prompts.append(ActorPrompt(entity.name, number, start, prompt, actions))
            start += prompt.num_frames
    return prompts


def save_scene_prompts(path: str | Path, prompts: Sequence[ActorPrompt], fps: float) -> None:
    """Writes prompts as JSON lines that `load_prompts` reads, with actor, part and first frame besides."""
    lines = [json.dumps({"metadata": {"fps": fps}})]
    for one in prompts:
        segments = [
            {"text": part.text, "num_frames": part.num_frames, "actions": list(actions)}
            for part, actions in zip(one.prompt.segments, one.actions, strict=True)
        ]
        record = {"text": one.prompt.text, "segments": segments}
        record |= {"actor": one.actor, "part": one.part, "start_frame": one.start_frame}
        lines.append(json.dumps(record, ensure_ascii=False))
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of time of one actor."""

    text: str
    start: float
    end: float
    repeat: int = 1
    actions: tuple[int, ...] = ()


def _groups(actions: Sequence[Action]) -> list[list[tuple[int, Action]]]:
    """Actions that happen together."""
    groups: list[list[tuple[int, Action]]] = []
    for index, action in enumerate(actions):
        if action.start == "with" and groups:
            groups[-1].append((index, action))
        else:
            groups.append([(index, action)])
    return groups


def _pieces(scene: Scene, own: Sequence[TimedAction]) -> list[_Piece]:
    """An actor's time without gaps; what it does at the same time is one piece."""
    pieces: list[_Piece] = []
    for one in own:
        action = scene.actions[one.index]
        if pieces and one.start < pieces[-1].end - 1e-9 and pieces[-1].text != STANDING:
            last = pieces[-1]
            text = f"{last.text} and {_without_subject(action.text, scene.entity(action.actor).noun)}"
            repeat, actions = max(last.repeat, action.repeat), (*last.actions, one.index)
            pieces[-1] = _Piece(text, last.start, max(last.end, one.end), repeat, actions)
            continue
        if pieces and one.start - pieces[-1].end > 1e-9:
            gap = one.start - pieces[-1].end
            if gap >= SHORTEST_WAIT_S:
                pieces.append(_Piece(STANDING, pieces[-1].end, one.start))
            else:
                pieces[-1] = replace(pieces[-1], end=one.start)
        pieces.append(_Piece(action.text, one.start, one.end, action.repeat, (one.index,)))
    return pieces


def _without_subject(text: str, noun: str) -> str:
    for start in (f"a {noun} ", f"an {noun} ", "a person "):
        if text.startswith(start):
            return text.removeprefix(start)
    return text


def _text(segments: Sequence[tuple[_Piece, Segment]]) -> str:
    """The sentence of a prompt: each action once, with the number of its repetitions."""
    said = []
    for piece, group in itertools.groupby(segments, key=lambda one: one[0]):
        number = len(list(group)) if piece.repeat > 1 else 1
        said.append(piece.text + ("" if number == 1 else " twice" if number == 2 else f" {number} times"))
    return join_captions(said)


def _parts(segments: Sequence[tuple[_Piece, Segment]], max_frames: int) -> list[list[tuple[_Piece, Segment]]]:
    """Consecutive segments of at most so many frames together."""
    parts: list[list[tuple[_Piece, Segment]]] = [[]]
    for one in segments:
        if parts[-1] and sum(part.num_frames for _, part in parts[-1]) + one[1].num_frames > max_frames:
            parts.append([])
        parts[-1].append(one)
    return parts


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
