"""The configuration of each job: one flat model made of the layers' settings groups and the job's own.

Imports neither torch nor ray: a laptop without either validates a command line, and `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from cluster.settings import ClusterSettings, RunSettings
from learners.settings import GRPOSettings, RetrievalSettings, SupervisedSettings
from motions.settings import Settings
from rewards.settings import RewardSettings
from rollouts.settings import (
    CheckpointSettings,
    DenoisingSettings,
    DeviceSettings,
    PolicySettings,
    SamplingSettings,
    TextEncoderSettings,
)

BUILTIN = "builtin"
MDM_DATASETS = {"humanml": "dataset/HumanML3D", "kit": "dataset/KIT-ML"}
"""MDM's dataset names and the folders it reads them from."""


class DataSettings(Settings):
    """Motions and captions."""

    dataset: str = BUILTIN
    """`builtin` (real mocap that ships with pybullet, retargeted), a folder in HumanML3D's layout, or MDM's names
    `humanml` and `kit`, whose folder is `data_dir`."""

    data_dir: Path | None = None
    """Folder of `--dataset humanml` or `kit`; by default the one MDM uses, `dataset/HumanML3D` or `dataset/KIT-ML`."""

    @field_validator("data_dir", mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        """MDM's command line says '' for the default."""
        return None if value == "" else value

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.dataset in ("humanact12", "uestc"):
            raise ValueError(f"dataset {self.dataset} is labelled with actions; only datasets with captions are read")
        if self.data_dir is not None and self.dataset not in MDM_DATASETS:
            raise ValueError(f"data_dir belongs to --dataset humanml or kit; dataset is {self.dataset}")
        return self

    @property
    def data_source(self) -> str:
        """What `motions.dataset.load_dataset` reads."""
        if self.dataset not in MDM_DATASETS:
            return self.dataset
        return str(self.data_dir or MDM_DATASETS[self.dataset])


class NetworkSettings(Settings):
    """Size of a new policy; the defaults are the official HumanML3D model's."""

    arch: Literal["trans_enc"] = "trans_enc"
    """Architecture of the denoiser."""

    layers: int = Field(default=8, ge=1)
    """Transformer layers."""

    latent_dim: int = Field(default=512, ge=8)
    """Width of the transformer."""

    ff_size: int = Field(default=1024, ge=8)
    """Width of the feed-forward layers."""

    num_heads: int = Field(default=4, ge=1)
    """Attention heads."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in training."""

    mask_frames: bool = True
    """Hide padding frames from attention. Official models of before 2024 do not."""

    pos_embed_max_len: int = Field(default=5000, ge=2)
    """Rows of the positional table, which is saved with the model: more than the frames of any motion and the diffusion
    steps."""

    noise_schedule: Literal["cosine", "linear"] = "cosine"
    """Noise schedule of the diffusion."""

    diffusion_steps: int = Field(default=50, ge=2)
    """Diffusion steps."""


class TrainingRunSettings(Settings):
    """Folder and length of a supervised training."""

    save_dir: Path
    """Folder of the trained model. Inside a submitted Ray job it must be absolute."""

    resume: bool = False
    """Continue the training found in `save_dir` from its last checkpoint, to the same bits."""

    overwrite: bool = False
    """If `save_dir` holds something, move it aside to `save_dir.old-1` (`-2`, ...) and start anew."""

    allow_changed: tuple[str, ...] = ()
    """Options that may differ from the training being resumed; without it a change that affects results is refused.
    `data` stands for the data set."""

    seed: int = Field(default=10, ge=0, lt=2**63)
    """Seed of weights, batches and noise."""

    weights_dtype: Literal["float32", "float16"] = "float32"
    """Storage of the written weights; float16 halves the files."""

    save_interval: int = Field(default=1000, ge=1)
    """Steps between checkpoints; there is one after the last step in any case."""

    log_interval: int = Field(default=100, ge=1)
    """Steps between printed lines. Metrics are recorded at every step."""

    max_frames: int = Field(default=196, ge=4)
    """Longer clips are cropped to this many frames, at a random place."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.resume and self.overwrite:
            raise ValueError("resume and overwrite are both set: continue the training in save_dir, or start anew?")
        return self


class PretrainConfig(
    DataSettings, NetworkSettings, TextEncoderSettings, SupervisedSettings, TrainingRunSettings, DeviceSettings
):
    """Supervised training of a policy."""

    composite_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of a batch that is composite: two to five clips joined to one motion, with a joined text."""

    num_composites: int = Field(default=500, ge=1)
    """Composite motions that are made for it before the training (20 ms each)."""

    captions_per_motion: int | None = Field(default=None, ge=1)
    """Learn only the first so many captions of every motion. The others stay prompts that the policy has never heard,
    for which reinforcement learning needs no motions. By default all are learnt."""

    num_samples: int = Field(default=3, ge=0)
    """Held-out captions for which a motion is generated and drawn at the end."""

    guidance_scale: float = Field(
        default=2.5, ge=0, validation_alias=AliasChoices("guidance_scale", "gen_guidance_param")
    )
    """Guidance of those motions."""


class RetrievalConfig(DataSettings, RetrievalSettings, TextEncoderSettings, TrainingRunSettings, DeviceSettings):
    """Training of a retrieval model."""

    captions: Literal["train", "judge"] = "train"
    """Captions to learn: `judge` has other words for the same motions and exists for the built-in data only; a judge
    that learned them knows what the reward does not."""


class PromptSettings(Settings):
    """Prompts of the run."""

    batch_size: int = Field(default=8, ge=1, validation_alias=AliasChoices("batch_size", "prompts_per_step"))
    """Prompts per step; each is sampled `group_size` times."""

    prompts_path: Path | None = Field(default=None, validation_alias=AliasChoices("prompts_path", "prompt_file"))
    """Prompts to train on: .jsonl, .txt (one a line) or the guide's composite .npy. By default the data's own."""

    use_composite_dataset: bool = False
    """Train on composite prompts only: those of `composite_data_path`, or the data's own where there is none."""

    composite_data_path: Path | None = None
    """The guide's `composite_k{K}_{split}.npy`, or a .jsonl of composite prompts."""

    composite_k_segments: int | None = Field(default=None, ge=2, le=5)
    """Segments of every prompt of `composite_data_path`, and of the data's own composite prompts; by default any
    number. Prompts of `prompts_path` and `eval_prompts_path` are taken as they are."""

    composite_fraction: float = Field(default=0.5, ge=0, le=1)
    """Share of composite prompts among the data's own (those of `prompts_path` are taken as they are)."""

    num_prompts: int = Field(default=256, ge=1)
    """Prompts that are drawn from the data; of a file, at most so many."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.prompts_path is not None and self.composite_data_path is not None:
            raise ValueError("prompts_path and composite_data_path are both given; prompts come from one of them")
        if self.composite_data_path is not None and not self.use_composite_dataset:
            raise ValueError("composite_data_path is given without use_composite_dataset")
        return self


class EvaluationSettings(Settings):
    """Evaluation before and after."""

    eval_prompts_path: Path | None = None
    """Prompts of the evaluation; by default held-out ones of the data. FID is measured only where the data has held-out
    motions of the policy's skeleton."""

    num_eval_prompts: int = Field(default=16, ge=1)
    """Prompts of an evaluation, at most."""

    num_eval_samples: int = Field(default=4, ge=1)
    """Motions per prompt in an evaluation, by the deterministic sampler."""

    eval_seed: int = Field(default=1000, ge=0, lt=2**63)
    """Seed of the evaluation's prompts and noise; the same for runs of other seeds, so that they can be compared."""

    judge_path: str = Field(default=BUILTIN, min_length=1)
    """Retrieval model that judges before and after and never is a reward (the reward's weights are refused):
    `builtin`, a TMR's folder or file, or `none`."""


class GRPOConfig(
    PolicySettings,
    DataSettings,
    PromptSettings,
    EvaluationSettings,
    SamplingSettings,
    RewardSettings,
    GRPOSettings,
    RunSettings,
    ClusterSettings,
):
    """Fine-tuning by group-relative policy optimisation."""


class GenerateConfig(CheckpointSettings, DenoisingSettings, DataSettings):
    """Motions from text."""

    text: tuple[str, ...] = Field(default=(), validation_alias=AliasChoices("text", "text_prompt"))
    """Prompts, each in quotes."""

    text_file: Path | None = Field(default=None, validation_alias=AliasChoices("text_file", "input_text"))
    """Prompts from a file: .txt (one a line), .jsonl with segments, or a composite .npy."""

    num_samples: int | None = Field(default=None, ge=1)
    """Motions per prompt, by default 1. Together with `num_repetitions` it is the number of prompts, as in MDM's
    commands: of given ones at most so many, and where none is given so many held-out captions of the data."""

    num_repetitions: int | None = Field(default=None, ge=1)
    """Motions per prompt, in MDM's words."""

    seconds: float = Field(default=6.0, gt=0, validation_alias=AliasChoices("seconds", "motion_length"))
    """Length of the motions of `text` and of a .txt file."""

    seed: int = Field(default=10, ge=0, lt=2**63)
    """Seed of the noise."""

    stochastic: bool = False
    """Draw noise in every denoising step, as MDM's own generation does. Off, a motion is a function of its starting
    noise, which is how policies are evaluated."""

    save_dir: Path = Field(default=Path("outputs/generated"), validation_alias=AliasChoices("save_dir", "output_dir"))
    """Folder of the results."""

    overwrite: bool = False
    """If `save_dir` holds results, move them aside to `save_dir.old-1` (`-2`, ...). Nothing is deleted."""

    gif: bool = True
    """Draw an animation of each motion."""

    @model_validator(mode="after")
    def _something_to_say(self) -> Self:
        if not self.text and self.text_file is None and not self.max_prompts:
            raise ValueError("there is no prompt: give --text 'a person walks' or --text_file prompts.txt")
        if self.text and self.text_file is not None:
            raise ValueError("text and text_file are both given; prompts come from one of them")
        return self

    @property
    def motions_per_prompt(self) -> int:
        """Motions that are made of each prompt."""
        return self.num_repetitions or self.num_samples or 1

    @property
    def max_prompts(self) -> int | None:
        """Prompts that are used or drawn at most; None for all."""
        return None if self.num_repetitions is None else self.num_samples
