"""What others add without touching a file of the product: a reward, a denoiser, a sampler, a policy loss and a text
encoder by token, each defined here, named `package.module:Name`, and used together in one small run of GRPO."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from jobs import grpo
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.report.from_run import read_document
from jobs.text.generation import recorded_sampler
from learners.grpo.loss import GRPOInputs
from learners.grpo.settings import GRPOSettings
from motions.data.prompts import Prompt
from motions.settings import Settings
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, Skeleton
from rewards.declared.declaration import RewardDeclaration, Term
from rewards.messages import RewardTerms
from rewards.settings import RewardSettings
from rollouts.checkpoints.mdm_files import load_mdm, model_args_of, save_mdm
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.transitions import StepCoefficients, ddim_transition
from rollouts.messages import GroupMotions
from rollouts.networks.denoiser_network import DenoiserNetwork
from rollouts.policy import Transition
from rollouts.settings import Denoising, DenoisingSettings
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow

HERE = "tests.house.test_seams"
used: set[str] = set()
"""Names of the toys that ran; the local runtime runs them in this process."""


class StillnessSettings(Settings):
    """Stillness of the features."""

    stillness_weight: float = Field(default=0.5, ge=0.0)
    """Weight of stillness in the total."""
    alpha: float = Field(default=1.0, gt=0.0)
    """Factor of the change; another reward has an option of this name."""
    most_words: int = Field(default=50, ge=1)
    """Words of a text that it reads."""


class Stillness:
    """A reward: motions whose features change little."""

    name = "stillness"
    declaration = RewardDeclaration(
        options=StillnessSettings,
        weight=lambda own: own.stillness_weight,
        terms={
            "stillness": Term("How little the features change"),
            "change": Term("Mean change of the features", "lower", own_scale=True),
        },
        differentiable=True,
        limits_prompts=True,
    )

    def __init__(self, own: StillnessSettings) -> None:
        self.own = own

    @classmethod
    def from_settings(cls, settings: RewardSettings, skeleton: Skeleton, texts: object = None) -> Stillness:
        return cls(settings.own(StillnessSettings))

    def misfit(self, prompt: Prompt) -> str | None:
        return "it has too many words" if len(prompt.text.split()) > self.own.most_words else None

    def score(self, motions: GroupMotions) -> RewardTerms:
        used.add("reward")
        change = np.abs(np.diff(motions.features, axis=1)).mean(axis=(1, 2)).astype(np.float32)
        return RewardTerms(self.name, {self.name: np.exp(-self.own.alpha * change), "change": change}, 0.0)

    def score_with_gradient(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        return (-self.own.alpha * features.diff(dim=1).abs().mean(dim=(1, 2))).exp()

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        return [self.score(group) for group in groups]


class WordDenoiser(DenoiserNetwork):
    """A denoiser of one hidden layer that adds the mean of a text's tokens to every frame."""

    adapter_targets: Mapping[str, tuple[str, ...]] = {"all": ("inner", "outer")}
    text_form = "tokens"

    def __init__(self, num_features: int, text_dim: int, width: int, max_positions: int) -> None:
        super().__init__()
        self.num_features, self.text_dim, self.width, self.max_positions = num_features, text_dim, width, max_positions
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.inner = nn.Linear(num_features, width)
            self.outer = nn.Linear(width, num_features)
            self.words = nn.Linear(text_dim, width)
            self.times = nn.Embedding(max_positions, width)

    @classmethod
    def build(cls, args: Mapping[str, Any], num_features: int, text_dim: int, seed: int = 0) -> WordDenoiser:
        return cls(num_features, text_dim, args["latent_dim"], args["pos_embed_max_len"])

    @classmethod
    def from_file(cls, state: Mapping[str, Tensor], args: Mapping[str, Any]) -> WordDenoiser:
        network = cls.build(args, len(state["toy.outer.bias"]), args["text_dim"])
        network.load_state_dict({name.removeprefix("toy."): value for name, value in state.items()})
        return network

    def to_file(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        return {f"toy.{name}": value for name, value in (weights or self.state_dict()).items()}

    def args(self) -> dict[str, Any]:
        sizes = {"latent_dim": self.width, "text_dim": self.text_dim, "pos_embed_max_len": self.max_positions}
        return {"arch": f"{HERE}:WordDenoiser", "layers": 1, **sizes}

    def encode_text(self, text: Tensor, drop_text: Tensor | None = None) -> Tensor:
        return self.words(text if drop_text is None else text.masked_fill(drop_text.view(-1, 1, 1), 0.0))

    def encode_null(self, batch_size: int, num_tokens: int = 1) -> Tensor:
        return self.words.bias.expand(batch_size, num_tokens, -1)

    def embed_timesteps(self, timesteps: Tensor) -> Tensor:
        return self.times(timesteps)

    def denoise(
        self,
        x: Tensor,
        text: Tensor,
        time: Tensor,
        frame_mask: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        used.add("denoiser" if text.shape[1] > 1 else "pooled text")
        share = torch.ones_like(text[..., :1]) if text_mask is None else text_mask[..., None].to(text.dtype)
        words = (text * share).sum(1) / share.sum(1)
        return self.outer(torch.tanh(self.inner(x.to(self.inner.weight.dtype)) + (words + time)[:, None]))


class HalfNoise:
    """A sampler: DDIM with half of its noise."""

    @classmethod
    def of(cls, denoising: Denoising) -> HalfNoise:
        return cls()

    def transition(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        used.add("sampler")
        return ddim_transition(x_t, x0, step, eta=0.5)

    def noiseless(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        return ddim_transition(x_t, x0, step, eta=0.0)


def unclipped(ratio: Tensor, inputs: GRPOInputs, settings: GRPOSettings) -> Tensor:
    """A policy loss: the plain policy gradient."""
    used.add("policy loss")
    return -inputs.advantages * ratio


class Letters:
    """A text encoder by token: every word is its length and its first letter."""

    dim, max_tokens, max_positions, fingerprint = 4, 64, 64, "letters"

    def __init__(self, path: str | None = None) -> None:
        self.words: dict[int, str] = {}

    def tokenize(self, text: str) -> list[int]:
        ids = [sum(256**place * min(ord(letter), 255) for place, letter in enumerate(word)) for word in text.split()]
        self.words |= dict(zip(ids, text.split(), strict=True))
        return ids

    def pooled(self, ids: Sequence[int]) -> np.ndarray:
        raise AssertionError("the denoiser reads tokens")

    def tokens(self, ids: Sequence[int]) -> np.ndarray:
        used.add("text encoder")
        rows = [[len(self.words[i]) / 10.0, ord(self.words[i][0]) / 256.0, 1.0, 0.0] for i in ids]
        return np.array(rows, np.float32)


@pytest.fixture
def toy_policy(tmp_path: Path) -> Path:
    network = WordDenoiser(HUMANML3D.num_features, Letters.dim, 8, 64)
    args = model_args_of(
        network,
        DiffusionSchedule("cosine", 6),
        "humanml3d",
        f"{HERE}:Letters",
        text_encoder_fingerprint=Letters.fingerprint,
    )
    width = HUMANML3D.num_features
    save_mdm(tmp_path / "policy", 0, network, args, Normalizer(np.zeros(width), np.ones(width)))
    return tmp_path / "policy"


def test_one_of_each_is_added_without_touching_the_product(
    tiny_models: TinyModels, toy_policy: Path, tmp_path: Path
) -> None:
    """And without the rewards that it does not name: the path to TMR leads nowhere."""
    used.clear()
    words = grpo_words(
        tiny_models,
        tmp_path / "run",
        model_path=toy_policy,
        arch=f"{HERE}:WordDenoiser",
        text_encoder=f"{HERE}:Letters",
        sampler=f"{HERE}:HalfNoise",
        policy_loss=f"{HERE}:unclipped",
        extra_rewards=f"{HERE}:Stillness",
        use_physics_reward=False,
        beta_s=0,
        tmr_checkpoint_path=tmp_path / "nowhere",
        max_motion_length=60,
        composite_fraction=0,
    )
    assert cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", argv=words) == 0
    assert used == {"reward", "denoiser", "sampler", "policy loss", "text encoder"}
    assert json.loads((tmp_path / "run" / "rewards.json").read_text())[-1]["weight"] == 0.5
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("reward/stillness" in line for line in lines) and not any("reward/semantic" in line for line in lines)
    exported, start = (
        load_mdm(folder, arch=f"{HERE}:WordDenoiser").network for folder in (tmp_path / "run", toy_policy)
    )
    assert isinstance(exported, WordDenoiser) and exported.args() == start.args()
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_reward_brings_its_options_meanings_and_limits(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the product names it; a class in `--extra_rewards` does."""

    def main(*more: str, **changes: object) -> tuple[int, str]:
        words = grpo_words(tiny_models, tmp_path / "run", extra_rewards=f"{HERE}:Stillness=2", **changes)
        code = cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", grpo.dry_run, argv=[*words, *more])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    own = {"stillness_weight": 0.25, "rewards.stillness.alpha": 3, "alpha": 0.125}
    code, plan = main("--dry_run", **own)
    assert code == 0 and "reward stillness: weight 0.5, has a gradient; terms stillness, change" in plan
    assert "most_words: 50" in plan, "the settings of a dry run are all that hold"
    assert "Words of a text that it reads" in main("--help", "stillness")[1]
    assert "error: --stillness_weight -1: expected number >= 0" in main("--stillness_weight=-1")[1]
    assert "error: unknown option --most_word; did you mean --most_words" in main("--most_word=3")[1]
    assert "prompt 1 " in (refused := main(most_words=1)[1]) and "it has too many words" in refused
    assert not (tmp_path / "run").exists(), "all this is said before anything starts"

    assert main(**own)[0] == 0
    rows = json.loads((tmp_path / "run" / "evaluation.json").read_text())["rows"]
    meanings = {row["name"]: (row["meaning"], row["better"]) for row in rows}
    assert meanings["change"] == ("Mean change of the features", "lower")
    charts = {chart.title: [series.name for series in chart.series] for chart in read_document(tmp_path / "run").charts}
    assert "stillness" in charts["Reward terms, held-out"] and "change" in charts["Physical quantities, held-out"]
    saved = tmp_path / "run" / "config.yaml"
    again = cli.parse(GRPOConfig, ["--config", str(saved)], "jobs.grpo").settings
    assert again.rewards.own(StillnessSettings) == StillnessSettings(stillness_weight=0.25, alpha=3.0)
    assert again.rewards.semantic.alpha == 0.125, "a flat name stays that of the product's own option"
    assert pickle.loads(pickle.dumps(again)) == again


def test_evaluations_may_denoise_in_another_way(tiny_models: TinyModels, tmp_path: Path) -> None:
    """It changes what is measured and how the result is generated from, and no weight."""
    options = {
        "plain": {},
        "other": {"eval_sampling_steps": 2, "eval_guidance_scale": 1},
        "noisy": {"eval_sampler": "ddim", "eval_eta": 0.5},
    }
    totals, words, weights = {}, {}, {}
    for name, changes in options.items():
        argv = grpo_words(tiny_models, tmp_path / name, **changes)
        assert cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", argv=argv) == 0
        evaluation = json.loads((tmp_path / name / "evaluation.json").read_text())
        totals[name], words[name] = evaluation["rows"][0]["before"], evaluation["sampler"]
        weights[name] = torch.load(tmp_path / name / "model_final.pt", weights_only=True)
    assert len(set(totals.values())) == 3
    assert words == {
        "plain": "4 deterministic denoising steps, guidance 2.5",
        "other": "2 deterministic denoising steps, guidance 1",
        "noisy": "4 ddim (eta 0.5) denoising steps, guidance 2.5",
    }
    for name in ("other", "noisy"):
        assert all(torch.equal(value, weights[name][key]) for key, value in weights["plain"].items())
    taken = recorded_sampler(str(tmp_path / "other"), DenoisingSettings())
    assert (taken.sampling_steps, taken.guidance_scale) == (2, 1.0)
    noisy = recorded_sampler(str(tmp_path / "noisy"), DenoisingSettings())
    assert (noisy.sampler, noisy.eta, noisy.sampling_steps) == ("ddim", 0.5, 4)
