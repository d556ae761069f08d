"""The semantic reward's declaration; its scorer is `rewards.tmr.scorer.SemanticScorer`, or with `reward_model_type mdm`
`rewards.evaluator.scorer.EvaluatorScorer`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from motions.base.errors import UserError
from motions.settings import BUILTIN, Settings
from rewards.declared.declaration import RewardDeclaration, Term


class EvaluatorFileSettings(Settings):
    """Files of the evaluator of Guo et al."""

    evaluator_path: str | None = Field(default=None, min_length=1)
    """Weights of the evaluator: `finest.tar`, the folder `text_mot_match`, or a folder with its three encoders; by
    default `t2m/text_mot_match/model/finest.tar` (for KIT `kit/...`), where MDM's code looks for them."""
    evaluator_stats_path: str = Field(default="dataset", min_length=1)
    """Folder with the evaluator's own `t2m_mean.npy` and `t2m_std.npy` (for KIT `kit_...`), or `mean.npy` and
    `std.npy`."""
    glove_path: str = Field(default="glove", min_length=1)
    """Folder with the evaluator's vocabulary: `our_vab_data.npy`, `our_vab_words.pkl` and `our_vab_idx.pkl`."""
    evaluator_texts_path: str | None = Field(default=None, min_length=1)
    """Folder `texts` of HumanML3D or KIT-ML, whose captions have tagged words. Texts that are not in it are tagged by
    simple rules."""


class EvaluatorSettings(EvaluatorFileSettings):
    """The evaluator of Guo et al., for `reward_model_type mdm`."""

    distractors_path: str | None = Field(default=None, min_length=1)
    """File with captions, one a line, from which `r_precision` and `combined` must tell a motion's own text; by default
    the captions of the built-in clips."""
    num_distractors: int = Field(default=31, ge=1)
    """Number of those captions that a motion's text competes with; 31 make the pool of 32 of the published R-precision.
    """


class SemanticSettings(EvaluatorSettings):
    """The semantic reward: does the motion do what the text says?

    See `rewards.tmr.scorer` and `rewards.evaluator.scorer`.
    """

    reward_model_type: Literal["tmr", "mdm", "critic"] = "tmr"
    """Network that compares text and motion: a TMR, or `mdm`, the recurrent evaluator of Guo et al. that MDM's metrics
    use. With `critic` nothing does, and the critic's reward has weight 1 unless `critic_weight` is given."""
    reward_type: Literal["cosine", "matching", "r_precision", "combined"] = "cosine"
    """With a TMR `cosine` (of the two embeddings) or `matching` (the similarity of `tmr_similarity_type`). With the
    evaluator `matching` (1 - distance / 10, at least 0), which is its default, `r_precision` (1 if the motion is nearer
    to its own text than to all distractors, otherwise 1 / (1 + distance)), or `combined` (0.7 and 0.3 of them)."""
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

    @model_validator(mode="before")
    @classmethod
    def _default_of_the_evaluator(cls, values: Any) -> Any:
        """MDM-GRPO's default; the cosine is a TMR's."""
        if isinstance(values, dict) and values.get("reward_model_type") == "mdm":
            return {"reward_type": "matching"} | values
        return values

    @model_validator(mode="after")
    def _of_the_network(self) -> Self:
        if self.reward_model_type == "critic":
            for name, field in type(self).model_fields.items():
                if name != "reward_model_type" and getattr(self, name) != field.default:
                    raise UserError(f"{name} is given and reward_model_type is critic, which reads no text")
            return self
        legal = {"tmr": ("cosine", "matching"), "mdm": ("matching", "r_precision", "combined")}
        if self.reward_type not in legal[self.reward_model_type]:
            other = "mdm" if self.reward_model_type == "tmr" else "tmr"
            raise UserError(
                f"reward_type '{self.reward_type}' belongs to reward_model_type {other}; reward_model_type "
                f"{self.reward_model_type} has {' and '.join(map(repr, legal[self.reward_model_type]))}"
            )
        if self.reward_model_type == "mdm" and self.use_dense_reward and self.reward_type != "matching":
            raise UserError(f"use_dense_reward needs reward_type 'matching' (reward_type is '{self.reward_type}')")
        unused = "tmr_" if self.reward_model_type == "mdm" else "evaluator_"
        for name, field in type(self).model_fields.items():
            if name.startswith(unused) and getattr(self, name) != field.default:
                raise UserError(f"{name} is given and reward_model_type is {self.reward_model_type}, which reads none")
        return self

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


_SCORERS = {"tmr": "rewards.tmr.scorer:SemanticScorer", "mdm": "rewards.evaluator.scorer:EvaluatorScorer"}

SEMANTIC = RewardDeclaration(
    scorer=lambda own: _SCORERS[own.reward_model_type],
    options=SemanticSettings,
    weight=lambda own: None if own.reward_model_type == "critic" else own.beta_s or None,
    label=lambda own: (
        f"{'segment-dense' if own.use_dense_reward else 'global'} semantic"
        f"{' (evaluator of Guo et al.)' if own.reward_model_type == 'mdm' else ''}"
    ),
    terms={
        "semantic": Term("Semantic reward R_sem"),
        "r_pos": Term("Similarity of each segment and its own text"),
        "r_neg": Term("Similarity of each segment and the other segments' texts, beyond the texts' own", "lower"),
        "margin_active": Term("Share of segment pairs beyond that margin", "neutral", own_scale=True),
        "logic_accuracy": Term("Share of segments whose nearest text is their own"),
        "evaluator_distance": Term("Distance of motion and text in the evaluator's space", "lower", own_scale=True),
        "retrieved": Term("Share of motions that no distractor is nearer to than their own text"),
    },
    differentiable=True,
    limits_prompts=True,
)
