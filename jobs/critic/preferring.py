"""Makes pairs of motions and the page on which a person chooses between them: what `jobs.prefer` does."""

from __future__ import annotations

import hashlib
import html
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np

from jobs.critic.settings import PreferConfig
from jobs.report.document import PALETTES, PlayerView, asset, embedded, motion_data, skeleton_data, stage
from jobs.report.gallery import PAGE as GALLERY
from jobs.report.viewing import has_display, new_folder, read_inputs
from learners.supervised.choices import MOTIONS, save_motions
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.files.motion import Motion
from motions.files.reading import MotionReader
from motions.files.writing import PAGE, check_free
from rewards.critic.scoring import poses_of_motion

FOLDER = Path("outputs/pairs")
_VIEWS = (
    PlayerView("left", "Left motion", "← Left", "after"),
    PlayerView("right", "Right motion", "Right →", "after"),
)
_CONTROLS = """<section class="card choosing" id="choosing" aria-label="Your choice">
<p><progress data-bar value="0" max="1"></progress> <span data-progress aria-live="polite"></span></p>
<p class="answers">
<button data-answer="left">← Left is better</button>
<button data-answer="equal">↓ Equal</button>
<button data-answer="right">Right is better →</button>
<button data-answer="skip">S Skip</button>
<button data-back>⌫ Back</button>
<button data-save>Save choices.json</button>
</p>
<p data-note aria-live="polite"></p>
</section>"""
_TEXT = (
    "Which of the two looks better? Keys: left and right arrow choose, down arrow means equal, S skips, Backspace goes "
    "back, the space bar plays and pauses. Answers stay in this browser until you clear its data."
)
_STYLE = """
#prompts { display: none; }
.choosing { margin-top: .8rem; } .choosing p { max-width: none; margin: .3rem 0; } .choosing progress { width: 60%; }
.answers { display: flex; flex-wrap: wrap; gap: .5rem; }
"""


@dataclass(frozen=True, slots=True)
class Question:
    """Two motions, by their places in a list."""

    left: int
    right: int
    again: bool
    """Whether the pair was asked before."""


def run(config: PreferConfig) -> None:
    """Writes page and motions, says what comes next, and opens the page."""
    motions, questions, folder = prepare(config)
    poses = {motion.name: poses_of_motion(motion) for motion in motions}
    identity = identity_of(motions, questions)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"save_dir {folder}: {error.strerror}") from error
    save_motions(folder, identity, poses)
    with atomic_write(folder / PAGE) as file:
        file.write(page(motions, questions, identity, folder).encode())
    print(described(motions, questions))
    print(f"page: {folder / PAGE}")
    print("when you have saved your choices: python -m jobs.train_critic --pairs choices.json --save_dir runs/taste")
    if config.open and has_display():
        webbrowser.open((folder / PAGE).absolute().as_uri())


def plan(config: PreferConfig) -> None:
    """Reads the motions and says what would be written."""
    motions, questions, folder = prepare(config)
    print(described(motions, questions))
    for name in (PAGE, MOTIONS):
        print(f"would write {folder / name}")


def prepare(config: PreferConfig) -> tuple[list[Motion], list[Question], Path]:
    """The motions of all pairs, the pairs in the order in which they are asked, and the folder for the files.

    Raises:
        UserError: a file cannot be read, no two motions can be compared, or a file of the same name exists.
    """
    motions = read_inputs(config.inputs, MotionReader(config.files, config.max_motions))
    folder = config.save_dir or new_folder(FOLDER, config.inputs[0])
    check_free(folder, [PAGE, MOTIONS])
    if config.seconds is not None:
        motions = [short for motion in motions if (short := cut(motion, config.seconds)) is not None]
    rng = np.random.default_rng(config.seed)
    pairs = make_pairs(motions, config.num_pairs, rng)
    if not pairs:
        cause = (
            "there are fewer than two" if len(motions) < 2 else "no two are of the same prompt, body, fps and length"
        )
        long = "" if config.seconds is None else f" that are {config.seconds:g} s long"
        raise UserError(
            f"{', '.join(map(str, config.inputs))}: of {len(motions)} motions{long} {cause}; --seconds cuts motions to "
            "one length"
        )
    used = sorted({place for pair in pairs for place in pair})
    at = {place: index for index, place in enumerate(used)}
    questions = ask([(at[one], at[other]) for one, other in pairs], config.repeat_share, rng)
    return [motions[place] for place in used], questions, folder


