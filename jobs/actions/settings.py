"""Options of the jobs on HumanAct12 and UESTC, named as in MotionCritic's guide; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from cluster.settings import ClusterSettings, RolloutRunSettings, RunSettings, SteppedRunSettings, TrainingRunSettings
from learners.grpo.gradients.settings import GradientSettings
from learners.grpo.settings import GRPOSettings
from learners.supervised.settings import SupervisedSettings
from motions.base.errors import UserError
from motions.settings import Effect, Settings, redeclared
from rollouts.settings import DeviceSettings

_FOLDERS = {"humanact12": Path("dataset/HumanAct12Poses"), "uestc": Path("dataset/uestc")}


class ActionDataSettings(Settings):
    """Clips with an action each."""

    dataset: Literal["humanact12", "uestc"] = "humanact12"
    """`humanact12`, or `uestc`."""

    data_dir: Path | None = None
    """Folder with `humanact12poses.pkl`, or that file; of UESTC the folder with `vibe_cache_refined.pkl` and `info`. By
    default where MDM has them, `dataset/HumanAct12Poses` and `dataset/uestc`."""

    split: Literal["train", "test"] = "train"
    """Clips of UESTC: those of its 51 persons for training, or those of the others. HumanAct12 is one set."""

    num_frames: int = Field(default=60, ge=4, le=243)
    """Frames of every motion: longer clips are cut at a random place, shorter ones repeat their last frame."""

    @field_validator("data_dir", mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        """On MDM's command line '' means the default."""
        return None if value == "" else value

    @model_validator(mode="after")
    def _split_of_uestc(self) -> Self:
        if self.split == "test" and self.dataset != "uestc":
            raise UserError(f"split is test; {self.dataset} is one set, without a test part")
        return self

    @property
    def folder(self) -> Path:
        """Where the clips are."""
        return self.data_dir or _FOLDERS[self.dataset]


def _require_classified(data: ActionDataSettings) -> None:
    if data.dataset != "humanact12":
        raise UserError(f"dataset is {data.dataset}; the classifier knows the actions of humanact12 only")


class ActionCriticSettings(Settings):
    """The critic whose score is asked."""

    critic_model_path: str = Field(
        default="critic/motioncritic_pre.pth",
        min_length=1,
        validation_alias=AliasChoices("critic_model_path", "reward_model_path"),
    )
    """Weights of a critic: a file of MotionCritic or PP-Motion, or a folder of `jobs.train_critic`."""


class ActionClassifierSettings(Settings):
    """The classifier on whose features FID is measured."""

    classifier_path: Annotated[str, Effect("evaluation")] = Field(
        default="assets/actionrecognition/humanact12_gru.tar", min_length=1
    )
    """Weights of the action classifier: `humanact12_gru.tar` of MDM's download scripts."""


class ActionPolicySettings(Settings):
    """The policy whose condition is an action."""

    model_path: str = Field(min_length=1, validation_alias=AliasChoices("model_path", "resume_checkpoint"))
    """Checkpoint of an MDM that was trained on these actions, with `args.json` beside it, or its folder."""

    sampling_steps: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("sampling_steps", "refl_steps")
    )
    """Denoising steps, evenly selected from the model's; by default all, usually 1000."""


class OutputSettings(DeviceSettings):
    """Where results go."""

    save_dir: Path
    """Folder of the results."""

    overwrite: bool = False
    """If `save_dir` exists, move it aside to `save_dir.old-1` (`-2`, ...) first. Nothing is deleted."""

    seed: int = Field(default=10, ge=0, lt=2**63)
    """Seed of the clips' windows and of all noise."""

    batch_size: int = Field(default=64, ge=1)
    """Motions that go through a network at once."""


class EvalFidConfig(Settings):
    """FID of blocks of real clips by the critic's score."""

    output: OutputSettings
    data: ActionDataSettings = ActionDataSettings()
    critic: ActionCriticSettings = ActionCriticSettings()
    classifier: ActionClassifierSettings = ActionClassifierSettings()

    important: ClassVar[tuple[str, ...]] = ("save_dir", "data_dir", "critic_model_path", "classifier_path")

    @model_validator(mode="after")
    def _classified(self) -> Self:
        _require_classified(self.data)
        return self


