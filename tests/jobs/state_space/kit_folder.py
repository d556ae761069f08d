"""A data set in KIT-ML's true format, of a few short made-up motions: 251 numbers a frame, captions with time spans."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from motions.skeleton.features import extract_features
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import KIT
from tests.toys.synthetic_motion import walking_joints

NUM_FRAMES = 36


def write_kit(folder: Path, *, num_train: int = 4) -> Path:
    """Writes `num_train` motions for training, one with two captions of which one has a span, and two held out."""
    for name in ("new_joint_vecs", "texts"):
        (folder / name).mkdir(parents=True)
    ids = [f"{number:05d}" for number in range(num_train + 2)]
    clips = []
    for number, clip_id in enumerate(ids):
        joints = walking_joints(KIT, NUM_FRAMES + 1, turn=0.3 + 0.2 * number, seed=number)
        features = extract_features(joints, KIT, retarget=False)
        # Made-up feet never stand by the data's rule, so they are said to stand in turns.
        features[:, 247:] = (np.arange(NUM_FRAMES) // 6 % 2)[:, None] == (0, 0, 1, 1)
        clips.append(features)
        np.save(folder / "new_joint_vecs" / f"{clip_id}.npy", clips[-1])
        lines = [f"a person walks in curve {number}.#a/DET person/NOUN walk/VERB#0.0#0.0"]
        if number == 0:
            # Two seconds at 12.5 frames a second are 25 frames.
            lines.append("a person turns.#a/DET person/NOUN turn/VERB#0.4#2.4")
        (folder / "texts" / f"{clip_id}.txt").write_text("\n".join(lines) + "\n")
    statistics = Normalizer.fit(clips[:num_train], KIT, grouped=True)
    statistics.save(folder)
    for split, own in (("train", ids[:num_train]), ("val", ids[-2:-1]), ("test", ids[-1:])):
        (folder / f"{split}.txt").write_text("\n".join(own) + "\n")
    return folder
