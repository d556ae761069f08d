"""The hand-written captions: enough of them, in three groups that share none, true to the clip's sides."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from motions.data.captions import CAPTION_GROUPS, CAPTIONS_PATH, load_captions
from motions.humanoid.mocap import CLIP_NAMES
from motions.skeleton.mirroring import mirror_caption


def words(texts: tuple[str, ...]) -> set[str]:
    return set(re.findall(r"[a-z]+", " ".join(texts)))


def test_every_clip_has_enough_captions() -> None:
    captions = load_captions()
    assert tuple(captions) == CLIP_NAMES
    for clip, groups in captions.items():
        sizes = [len(groups.group(name)) for name in CAPTION_GROUPS]
        assert sizes[0] >= 8 and sizes[1] >= 4 and sizes[2] >= 2, clip


def test_held_out_captions_use_known_words() -> None:
    """A policy can understand them: every word occurs in training captions, the sentence does not."""
    captions = load_captions()
    known = words(tuple(text for groups in captions.values() for text in groups.train))
    for clip, groups in captions.items():
        assert words(groups.test) <= known, (clip, words(groups.test) - known)
        assert not set(groups.test) & set(groups.train + groups.judge)


def test_captions_read_like_captions() -> None:
    for groups in load_captions().values():
        for text in groups.train + groups.judge + groups.test:
            assert re.fullmatch(r"[a-z][a-z, -]+[a-z]", text), text
            assert 3 <= len(text.split()) <= 20, text


@pytest.mark.parametrize(("clip", "side"), [("kick", "right"), ("punch", "right"), ("cartwheel", "left")])
def test_sides_are_named_and_swap(clip: str, side: str) -> None:
    groups = load_captions()[clip]
    sided = [text for text in groups.train if side in text.split()]
    other = {"left": "right", "right": "left"}[side]
    assert len(sided) >= 2
    for text in sided:
        assert other in mirror_caption(text).split() and mirror_caption(mirror_caption(text)) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("walk"), r"expected backflip, cartwheel"),
        (lambda content: content.update(swim={}), r"has clips .*'swim'"),
        (lambda content: content["walk"].pop("judge"), r"walk must have the groups train, judge, test"),
        (lambda content: content["walk"].update(val=["a"]), r"walk must have the groups"),
        (lambda content: content["walk"].update(test=[]), r"walk\.test must be a list of captions"),
        (lambda content: content["walk"].update(test=[3]), r"walk\.test must be a list of captions"),
        (
            lambda content: content["run"]["test"].append(content["walk"]["train"][0]),
            r"'a person walks forward at a normal pace' is a caption of run\.test and of walk\.train",
        ),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, change, message: str) -> None:
    content = yaml.safe_load(CAPTIONS_PATH.read_text())
    change(content)
    path = tmp_path / "captions.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        load_captions(path)
    path.write_text("a: [")
    load_captions.cache_clear()
    with pytest.raises(ValueError, match=r"captions\.yaml is not YAML"):
        load_captions(path)