class SaveGtConfig(Settings):
    """Real clips by the critic's score and by action."""

    output: OutputSettings
    data: ActionDataSettings = ActionDataSettings()
    critic: ActionCriticSettings = ActionCriticSettings()

    important: ClassVar[tuple[str, ...]] = ("save_dir", "data_dir", "critic_model_path")


class SampleAndSaveConfig(Settings):
    """Motions of a policy for the actions of all clips, with the critic's scores."""

    output: OutputSettings
    policy: ActionPolicySettings
    data: ActionDataSettings = ActionDataSettings()
    critic: ActionCriticSettings = ActionCriticSettings()
    ddim_sampling: bool = False
    """Denoise without noise but the initial one; otherwise by DDPM."""

    important: ClassVar[tuple[str, ...]] = ("save_dir", "model_path", "data_dir", "critic_model_path")


class MeasureMDMConfig(SampleAndSaveConfig):
    """Motions of a policy for the actions of blocks of real clips, measured."""

    classifier: ActionClassifierSettings = ActionClassifierSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "model_path", "data_dir", "critic_model_path", "classifier_path"),
    )

    @model_validator(mode="after")
    def _classified(self) -> Self:
        _require_classified(self.data)
        return self


class DirectConfig(Settings):
    """Motions that are changed by the critic's gradient alone."""

    output: OutputSettings
    critic: ActionCriticSettings = ActionCriticSettings()

    input_path: Path = Path("save/gt/motion-evalbatch4.pth")
    """Motions of `jobs.save_gt`: a dictionary with `motion` [N, 25, 6, T], or that tensor, y up."""

    num_steps: int = Field(default=99, ge=1)
    """Steps of Adam."""

    lr: float = Field(default=1e-4, gt=0)
    """Adam's learning rate, on rotation vectors in radians and metres."""

    scale: float = Field(default=1.0, gt=0)
    """Factor of the loss."""

    save_interval: int = Field(default=10, ge=1)
    """Steps between files of the motions."""

    important: ClassVar[tuple[str, ...]] = ("save_dir", "input_path", "critic_model_path", "num_steps", "lr")


class ActionMDMSettings(Settings):
    """Sizes of a new network."""

    layers: int = Field(default=8, ge=1)
    """Number of transformer layers."""

    latent_dim: int = Field(default=512, ge=8)
    """Width of the network, a multiple of 8."""

    diffusion_steps: int = Field(default=1000, ge=1, le=4999)
    """Steps of the noise schedule."""

    noise_schedule: Literal["cosine", "linear"] = "cosine"
    """How noise is spread over the steps."""

    @field_validator("latent_dim")
    @classmethod
    def _heads(cls, value: int) -> int:
        if value % 8:
            raise UserError(f"latent_dim is {value}; it has to be a multiple of 8")
        return value


class TrainMDMRunSettings(TrainingRunSettings, DeviceSettings):
    """Run directory, length and device of the training."""

    num_steps: int = redeclared(SteppedRunSettings, "num_steps", 600_000)
    """Optimizer steps of the training."""

    save_interval: int = redeclared(SteppedRunSettings, "save_interval", 50_000)
    log_interval: int = redeclared(RunSettings, "log_interval", 1000)


class ActionSupervisedSettings(SupervisedSettings):
    """MDM's training on actions."""

    cond_mask_prob: float = redeclared(SupervisedSettings, "cond_mask_prob", 0.0)
    """Fraction of clips trained without their action; 0 as MDM's models of HumanAct12, which are not guided."""


class TrainMDMConfig(Settings):
    """Training of an MDM whose condition is an action."""

    run: TrainMDMRunSettings
    data: ActionDataSettings = ActionDataSettings()
    network: ActionMDMSettings = ActionMDMSettings()
    supervised: ActionSupervisedSettings = ActionSupervisedSettings()

    important: ClassVar[tuple[str, ...]] = ("save_dir", "data_dir", "num_steps", "batch_size", "learning_rate")


