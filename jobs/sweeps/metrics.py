"""Which metrics the trials of a search will report, known before any starts.

Names are those of `metrics.jsonl`; held-out figures are `evaluation/NAME`, those of the finished result `final/NAME`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

from jobs.configs.grpo import GRPOConfig
from jobs.trainings.training_jobs import CONFIGS
from motions.base.errors import UserError
from motions.settings import Settings
from rewards.declared.semantic import SemanticSettings
from rewards.evaluation.kinematics import KINEMATICS
from rewards.scorers import reward_terms, rewards_of

JUDGE = "evaluation/judge_matching"
STEP_METRICS: dict[str, tuple[str, ...]] = {
    "grpo": (
        *("reward/total", "seconds/step", "advantage/reward_std", "policy/kl_reference", "policy/approx_kl"),
        *("policy/grad_norm", "policy/ratio_mean", "policy/ratio_max", "policy/loss"),
    ),
    "pretrain": ("loss",),
    "train_retrieval": (
        "loss",
        *(
            f"evaluation/{way}/{figure}"
            for way in ("t2m", "m2t")
            for figure in ("R01", "R02", "R03", "R05", "R10", "MedR")
        ),
        *("evaluation/cosine_right", "evaluation/cosine_wrong"),
    ),
    "train_critic": (
        *("loss", "accuracy", "grad_norm", "evaluation/validation/accuracy", "evaluation/validation/log_loss"),
        *("evaluation/test/accuracy", "evaluation/test/log_loss"),
    ),
    "train_mdm": ("loss", "grad_norm", "learning_rate"),
    "tune_mdm": (
        *("reward/total", "evaluation/total", "seconds/step", "policy/tuned_reward", "policy/kl_reference"),
        *("policy/loss", "policy/grad_norm"),
    ),
    "sft": ("loss", "val_loss", "val_rmse", "std"),
    "trpo": (
        *("timesteps", "rollout/return", "rollout/length", "rollout/reward", "rollout/episodes"),
        *("policy/kl", "policy/gain", "critic/explained_variance"),
    ),
    "world_model": (
        *("timesteps", "rollout/return", "rollout/length", "rollout/reward"),
        *("evaluation/score", "evaluation/normalised_return", "evaluation/pushed_normalised_return"),
    ),
}
"""Those that do not depend on the options."""


def reported_metrics(job: str, config: Settings) -> set[str]:
    """Metrics that a trial with these options reports at every report, or at the end (`final/NAME`)."""
    names = set(STEP_METRICS[job])
    if isinstance(config, GRPOConfig):
        terms = set(reward_terms(config.rewards)) - _other_forms(config.rewards.semantic)
        if config.rewards.physics.contact_source == "height":
            terms.discard("contact_denied")
        held_out = {"total", *terms, *KINEMATICS}
        if config.evaluation.judge_path != "none":
            held_out.add("judge_matching")
        if config.evaluation.second_judge and config.evaluation.eval_prompts_path is None:
            held_out.add("second_judge")
        names |= {f"reward/{name}" for name in terms}
        names |= {f"evaluation/{name}" for name in held_out}
        final = {*held_out, *(["diversity_m"] if config.evaluation.num_eval_samples > 1 else [])}
        if config.evaluation.judge_path != "none":
            final.add("fid")
        names |= {f"final/{name}" for name in final - {"joint_speed"}}
    return names


def _other_forms(semantic: SemanticSettings) -> set[str]:
    """Terms that the semantic reward has in forms other than the one that is asked for."""
    if semantic.reward_model_type == "tmr":
        return {"evaluator_distance", "retrieved"}
    if semantic.use_dense_reward:
        return {"retrieved"}
    only_dense = {"margin_active", "logic_accuracy"}
    return only_dense | ({"retrieved"} if semantic.reward_type == "matching" else set())


def metric_of(config: Settings, space: Collection[str], default: str) -> str:
    """What is searched for where nothing else is asked: the training's own metric, or the judge's where the space
    changes the rewards, whose values would then mean different things in different trials.

    Args:
        space: dotted paths of the searched options.
    """
    changes = isinstance(config, GRPOConfig) and any(path.startswith("rewards.") for path in space)
    return JUDGE if changes else default


def check_comparable(config: Settings, space: Collection[str], metric: str) -> None:
    """Checks that a metric means the same in all trials.

    Args:
        space: dotted paths of the searched options.

    Raises:
        UserError: it is a sum of rewards whose weights the space changes.
    """
    weights = [path.rpartition(".")[2] for path in space if path.startswith("rewards.")]
    of_rewards = isinstance(config, GRPOConfig) and metric.partition("/")[2] in (*rewards_of(config.rewards), "total")
    if weights and of_rewards:
        raise UserError(
            f"metric {metric} is measured with {', '.join(weights)}, which the space changes: its values could not be "
            f"compared between trials. Search for one that does not depend on them, such as {JUDGE}"
        )


def check_metric(job: str, config: Settings, metric: str) -> None:
    """Checks that trials will report a metric.

    Raises:
        UserError: they will not.
    """
    assert job in CONFIGS
    names = reported_metrics(job, config)
    if metric not in names:
        near = difflib.get_close_matches(metric, sorted(names), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(names))}"
        raise UserError(f"metric {metric}: no trial of jobs.{job} reports it; {hint}")
