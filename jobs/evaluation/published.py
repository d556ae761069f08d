"""Published figures on HumanML3D's test split, by the evaluator of Guo et al., for the table of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """Figures of one model; None where none was published."""

    name: str
    source: str
    figures: dict[str, float]


def _row(name: str, source: str, **figures: float) -> PublishedRow:
    names = {"r1": "r_precision_1", "r2": "r_precision_2", "r3": "r_precision_3", "matching": "matching_score"}
    return PublishedRow(name, source, {names.get(short, short): value for short, value in figures.items()})


MDM_README = "README of GuyTevet/motion-diffusion-model"
MDM_GRPO = "jufan666/text-to-motion, its own evaluation"

PUBLISHED: tuple[PublishedRow, ...] = (
    _row("real motions", MDM_README, r1=0.512, r2=0.702, r3=0.797, fid=0.002, matching=2.97, diversity=9.50),
    _row(
        *("MDM", MDM_README),
        **{"r1": 0.418, "r2": 0.604, "r3": 0.707, "fid": 0.489},
        **{"matching": 3.63, "diversity": 9.45, "multimodality": 2.87},
    ),
    _row(
        *("MDM, 50 steps", MDM_README),
        **{"r1": 0.455, "r2": 0.645, "r3": 0.749, "fid": 0.489},
        **{"matching": 3.33, "diversity": 9.92, "multimodality": 2.29},
    ),
    _row(
        *("MDM, 50 steps, DistilBERT", MDM_README),
        **{"r1": 0.491, "r2": 0.709, "r3": 0.815, "fid": 0.495},
        **{"matching": 3.04, "diversity": 9.88, "multimodality": 1.67},
    ),
    _row("real motions", MDM_GRPO, r1=0.4529, r2=0.6594, r3=0.7671, fid=0.0003, diversity=9.2546),
    _row("MDM, 50 steps", MDM_GRPO, r1=0.3372, r2=0.5300, r3=0.6521, fid=4.8976, diversity=8.03),
)
"""MDM-GRPO's base is ten times worse in FID than the same model in MDM's README, and its real motions are low too."""