class TuneMDMRunSettings(RolloutRunSettings):
    """Run directory, length and evaluation."""

    num_steps: int = redeclared(SteppedRunSettings, "num_steps", 1200)
    """Steps of the tuning; each is rollouts and one update."""

    save_interval: int = redeclared(SteppedRunSettings, "save_interval", 100)
    eval_every: int = redeclared(RolloutRunSettings, "eval_every", 100)


class TuneSettings(GRPOSettings):
    """Tuning by the critic's gradient. Defaults are those of MotionCritic's guide where it has them."""

    policy_loss: str = redeclared(GRPOSettings, "policy_loss", "refl")
    reward_scale: float = redeclared(GradientSettings, "reward_scale", 0.1, spellings=("reward_scale", "critic_scale"))
    random_reward_loss: bool = redeclared(
        GradientSettings, "random_reward_loss", spellings=("random_reward_loss", "random_critic_loss")
    )
    reward_ceiling: float = redeclared(
        GradientSettings, "reward_ceiling", spellings=("reward_ceiling", "critic_threshold")
    )
    ddim_sampling: bool = redeclared(GradientSettings, "ddim_sampling", False)
    mdm_loss_weight: float = redeclared(GradientSettings, "mdm_loss_weight", 1.0)
    learning_rate: float = redeclared(GRPOSettings, "learning_rate", 1e-5)
    group_size: int = redeclared(GRPOSettings, "group_size", 2)
    weight_decay: float = redeclared(GRPOSettings, "weight_decay", 0.0)
    kl_penalty: float = redeclared(GRPOSettings, "kl_penalty", 0.0, spellings=("kl_scale", "kl_penalty"))
    """Weight of the KL divergence to the policy as it was, where `use_kl_loss` is set."""
    reward_shape: Literal["linear", "sigmoid", "relu"] = redeclared(GradientSettings, "reward_shape", "sigmoid")


_ALMOST_NONE = 1e-12
"""Decay of an average that is the weights after the last update."""


class TuneMDMConfig(Settings):
    """Tuning of an MDM of actions by a critic's gradient."""

    run: TuneMDMRunSettings
    policy: ActionPolicySettings
    data: ActionDataSettings = ActionDataSettings()
    critic: ActionCriticSettings = ActionCriticSettings()
    grpo: TuneSettings = TuneSettings()
    cluster: ClusterSettings = ClusterSettings()

    batch_size: int = Field(default=64, ge=1, le=10_000)
    """Actions of a step, drawn as often as the data has them, each with `group_size` motions."""

    use_kl_loss: bool = False
    """Add the KL divergence to the policy as it was, with the weight `kl_scale`."""

    relu_loss: bool = False
    """Loss max(0, 12 - score) instead of sigmoid(-score)."""

    no_critic_loss: bool = Field(default=False, validation_alias=AliasChoices("no_critic_loss", "no_reward_loss"))
    """Leave the critic's loss out: only the loss on real clips, and the KL, are left."""

    kl_reference: Literal["frozen", "previous"] = "frozen"
    """Policy that the KL divergence refers to: the one before the tuning, or, by `previous`, the one before the update,
    which bounds how far an update of several optimizer steps goes (`policy_loss easytune`, `num_epochs`)."""

    render_video: Annotated[bool, Effect("records")] = False
    """After each evaluation write a page, `rendered/step#########.html`, that plays motions and needs no network."""

    render_batch_size: Annotated[int, Effect("records")] = Field(default=1, ge=1)
    """Motions on such a page, one for each of the first actions."""

    render_gt: Annotated[bool, Effect("records")] = False
    """Write such a page of real clips, `rendered/gt.html`, when the tuning begins."""

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "model_path", "critic_model_path", "num_steps", "batch_size"),
        *("reward_scale", "kl_penalty", "use_kl_loss", "resume"),
    )

    @property
    def effective(self) -> GRPOSettings:
        """The options of the learner."""
        changes: dict[str, object] = {"micro_batch_size": self.grpo.micro_batch_size}
        if self.relu_loss:
            changes["reward_shape"] = "relu"
        if self.no_critic_loss:
            changes["reward_scale"] = 0.0
        if not self.use_kl_loss:
            changes["kl_penalty"] = 0.0
        elif self.kl_reference == "previous":
            changes["kl_average_decay"] = _ALMOST_NONE
        return self.grpo.model_copy(update=changes)