def cut(motion: Motion, seconds: float) -> Motion | None:
    """The first seconds of a motion, at least 4 frames; None if it has fewer."""
    frames = max(round(seconds * motion.fps), 4)
    if len(motion.joints) < frames:
        return None
    spans = tuple((text, start, min(end, frames)) for text, start, end in motion.spans if start < frames)
    turns = None if motion.turns is None else motion.turns[:frames]
    return replace(motion, joints=motion.joints[:frames], spans=spans, turns=turns)


def make_pairs(motions: Sequence[Motion], most: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Pairs of motions that can be compared, by their places.

    In each round every motion is in one pair, if its group has an even number; a further round is begun only when the
    one before has given too few. So pairs share motions no sooner than they must.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, motion in enumerate(motions):
        texts = tuple(text for text, _, _ in motion.spans)
        groups.setdefault((texts, motion.skeleton, motion.fps, len(motion.joints)), []).append(place)
    possible = sum(len(group) * (len(group) - 1) // 2 for group in groups.values())
    found: dict[tuple[int, int], None] = {}
    while len(found) < min(most, possible):
        fresh = []
        for group in groups.values():
            order = rng.permutation(group).tolist()
            fresh += [(min(pair), max(pair)) for pair in list(pairwise(order))[::2]]
        rng.shuffle(fresh)
        found |= dict.fromkeys((int(one), int(other)) for one, other in fresh)
    return list(found)[:most]


def ask(pairs: Sequence[tuple[int, int]], repeat_share: float, rng: np.random.Generator) -> list[Question]:
    """Questions with random sides; repetitions come in the second half, of pairs of the first, with sides exchanged."""
    flipped = rng.random(len(pairs)) < 0.5
    questions = [
        Question(*(pair[::-1] if flip else pair), again=False) for pair, flip in zip(pairs, flipped, strict=True)
    ]
    half = (len(questions) + 1) // 2
    number = min(round(repeat_share * len(questions)), half)
    repeated = [questions[place] for place in rng.choice(half, number, replace=False)]
    for question in repeated:
        place = int(rng.integers(half, len(questions) + 1))
        questions.insert(place, Question(question.right, question.left, again=True))
    return questions


def identity_of(motions: Sequence[Motion], questions: Sequence[Question]) -> str:
    """SHA-256 of motions and questions, by which the browser and a file of choices know the page."""
    digest = hashlib.sha256(repr(questions).encode())
    for motion in motions:
        digest.update(motion.name.encode() + b"\0" + motion.joints.tobytes())
    return digest.hexdigest()


def described(motions: Sequence[Motion], questions: Sequence[Question]) -> str:
    """The numbers of motions and pairs."""
    again = sum(question.again for question in questions)
    return f"{len(questions) - again} pairs of {len(motions)} motions, {again} of them asked again"


def page(motions: Sequence[Motion], questions: Sequence[Question], identity: str, folder: Path) -> str:
    """The page as HTML text."""
    skeletons = list(dict.fromkeys(motion.skeleton for motion in motions))
    data = {
        "id": identity,
        "folder": str(folder.absolute()),
        "skeletons": [skeleton_data(skeleton) for skeleton in skeletons],
        "palettes": {view.name: PALETTES["after"] for view in _VIEWS},
        "motions": [
            motion_data(motion.joints, motion.skeleton.num_joints, motion.fps, skeletons.index(motion.skeleton))
            for motion in motions
        ],
        "names": [motion.name for motion in motions],
        "segments": [
            [{"text": text, "start": start, "end": end} for text, start, end in motion.spans] for motion in motions
        ],
        "questions": [[question.left, question.right, question.again] for question in questions],
    }
    return GALLERY.format(
        title="Which motion looks better?",
        style=asset("page.css") + _STYLE,
        stage=stage("", html.escape(_TEXT), "Prompts", _VIEWS) + _CONTROLS,
        data=embedded(data),
        more="",
        scripts=asset("viewer.js") + resources.files("jobs.critic").joinpath("choosing.js").read_text(encoding="utf-8"),
    )
