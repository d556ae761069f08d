"""Configuration of `jobs.evaluate`; imports neither torch nor ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from cluster.settings import ActorSettings
from jobs.configs.data import MDM_DATASETS, DataSettings
from jobs.configs.generate import GenerateDenoisingSettings
from motions.base.errors import UserError
from motions.settings import BUILTIN, Settings
from rewards.declared.semantic import EvaluatorFileSettings
from rollouts.settings import CheckpointSettings

EvalMode = Literal["wo_mm", "mm_short", "debug", "full"]


@dataclass(frozen=True, slots=True)
class ModeOptions:
    """What an evaluation mode measures."""

    replications: int
    multimodality: bool


MODES: dict[EvalMode, ModeOptions] = {
    "wo_mm": ModeOptions(20, False),
    "mm_short": ModeOptions(5, True),
    "debug": ModeOptions(5, False),
    "full": ModeOptions(20, True),
}


class ProtocolSettings(Settings):
    """What is measured, and how often."""

    eval_mode: EvalMode = "wo_mm"
    """`wo_mm`: 20 replications without MultiModality; `mm_short`: 5 with it; `debug`: 5 without it; `full`: 20 with
    it."""

    replication_times: int | None = Field(default=None, ge=1)
    """Number of replications; by default the mode's."""

    eval_num_samples: int = Field(default=1000, ge=1, validation_alias=AliasChoices("eval_num_samples", "num_samples"))
    """Generated motions per replication, rounded up to full pools; fewer where the data has fewer texts. Of real
    motions all are used."""

    pool_size: int = Field(default=32, ge=1, validation_alias=AliasChoices("pool_size", "eval_batch_size"))
    """Texts among which R-precision searches a motion's own. Published figures have 32; others are not comparable."""

    diversity_times: int = Field(default=300, ge=1)
    """Pairs of the diversity; as many as there are motions where these are fewer."""

    mm_num_samples: int = Field(default=100, ge=1)
    """MultiModality: texts per replication, rounded up to full pools as in the public code."""

    mm_num_repeats: int = Field(default=30, ge=2)
    """MultiModality: motions of each text."""

    mm_num_times: int = Field(default=10, ge=1)
    """MultiModality: pairs of motions of each text, at most `mm_num_repeats`."""

    eval_split: str = Field(default="test", min_length=1)
    """Split of the data whose captions and motions are used."""

    use_composite_dataset: bool = False
    """Evaluate composite prompts: those of `composite_data_path` if it is given, else composites of the data's
    captions. Pairs of text and motion are then segments."""

    composite_data_path: Path | None = None
    """Composite prompts: MDM-GRPO's `composite_k{K}_{split}.npy`, or a .jsonl file of `jobs.composite`."""

    composite_k_segments: int | None = Field(default=None, ge=2, le=5)
    """Number of segments of every composite prompt; by default any number in a file, and 3 in those of the data."""

    retrieval_row: bool = False
    """Measure motions that are looked up, too: for every text one of the training motions whose captions are nearest to
    it by MiniLM's cosine, as `jobs.generate --policy_type retrieval` does. A policy has to be better than that."""

    stochastic: bool = True
    """Draw noise in every denoising step, as MDM's evaluation does. Otherwise only the initial noise is random."""

    seed: int = Field(default=10, ge=0, lt=2**63)
    """Seed of noise, texts, pools and pairs."""

    save_dir: Path | None = None
    """Folder of the results; nothing in it is overwritten. By default a new one, `outputs/evaluation/NAME`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("composite_data_path", "composite_k_segments"):
            if getattr(self, name) is not None and not self.use_composite_dataset:
                raise UserError(f"{name} is given without use_composite_dataset")
        if self.mm_num_times > self.mm_num_repeats:
            raise UserError(
                f"mm_num_times is {self.mm_num_times}; it draws from the mm_num_repeats {self.mm_num_repeats} motions "
                "of a text"
            )
        return self

    @property
    def replications(self) -> int:
        """Number of replications."""
        return self.replication_times or MODES[self.eval_mode].replications

    @property
    def multimodality(self) -> bool:
        """Whether MultiModality is measured."""
        return MODES[self.eval_mode].multimodality


class NetworkSettings(EvaluatorFileSettings):
    """The network that embeds text and motion."""

    eval_network: Literal["mdm", "tmr"] | None = None
    """`mdm`: the evaluator of Guo et al., by which published figures are made. `tmr`: the TMR of `judge_path`, for data
    that the evaluator does not know. By default `mdm` where `dataset` is humanml or kit, otherwise `tmr`."""

    judge_path: str = Field(default=BUILTIN, min_length=1)
    """TMR that evaluates: `builtin`, which is never a reward, or the folder or file of a TMR."""

    judge_text_model: str | None = Field(default=None, min_length=1)
    """Text encoder of that TMR, if its folder has no `config.json` that names it."""

    reward_device: str = Field(default="cpu", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Device of the network that evaluates."""


class EvaluateConfig(Settings):
    """Evaluation of a policy by the published protocol."""

    policy: CheckpointSettings = CheckpointSettings()
    protocol: ProtocolSettings = ProtocolSettings()
    network: NetworkSettings = NetworkSettings()
    sampling: GenerateDenoisingSettings = GenerateDenoisingSettings()
    data: DataSettings = DataSettings()
    cluster: ActorSettings = ActorSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("model_path", "eval_mode", "guidance_scale", "dataset", "eval_network", "evaluator_path"),
        *("use_composite_dataset", "composite_data_path", "composite_k_segments", "save_dir", "num_rollout_actors"),
    )

    @model_validator(mode="after")
    def _is_a_model(self) -> Self:
        if self.policy.policy_type == "retrieval":
            raise UserError("policy_type is retrieval, which is no model; retrieval_row measures it beside a policy")
        return self

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        unused = ("judge_",) if self.chosen_network == "mdm" else ("evaluator_", "glove_")
        for name, field in NetworkSettings.model_fields.items():
            if name.startswith(unused) and getattr(self.network, name) != field.default:
                raise UserError(f"{name} is given and eval_network is {self.chosen_network}, which reads none")
        if self.network.judge_path == "none":
            raise UserError("judge_path is none: without a network nothing can be evaluated")
        return self

    @property
    def chosen_network(self) -> Literal["mdm", "tmr"]:
        """The network that evaluates."""
        return self.network.eval_network or ("mdm" if self.data.dataset in MDM_DATASETS else "tmr")
