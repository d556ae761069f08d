"""The hand-written captions of the built-in clips, in three groups that have no caption in common.

`train` is for policies and the TMR that rewards them, `judge` for the separate TMR that evaluates them, and `test` is
held out from both. They live in `captions.yaml`, beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from motions.humanoid.mocap import CLIP_NAMES

CaptionGroup = Literal["train", "judge", "test"]
CAPTION_GROUPS: tuple[CaptionGroup, ...] = ("train", "judge", "test")

CAPTIONS_PATH = Path(__file__).with_name("captions.yaml")


@dataclass(frozen=True, slots=True)
class ClipCaptions:
    """The captions of one clip by group."""

    train: tuple[str, ...]
    judge: tuple[str, ...]
    test: tuple[str, ...]

    def group(self, name: CaptionGroup) -> tuple[str, ...]:
        """The captions of one group."""
        return {"train": self.train, "judge": self.judge, "test": self.test}[name]


@cache
def load_captions(path: Path = CAPTIONS_PATH) -> dict[str, ClipCaptions]:
    """Captions by clip name, for all built-in clips.

    Raises:
        ValueError: not YAML, a clip missing or unknown, a group missing, empty or unknown, or a caption that occurs
            twice (within a group it would be over-represented, in two groups it would leak into the evaluation).
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict) or set(content) != set(CLIP_NAMES):
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} has clips {found}; expected {', '.join(CLIP_NAMES)}")
    captions: dict[str, ClipCaptions] = {}
    seen: dict[str, str] = {}
    for clip in CLIP_NAMES:
        groups = _groups(path, clip, content[clip])
        for group, texts in groups.items():
            for text in texts:
                place = f"{clip}.{group}"
                if text in seen:
                    raise ValueError(f"{path}: {text!r} is a caption of {seen[text]} and of {place}")
                seen[text] = place
        captions[clip] = ClipCaptions(groups["train"], groups["judge"], groups["test"])
    return captions


def _groups(path: Path, clip: str, content: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(content, dict) or set(content) != set(CAPTION_GROUPS):
        raise ValueError(f"{path}: {clip} must have the groups {', '.join(CAPTION_GROUPS)} and no others")
    groups: dict[str, tuple[str, ...]] = {}
    for group in CAPTION_GROUPS:
        texts = content[group]
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"{path}: {clip}.{group} must be a list of captions")
        groups[group] = tuple(texts)
    return groups
