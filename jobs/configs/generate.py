"""Configuration of `jobs.generate`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from jobs.configs.data import DataSettings
from motions.base.errors import UserError
from motions.files.settings import ExportSettings, Format
from motions.settings import BUILTIN, Settings, redeclared
from rollouts.retrieval.settings import LookupSettings
from rollouts.settings import CheckpointSettings, DenoisingSettings


class GenerationSettings(ExportSettings):
    """Prompts and results."""

    text: tuple[str, ...] = Field(default=(), validation_alias=AliasChoices("text", "text_prompt"))
    """One or more prompts, each in quotes."""

    text_file: Path | None = Field(default=None, validation_alias=AliasChoices("text_file", "input_text"))
    """File of prompts: .txt (one a line), .jsonl with segments, or a composite .npy of MDM-GRPO."""

    num_samples: int | None = Field(default=None, ge=1, le=10_000)
    """Motions per prompt, by default 1. Together with `num_repetitions` it means the number of prompts, as in MDM's
    commands: the first prompts that are given, or as many held-out captions of the data."""

    num_repetitions: int | None = Field(default=None, ge=1, le=10_000)
    """Motions per prompt, under the name that MDM uses."""

    seconds: float = Field(default=6.0, gt=0, le=600, validation_alias=AliasChoices("seconds", "motion_length"))
    """Length in seconds of the motions for `text` and for prompts of a .txt file without a length."""

    split_text: bool = False
    """Cut each text into its actions ("walks, then kicks"), which become segments that share its length equally."""

    seed: int = Field(default=10, ge=0, lt=2**63)
    """Seed of the noise."""

    stochastic: bool = False
    """Draw noise in every denoising step, as MDM's generation does. Otherwise only the initial noise is random, which
    is how policies are evaluated."""

    save_dir: Path = Field(default=Path("outputs/generated"), validation_alias=AliasChoices("save_dir", "output_dir"))
    """Directory of the results."""

    overwrite: bool = False
    """If `save_dir` holds results, move them aside to `save_dir.old-1` (`-2`, ...). Nothing is deleted."""

    formats: tuple[Format, ...] = redeclared(ExportSettings, "formats", ("html", "gif"))

    gif: bool = True
    """`--no_gif` leaves out the animations that `formats` names by default."""

    @model_validator(mode="after")
    def _something_to_say(self) -> Self:
        if not self.text and self.text_file is None and not self.max_prompts:
            raise UserError("there is no prompt: give --text 'a person walks' or --text_file prompts.txt")
        if self.text and self.text_file is not None:
            raise UserError("text and text_file are both given; prompts come from one of them")
        named = self.formats != type(self).model_fields["formats"].default
        if named and "gif" in self.formats and not self.gif:
            raise UserError(f"formats is {','.join(self.formats)}, and no_gif leaves out the gif; give one of them")
        return self

    @property
    def written_formats(self) -> tuple[Format, ...]:
        """The formats that are written."""
        return tuple(kind for kind in self.formats if kind != "gif" or self.gif)

    @property
    def motions_per_prompt(self) -> int:
        """Number of motions generated for each prompt."""
        return self.num_repetitions or self.num_samples or 1

    @property
    def max_prompts(self) -> int | None:
        """Largest number of prompts that are used or drawn; None means all."""
        return None if self.num_repetitions is None else self.num_samples


class CompletionSettings(Settings):
    """Motions that go on from given frames, or lie between them."""

    given_motion: Path | None = None
    """Motion of which frames are kept, in a file that `jobs.view` reads: `.npy` features of the policy's skeleton are
    taken as they are, joints at its frame rate are converted."""

    keep_first: float = Field(default=0.0, ge=0)
    """Seconds of the beginning of `given_motion` with which every motion begins; the policy goes on from there."""

    keep_last: float = Field(default=0.0, ge=0)
    """Seconds of the end of `given_motion` with which every motion ends, and to which the policy leads."""

    autoregressive: bool = False
    """Make each motion window by window, of which each goes on from the last frames of the one before, under the text
    of the segment in which it begins. By default a motion is made as a whole."""

    context_len: int = Field(default=20, ge=1)
    """`autoregressive`: frames that a window goes on from."""

    pred_len: int = Field(default=40, ge=4)
    """`autoregressive`: frames that a window adds."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kept = self.keep_first or self.keep_last
        if self.given_motion is None and kept:
            raise UserError(
                "keep_first or keep_last is given without given_motion, the file of the motion that is kept in part"
            )
        if self.given_motion is not None and not kept:
            raise UserError("given_motion is given, and nothing of it is kept: give keep_first, keep_last or both")
        if self.autoregressive and self.keep_last:
            raise UserError("keep_last is given with autoregressive, whose windows only go on from earlier frames")
        for name in ("context_len", "pred_len"):
            if not self.autoregressive and getattr(self, name) != type(self).model_fields[name].default:
                raise UserError(f"{name} is given without autoregressive")
        return self


class GenerateDenoisingSettings(DenoisingSettings):
    """How motions are generated; by default as the model's run did."""

    sampler: str = redeclared(DenoisingSettings, "sampler")
    """What a denoising step does: `ddpm` (the posterior; with `stochastic` ancestral sampling), `ddim` (with `eta`),
    `dpmpp_2m` (DPM-Solver++, which draws no noise: 10 to 20 steps), or `package.module:Class`. What args.json beside
    the checkpoint says of this and the following options goes before their defaults."""

    sampling_steps: int | None = redeclared(DenoisingSettings, "sampling_steps")
    """Number of denoising steps, evenly selected from the model's noise schedule; by default as args.json says, else
    all."""

    guidance_scale: float = redeclared(DenoisingSettings, "guidance_scale")
    """Classifier-free guidance: unconditional + scale * (conditional - unconditional); 1 needs one pass only. What
    args.json says goes before the default."""

    composite_denoising: Literal["pooled", "composed"] = redeclared(
        DenoisingSettings, "composite_denoising", "composed"
    )


class SourceSettings(Settings):
    """What is kept of motions that are looked up, and what is done to motions."""

    index_dir: Path | None = None
    """retrieval: folder in which the embeddings of the captions are kept from one time to the next. An index of other
    captions is an error."""

    refiner: Path | None = Field(default=None, validation_alias=AliasChoices("refiner", "refiner_path"))
    """Folder of `jobs.train_physics_ssm`, whose network refines the motions."""


class GenerateConfig(Settings):
    """Generation of motions from text."""

    source: SourceSettings = SourceSettings()
    policy: CheckpointSettings = CheckpointSettings()
    generation: GenerationSettings
    completion: CompletionSettings = CompletionSettings()
    sampling: GenerateDenoisingSettings = GenerateDenoisingSettings()
    data: DataSettings = DataSettings()
    lookup: LookupSettings = LookupSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("text", "text_file", "split_text", "model_path", "save_dir", "num_samples", "num_repetitions", "seconds"),
        *("seed", "guidance_scale"),
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        kind = self.policy.policy_type
        if kind == "retrieval":
            for name, given in (
                ("model_path", self.policy.model_path != BUILTIN),
                ("adapter_path", self.policy.adapter_path is not None),
                ("stochastic", self.generation.stochastic),
            ):
                if given:
                    raise UserError(f"{name} is given and policy_type is retrieval, which uses no model")
        elif self.source.index_dir is not None:
            raise UserError(f"index_dir is given and policy_type is {kind}; it belongs to retrieval")
        else:
            default = LookupSettings()
            for name, value in self.lookup:
                if value != getattr(default, name):
                    raise UserError(f"{name} is {value} and policy_type is {kind}; it belongs to retrieval")
        return self
