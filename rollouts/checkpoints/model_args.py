"""args.json: what the weights of an MDM checkpoint do not state about it. Imports no torch, so a plan can read it.

MDM's files are flat, with all training options of their version. Fields that determine the network and its diffusion
are checked; the others are kept unchanged. Fields that the weights cannot tell must be present: the public project
MDM-GRPO (jufan666/text-to-motion) writes args.json before it resolves it, and so evaluates 50-step models with 1000
steps. What MDM's code hard-codes (feed-forward width, heads, dropout) or does not record (skeleton, text width, weights
of the text encoder) is stored under kinetune's own keys, which MDM ignores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.data.prompts import MAX_FRAMES
from rollouts.networks.mdm_config import ARCHITECTURES
from rollouts.registry import DENOISERS
from rollouts.settings import Decay

ARGS_FILE = "args.json"
_SKELETONS = {"humanml": "humanml3d", "t2m": "humanml3d", "kit": "kit"}
_DATASETS = {"humanml3d": "humanml", "kit": "kit"}
_TEXT_ENCODERS = {"bert": "distilbert"}
_TEXT_WIDTHS = {"clip": 512, "distilbert": 768}
_NEWER = ("text_encoder_type", "mask_frames", "pos_embed_max_len", "use_ema", "pred_len", "context_len")


class ModelArgsError(UserError):
    """args.json is missing, broken, or describes a model that is not supported; the message names file and field."""


class ModelArgs(BaseModel):
    """Resolved arguments of one model, under MDM's names where they exist. Unknown ones are kept in `model_extra`."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    arch: str
    dataset: str
    layers: int = Field(ge=1)
    latent_dim: int = Field(ge=1)
    diffusion_steps: int = Field(ge=1)
    noise_schedule: Literal["cosine", "linear"]
    # Absent from MDM's old files; the defaults are the values of the code at that time.
    text_encoder_type: str = "clip"
    cond_mask_prob: float = Field(default=0.1, ge=0, lt=1)
    mask_frames: bool = False
    pos_embed_max_len: int = Field(default=5000, ge=2)
    use_ema: bool = False
    sigma_small: bool = True
    unconstrained: bool = False
    cond_mode: str = "text"
    emb_policy: str = "add"
    emb_trans_dec: bool = False
    multi_target_cond: bool = False
    context_len: int = 0
    pred_len: int = 0
    # Hard-coded in MDM's code.
    num_heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    # kinetune's own; if absent, the shapes of the weights and the dataset tell.
    ff_size: int | None = None
    text_dim: int | None = None
    text_by_token: bool = False
    """Whether the network attends to each token of the text, as MDM's models with DistilBERT do."""
    gru_recurrence: Literal["time", "none"] = "none"
    """`none` is MDM's code for a motion that is alone in its batch."""
    d_state: int = Field(default=32, ge=1)
    ssm_decay: Decay = "head"
    """Both of arch mamba; see `MDMConfig`."""
    skeleton: str | None = None
    max_frames: int | None = Field(default=None, ge=1)
    """Frames of the longest motions of the training."""
    text_encoder_fingerprint: str | None = None
    command: str | None = None
    """The command that made the weights."""

    @model_validator(mode="before")
    @classmethod
    def _tokens_of_distilbert(cls, values: Any) -> Any:
        """MDM's files do not say what its code derives: which texts are read by token."""
        if isinstance(values, dict) and reads_by_token(values.get("arch"), values.get("text_encoder_type")):
            return {"text_by_token": True} | values
        return values

    @property
    def text_encoder(self) -> str:
        """Name of the text encoder for `load_text_encoder`."""
        return _TEXT_ENCODERS.get(self.text_encoder_type, self.text_encoder_type)

    @property
    def text_width(self) -> int | None:
        """Width of the text encoder's embeddings; None if unknown."""
        return self.text_dim or _TEXT_WIDTHS.get(self.text_encoder)

    @property
    def skeleton_name(self) -> str:
        """Name of the skeleton for `get_skeleton`. Raises ModelArgsError if neither skeleton nor dataset is stated."""
        name = self.skeleton or _SKELETONS.get(self.dataset)
        if name is None:
            raise ModelArgsError(
                f"dataset is {self.dataset!r}, which has no known skeleton; name it with --skeleton humanml3d or kit"
            )
        return name

    @property
    def trained_frames(self) -> int:
        """Frames of the longest motions that the model has seen; those of HumanML3D where the file does not say."""
        return min(self.max_frames or MAX_FRAMES, self.pos_embed_max_len - 1)

    @property
    def has_denoiser(self) -> bool:
        """Whether `arch` names a denoiser: one of the registry, or `package.module:Class`."""
        return self.arch in DENOISERS or ":" in self.arch

    @property
    def defaulted(self) -> tuple[str, ...]:
        """Arguments of newer versions of MDM that the file lacks."""
        return tuple(name for name in _NEWER if name not in self.model_fields_set)

    def require_supported(self) -> None:
        """Raises ModelArgsError for a model that would load wrongly or not at all; the message says why."""
        reasons = {
            f"arch {self.arch} is not supported yet ({', '.join(DENOISERS)} is)": not self.has_denoiser,
            "it is unconstrained, and a policy without text has no prompt to follow": (
                self.unconstrained or self.cond_mode == "no_cond"
            ),
            f"dataset {self.dataset} is labelled with actions, not with text": self.dataset in ("humanact12", "uestc"),
            f"pred_len {self.pred_len} and context_len {self.context_len}: autoregressive models are not supported": (
                self.pred_len > 0 or self.context_len > 0
            ),
            "multi_target_cond: target conditioning is not supported": self.multi_target_cond,
            f"emb_policy {self.emb_policy} is not supported (add is)": self.emb_policy != "add",
            "sigma_small is false: only the posterior variance is supported": not self.sigma_small,
            "text_encoder_type bert belongs to arch trans_dec": (
                self.text_encoder == "distilbert" and self.arch in ARCHITECTURES and self.arch != "trans_dec"
            ),
        }
        if found := [reason for reason, holds in reasons.items() if holds]:
            raise ModelArgsError("; ".join(found))

    def to_json(self) -> str:
        """The text in MDM's format: flat, sorted, indented by 4; unknown values (None) are left out."""
        return json.dumps(self.model_dump(exclude_none=True), indent=4, sort_keys=True) + "\n"


def reads_by_token(arch: object, text_encoder: object) -> bool:
    """Whether MDM's code has such a network attend to each token of a text."""
    return arch == "trans_dec" and text_encoder in ("bert", "distilbert")


def dataset_of(skeleton: str) -> str:
    """MDM's dataset name for a skeleton's features."""
    return _DATASETS.get(skeleton, skeleton)


def read_model_args(checkpoint: str | Path) -> ModelArgs:
    """Arguments of a checkpoint file, from `args.json` beside it.

    Raises:
        ModelArgsError: no such file, not JSON, a field missing or of the wrong kind.
    """
    path = Path(checkpoint).with_name(ARGS_FILE)
    if not path.is_file():
        raise ModelArgsError(
            f"{path}: no such file. An MDM checkpoint needs the args.json of its training beside it: it says how many "
            "diffusion steps the model was trained with, which the weights do not"
        )
    try:
        values = json.loads(read_text(path))
    except ValueError as error:
        raise ModelArgsError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ModelArgsError(f"{path}: holds a {type(values).__name__}; expected an object of arguments")
    try:
        # Some versions write null for an argument that was not given.
        return ModelArgs.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelArgsError(f"{path}: {problems}") from error
