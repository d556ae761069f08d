"""What a GRPO run measures beside its rewards: judges, kinematic figures, real motions, further samplers, hacking."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.records.measured import read_json_lines
from cluster.records.opening import EVALUATIONS
from cluster.run.controller import Controller
from cluster.run.groups import ScoredGroup
from cluster.runtime.protocol import Output
from jobs.configs.grpo import GRPOConfig
from jobs.text.grpo_prompts import PromptBatches, load_matching_dataset, missing_windows
from motions.data.prompts import Prompt
from motions.data.text_motion import TextMotion
from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.breakdown import SamplerRow, places_by_kind, rows_by_clip, rows_by_kind
from rewards.evaluation.comparison import compare, figures, shared_places, write_evaluation
from rewards.evaluation.evidence import Evidence, measure_evidence
from rewards.evaluation.hacking import JUDGES, signs_of_hacking
from rewards.evaluation.intervals import Resamples
from rewards.evaluation.kinematics import kinematic_figures
from rewards.evaluation.linear_judge import LinearJudge
from rewards.evaluation.real import RealMotions
from rewards.evaluation.text import Evaluation, beside_rewards, embed_clips, measure, metre_joints
from rewards.scorers import reward_terms
from rewards.tmr.scorer import Embedder
from rollouts.diffusion.chain_kl import chain_kl
from rollouts.messages import GroupMotions, PolicyVersion
from rollouts.one_action.policy import OneActionPolicy
from rollouts.policy import Policy
from rollouts.registry import DETERMINISTIC_SAMPLERS, NOISE_SCALES
from rollouts.settings import Denoising

BASE, TUNED = "base", "tuned"
ONE_TEXT = "one text for all segments"
"""Note of the base that reads a composite prompt as a whole, where the run reads segments."""
OTHER_SAMPLES = 2
"""Motions per prompt in the table of samplers: the base's own sampler takes many steps."""
CHAIN_PROMPTS, MOST_CHAIN_STEPS = 4, 100


