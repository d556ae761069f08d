"""The semantic reward's declaration; its scorer is `rewards.tmr.scorer.SemanticScorer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from motions.base.errors import UserError
from motions.settings import BUILTIN, Retired, Settings
from rewards.declared.declaration import RewardDeclaration, Term


class SemanticSettings(Settings):
    """The semantic reward: does the motion do what the text says?

    See `rewards.tmr.scorer`.
    """

    retired: ClassVar[Mapping[str, Retired]] = {
        "reward_model_type": Retired(
            ("tmr",), "a TMR compares text and motion; the evaluator of Guo et al. is not built yet"
        )
    }

    reward_type: Literal["cosine", "matching"] = "cosine"
    """`cosine`: cosine of the two embeddings. `matching`: the similarity of `tmr_similarity_type`."""
    tmr_similarity_type: Literal["cosine", "euclidean"] = "cosine"
    """Similarity for `reward_type matching`: cosine, or a reward computed from the euclidean distance of the embeddings
    by `tmr_normalization`."""
    tmr_normalization: Literal["linear", "exponential", "sigmoid"] = "linear"
    """Reward of a euclidean distance d: 1 - clamp(d / tmr_max_distance, 0, 1), exp(-d / tmr_scale), or sigmoid(-d /
    tmr_scale), whose range is (0, 0.5]. Not used for cosine."""
    tmr_max_distance: float = Field(default=10.0, gt=0.0)
    """Distance at which the linear reward reaches 0."""
    tmr_scale: float = Field(default=2.0, gt=0.0)
    """Distance scale of the exponential and sigmoid rewards."""
    tmr_checkpoint_path: str = BUILTIN
    """TMR weights: `builtin` (trained on the built-in clips), a folder in TMR's layout, or a single file."""
    tmr_text_encoder_path: str | None = None
    """File of the text encoder; with `tmr_motion_encoder_path` it replaces `tmr_checkpoint_path`."""
    tmr_motion_encoder_path: str | None = None
    """File of the motion encoder."""
    tmr_movement_encoder_path: str | None = None
    """Third file on the command line of MDM-GRPO. TMR has no movement encoder: give `motion_decoder.pt`, which is
    checked but not needed for the reward."""
    tmr_stats_path: str | None = None
    """Folder with TMR's own `mean.pt` and `std.pt`; by default searched for beside the weights."""
    tmr_text_model: str | None = None
    """Text encoder whose tokens the TMR takes, if its folder has no `config.json` that names it, or names a class of
    your own, `package.module:Class`, which only this option imports."""
    tmr_text_model_path: str | None = None
    """Local folder of that text encoder; by default the one that its name implies."""
    use_dense_reward: bool = False
    """Compare every segment of a composite prompt with its own text (R_pos) and penalise similarity to the other
    segments' texts (R_neg), instead of comparing the whole motion with the joined text."""
    alpha: float = Field(default=0.5, ge=0.0)
    """Weight of R_neg in the dense reward: R_sem = R_pos - alpha * R_neg."""
    beta_s: float = Field(default=1.0, ge=0.0)
    """Weight of the semantic reward in the total; at 0 it is off, and no TMR is loaded for it."""

    @field_validator("reward_type", mode="before")
    @classmethod
    def _evaluator_only(cls, value: object) -> object:
        if value in ("r_precision", "combined"):
            raise UserError(f"reward_type '{value}' belongs to reward_model_type mdm; TMR has 'cosine' and 'matching'")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reward_type == "cosine" and self.tmr_similarity_type != "cosine":
            raise UserError("tmr_similarity_type 'euclidean' needs reward_type 'matching' (reward_type is 'cosine')")
        files = {
            "tmr_text_encoder_path": self.tmr_text_encoder_path,
            "tmr_motion_encoder_path": self.tmr_motion_encoder_path,
        }
        given = [name for name, path in files.items() if path]
        if len(given) == 1:
            missing = next(name for name in files if name not in given)
            raise UserError(f"{given[0]} is given without {missing}: TMR needs both encoders")
        if self.tmr_movement_encoder_path and not given:
            raise UserError("tmr_movement_encoder_path is given without the text and motion encoder paths")
        if given and self.tmr_checkpoint_path != BUILTIN:
            raise UserError("tmr_checkpoint_path and the tmr_*_encoder_path options exclude each other")
        return self

    @property
    def builtin_tmr(self) -> bool:
        """Whether the reward uses the TMR that comes with kinetune."""
        return self.tmr_checkpoint_path == BUILTIN and not self.tmr_text_encoder_path


SEMANTIC = RewardDeclaration(
    scorer="rewards.tmr.scorer:SemanticScorer",
    options=SemanticSettings,
    weight=lambda own: own.beta_s or None,
    label=lambda own: f"{'segment-dense' if own.use_dense_reward else 'global'} semantic",
    terms={
        "semantic": Term("Semantic reward R_sem"),
        "r_pos": Term("Similarity of each segment and its own text"),
        "r_neg": Term("Similarity of each segment and the other segments' texts, beyond the texts' own", "lower"),
        "margin_active": Term("Share of segment pairs beyond that margin", "neutral", own_scale=True),
        "logic_accuracy": Term("Share of segments whose nearest text is their own"),
    },
    differentiable=True,
    limits_prompts=True,
)
