"""Configuration of `jobs.composite`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from jobs.configs.data import DataSettings
from motions.base.errors import UserError
from motions.settings import BUILTIN, Settings
from rollouts.settings import DeviceSettings


class CompositeDataSettings(DataSettings):
    """Motions and captions that composites are made of."""

    split: str = Field(default="train", min_length=1)
    """Split of the data."""

    @field_validator("dataset")
    @classmethod
    def _name_of_the_evaluator_s_code(cls, value: str) -> str:
        """The public script also takes the name that the code of Guo et al. has for HumanML3D."""
        return "humanml" if value == "t2m" else value


class CompositeSettings(Settings):
    """Composites, and the file they are written to."""

    k_segments: int = Field(default=3, ge=2, le=5)
    """Number K of segments of each composite."""

    output_dir: Path = Path("outputs/composites")
    """Folder of `composite_k{K}_{split}.jsonl`. Nothing is overwritten."""

    output_format: Literal["jsonl", "npy"] = "jsonl"
    """`jsonl`: text, safe to read. `npy`: the pickled array of MDM-GRPO, for its own tools; kinetune reads both."""

    target_length: int = Field(default=196, ge=8)
    """Most frames of a composite."""

    tolerance: int = Field(default=20, ge=0)
    """Frames by which a composite may be shorter."""

    max_samples: int = Field(default=1000, ge=1)
    """Most composites."""

    shorten: float | None = Field(default=None, gt=0, le=1)
    """Share of its motion that a segment lasts at least, where the whole motions are too long together. By default 1,
    and 0.8 where otherwise no composite exists (the shortest five motions of HumanML3D last 200 frames)."""

    from_file: Path | None = None
    """Composites of this file (.npy of MDM-GRPO, or .jsonl) instead of new ones, such as to write them in the safe
    format."""

    seed: int = Field(default=10, ge=0, lt=2**63)
    """Seed of the draws: equal data, options and seeds give equal files."""


class TextSimilaritySettings(DeviceSettings):
    """Similarity of the segments' texts."""

    compute_b_matrix: bool = False
    """Add each composite's `B_matrix`, the cosines of its texts by the reward's text encoder, which is the margin of
    R_neg. It is for the record: rewards compute it themselves."""

    tmr_checkpoint_path: str = BUILTIN
    """TMR whose text encoder is used, as for the reward."""

    tmr_text_encoder_path: str | None = None
    """File of the text encoder; with `tmr_motion_encoder_path` it replaces `tmr_checkpoint_path`."""

    tmr_motion_encoder_path: str | None = None
    """File of the motion encoder, by whose presence a TMR is recognised."""

    tmr_text_model: str | None = None
    """Text encoder whose tokens the TMR takes, if its folder has no `config.json` that names it."""


class CompositeConfig(Settings):
    """A set of composite prompts."""

    composites: CompositeSettings = CompositeSettings()
    data: CompositeDataSettings = CompositeDataSettings()
    texts: TextSimilaritySettings = TextSimilaritySettings()

    important: ClassVar[tuple[str, ...]] = (
        *("dataset", "split", "k_segments", "output_dir", "target_length", "tolerance", "max_samples"),
        *("compute_b_matrix", "seed"),
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        composites = self.composites
        if composites.tolerance >= composites.target_length:
            raise UserError(
                f"tolerance is {composites.tolerance}; it is below target_length {composites.target_length}"
            )
        if composites.from_file is not None:
            for name in ("target_length", "tolerance", "shorten", "seed"):
                if getattr(composites, name) != CompositeSettings.model_fields[name].default:
                    raise UserError(f"{name} is given with from_file, whose composites are taken as they are")
        given = [
            name
            for name, field in TextSimilaritySettings.model_fields.items()
            if name.startswith("tmr_") and getattr(self.texts, name) != field.default
        ]
        if given and not self.texts.compute_b_matrix:
            raise UserError(f"{given[0]} is given without compute_b_matrix, for which alone a TMR is read")
        return self