@dataclass(frozen=True)
class Instruments:
    """What motions are measured with beside the rewards; a function of configuration and data."""

    skeleton: Skeleton
    judge: Embedder | None
    second_judge: LinearJudge | None
    held_out: tuple[TextMotion, ...]
    """Real windows of the policy's skeleton; none where there are none, or where nothing needs them."""
    evidence: tuple[Evidence, ...]
    lacks: tuple[str, ...]
    """What is not measured, and why."""

    @property
    def real(self) -> RealMotions:
        """The held-out windows, by their captions."""
        return RealMotions(self.held_out, self.skeleton)

    @property
    def judges(self) -> list[str]:
        """Terms of the judges that know the data."""
        blind = {found.name for found in self.evidence if not found.counts}
        return [name for name in JUDGES if name not in blind]

    def terms(self, group: GroupMotions) -> dict[str, np.ndarray]:
        """Terms [N] of a group beside those of the rewards."""
        return beside_rewards(group, self.skeleton, self.judge, self.second_judge).terms

    def real_figures(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Mean kinematic figures of real motions of these prompts, as far as there are any."""
        real = self.real
        found = [motion for prompt in prompts if (motion := real.motion_of(prompt)) is not None]
        rows = [kinematic_figures(metre_joints(group, self.skeleton), group.lengths, self.skeleton) for group in found]
        return {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else ())}


def prepare_instruments(
    config: GRPOConfig, skeleton: Skeleton, judge: Embedder | None, rewards: Mapping[str, Embedder]
) -> Instruments:
    """Fits the second judge, and measures every network that scores text and motion on real held-out motions.

    Args:
        rewards: networks of the rewards, by the reward's name.
    """
    from_data = config.evaluation.eval_prompts_path is None
    lacks = []
    held_out: tuple[TextMotion, ...] = ()
    if judge is not None or from_data:
        if reason := missing_windows(config, skeleton):
            lacks.append(f"FID is not measured, nor are real motions and what judges know of them: {reason}")
        else:
            held_out = load_matching_dataset(config, skeleton).items("test")
    second = None
    if config.evaluation.second_judge and from_data:
        try:
            second = LinearJudge.fit(load_matching_dataset(config, skeleton).items("judge"), skeleton)
        except ValueError as error:
            lacks.append(f"there is no second judge: {error}")
    named = {**rewards, "judge_matching": judge, "second_judge": second}
    measured = [
        measure_evidence(name, found, held_out) for name, found in named.items() if found is not None and held_out
    ]
    evidence = tuple(found for found in measured if found is not None)
    return Instruments(skeleton, judge, second, held_out, evidence, tuple(lacks))


class HackingWatch:
    """Looks for signs of hacking after an evaluation.

    Args:
        prompts: of the evaluation.
    """

    def __init__(self, config: GRPOConfig, instruments: Instruments, prompts: Sequence[Prompt]) -> None:
        self._folder: Path = config.run.save_dir
        self._stops = config.evaluation.stop_on_hacking
        self._instruments = instruments
        self._prompts = tuple(prompts)

    def signs(self) -> list[str]:
        """Signs in the evaluations that the run directory holds."""
        records = read_json_lines(self._folder / EVALUATIONS)
        if len(records) < 2:
            return []
        real = self._instruments.real
        clips = [real.clip_of(prompt) for prompt in self._prompts]
        aims = self._instruments.real_figures(self._prompts)
        return signs_of_hacking(records, aims, clips, self._instruments.judges)

    def __call__(self) -> bool:
        """Prints the signs; whether the run ends because of them."""
        signs = self.signs()
        for sign in signs:
            print(f"warning: signs that the policy only pleases the reward: {sign}", flush=True)
        if signs and self._stops:
            print("the training ends here (stop_on_hacking)", flush=True)
        return bool(signs) and self._stops


@dataclass(frozen=True, slots=True)
class OtherSampling:
    """A measurement beside the evaluation's own."""

    policy: str
    """`BASE` or `TUNED`."""
    note: str
    denoising: Denoising
    whole_texts: bool = False
    """Whether composite prompts are read as one text where the run reads segments."""


def other_samplings(config: GRPOConfig, num_steps: int, *, composed: bool) -> list[OtherSampling]:
    """The measurements beside the evaluation's own.

    Args:
        num_steps: all denoising steps of the policy's model.
        composed: the run reads segments, and the same prompts can be read as whole texts: so does the base then too.
    """
    own = config.sampling.evaluation
    own = dataclasses.replace(own, sampling_steps=own.sampling_steps or num_steps)
    ways = {own}
    found: list[OtherSampling] = []

    def add(policies: Sequence[str], note: str, denoising: Denoising) -> None:
        if denoising not in ways:
            ways.add(denoising)
            found.extend(OtherSampling(policy, note, denoising) for policy in policies)

    training = dataclasses.replace(config.sampling.denoising, eta=own.eta)
    add(
        (BASE, TUNED),
        "of the training",
        dataclasses.replace(training, sampling_steps=training.sampling_steps or num_steps),
    )
    others = config.evaluation.eval_other_steps
    for steps in others:
        add((BASE, TUNED), "of eval_other_steps", dataclasses.replace(own, sampling_steps=min(steps, num_steps)))
    whole = dataclasses.replace(own, sampling_steps=num_steps)
    if composed and others:
        found.append(OtherSampling(BASE, ONE_TEXT, own, whole_texts=True))
        if whole != own:
            found.append(OtherSampling(BASE, f"the base's own: all steps, {ONE_TEXT}", whole, whole_texts=True))
    elif others:
        add((BASE,), "the base's own: all steps", whole)
    return found


def sampler_words(denoising: Denoising, num_steps: int) -> str:
    """A way of denoising for the report."""
    noise = f"noise_scale {denoising.scale:g}" if denoising.sampler in NOISE_SCALES else f"eta {denoising.eta:g}"
    kind = f"{denoising.sampler} ({noise})" if denoising.eta else "deterministic"
    return _words(denoising, num_steps, f"{kind} denoising steps")


def _brief_words(denoising: Denoising, num_steps: int) -> str:
    return _words(denoising, num_steps, "steps")


def _words(denoising: Denoising, num_steps: int, steps: str) -> str:
    solver = f" by {denoising.sampler}" if denoising.sampler in DETERMINISTIC_SAMPLERS else ""
    return f"{denoising.sampling_steps or num_steps} {steps}{solver}, guidance {denoising.guidance_scale:g}"


class Measurement:
    """Measures the base and the trained policy of a run on its held-out prompts.

    Args:
        policy: on the CPU; its weights are replaced.
        all_steps: denoising steps of its model.
    """

    def __init__(
        self,
        config: GRPOConfig,
        instruments: Instruments,
        batches: PromptBatches,
        controller: Controller,
        policy: Policy,
        all_steps: int,
    ) -> None:
        self._config = config
        self._instruments = instruments
        self._batches = batches
        self._controller = controller
        self._policy = policy
        self._own_steps, self._all_steps = policy.num_steps, all_steps

    def write(self, base: PolicyVersion, final: PolicyVersion) -> None:
        """Measures and writes `evaluation.json` and `samples/`, and prints the comparison.

        Raises:
            RunFailed: a rollout or a reward failed for good.
            UserError: nothing is left to compare, as every prompt lost its group before or after.
        """
        config, controller, tools = self._config, self._controller, self._instruments
        weights = {
            BASE: (base.number, controller.runtime.put(base)),
            TUNED: (final.number, controller.runtime.put(final)),
        }
        groups = self._rolled_out(*weights[BASE])
        after_groups = {group.request.prompt_index: group for group in controller.final_groups}
        after_groups = after_groups or self._rolled_out(*weights[TUNED])
        places = shared_places(groups, after_groups)
        before, after = self._measured(groups, places), self._measured(after_groups, places)
        windows = None
        embedder = tools.judge or tools.second_judge
        if embedder is not None and tools.held_out:
            windows = embed_clips(embedder, [item.features for item in tools.held_out])
        clips = [tools.real.clip_of(prompt) for prompt in before.prompts]
        real = self._real(before.prompts)
        aims, aims_by_kind = real_figures(real, windows)
        terms = reward_terms(config.rewards)
        changes = compare(before, after, terms, windows, real=aims, clips=clips)
        own = config.sampling.evaluation
        words = sampler_words(own, self._own_steps)
        brief = _brief_words(own, self._own_steps)
        if isinstance(self._policy, OneActionPolicy):
            words = brief = "one action"
        rows = [
            SamplerRow(
                policy,
                brief,
                "of the evaluation, and of jobs.generate",
                evaluation.first_samples(OTHER_SAMPLES, tools.skeleton),
            )
            for policy, evaluation in ((BASE, before), (TUNED, after))
        ]
        for other in other_samplings(config, self._all_steps, composed=self._batches.has_whole_texts):
            found = self._rolled_out(*weights[other.policy], other)
            kept = [place for place in places if place in found]
            if kept:
                evaluation = self._measured(found, kept)
                how = _brief_words(other.denoising, self._all_steps)
                rows.append(SamplerRow(other.policy, how, other.note, evaluation))
        left_out = config.prompts.leave_out_clips
        further = {
            "caution": Resamples([prompt.text for prompt in before.prompts], clips).caution,
            "num_texts": len({prompt.text for prompt in before.prompts}),
            "kinds": rows_by_kind(before, after, terms, windows, aims_by_kind, clips),
            "clips": rows_by_clip(before, after, clips, left_out),
            "samplers": [row.row(windows) for row in rows],
            "real": {"figures": aims, "kinds": aims_by_kind},
            "evidence": [found.row() for found in tools.evidence],
            "chain_kl": self._chain_kl(final, base),
            "hacking": HackingWatch(config, tools, self._batches.held_out).signs(),
        }
        write_evaluation(config.run.save_dir, before, after, changes, tools.skeleton, words, further)
        for change in changes:
            beside = "" if change.real is None else f"   (real motions {change.real:.4g})"
            print(f"{change.name:<18} {change.before:.4g} -> {change.after:.4g}{beside}")

    def _chain_kl(self, final: PolicyVersion, base: PolicyVersion) -> list[float] | None:
        """KL to the base by denoising step, on a few prompts; None where the chain is too long for this process."""
        if not 1 < self._policy.num_steps <= MOST_CHAIN_STEPS:
            return None
        requests = self._batches.evaluation(final.number)[:CHAIN_PROMPTS]
        few = [dataclasses.replace(request, num_samples=1) for request in requests]
        return chain_kl(self._policy, final, base, few).tolist()

    def _rolled_out(self, number: int, version: Output, other: OtherSampling | None = None) -> dict[int, ScoredGroup]:
        if other is None:
            requests = self._batches.evaluation(number)
        else:
            fewer = min(OTHER_SAMPLES, self._config.evaluation.num_eval_samples)
            requests = self._batches.evaluation(number, other.denoising, fewer, whole_texts=other.whole_texts)
        groups = self._controller.judge(requests, version)
        return {group.request.prompt_index: group for group in groups}

    def _measured(self, groups: Mapping[int, ScoredGroup], places: Sequence[int]) -> Evaluation:
        chosen = [groups[place] for place in places]
        motions = [self._controller.motions(group) for group in chosen]
        tools = self._instruments
        return measure(motions, [group.rewards for group in chosen], tools.skeleton, tools.judge, tools.second_judge)

    def _real(self, prompts: Sequence[Prompt]) -> Evaluation | None:
        tools, real = self._instruments, self._instruments.real
        motions = [motion for prompt in prompts if (motion := real.motion_of(prompt)) is not None]
        rewards = self._controller.score(motions, "the real motions")
        pairs = [(motion, mixed) for motion, mixed in zip(motions, rewards, strict=True) if mixed is not None]
        if not pairs:
            return None
        kept, scores = zip(*pairs, strict=True)
        return measure(kept, scores, tools.skeleton, tools.judge, tools.second_judge)


def real_figures(
    real: Evaluation | None, windows: np.ndarray | None
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Figures of real motions, and the same by kind of prompt; nothing where there are none."""
    if real is None:
        return {}, {}
    kinds = {kind: figures(real.of(places), windows) for kind, places in places_by_kind(real.prompts).items()}
    return figures(real, windows), kinds


def evidence_lines(instruments: Instruments) -> list[str]:
    """What the run says of its networks before it starts."""
    return [*(found.words for found in instruments.evidence), *instruments.lacks]
