"""An evaluation: what it loads and checks, how it goes on, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluster.run.plan import cluster_resources
from cluster.run.session import opened_runtime
from jobs.command_line import main as cli
from jobs.evaluation import collecting, draws
from jobs.evaluation.describing import comparable
from jobs.evaluation.preparing import PreparedEvaluation, prepare
from jobs.evaluation.replicating import Measured, References, generated, metrics_of, repeated
from jobs.evaluation.settings import EvaluateConfig
from jobs.evaluation.tables import EvaluationResult, as_json, as_log, as_markdown
from motions.base.atomic import atomic_write
from rewards.evaluation.protocol.measuring import MeasuredGroup
from rewards.evaluation.protocol.replications import Summary, summaries
from rollouts.messages import GroupMotions, PolicyVersion

GROUND_TRUTH, MODEL, RETRIEVAL = "ground truth", "model", "retrieval"


def run(config: EvaluateConfig) -> None:
    """Evaluates, prints the table and writes log, JSON and Markdown."""
    ready = prepare(config)
    result = evaluate(ready)
    ready.folder.mkdir(parents=True, exist_ok=True)
    texts = {
        ".log": as_log(result),
        ".json": json.dumps(as_json(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        ".md": as_markdown(result),
    }
    print(texts[".md"])
    for ending, text in texts.items():
        with atomic_write(ready.folder / f"{ready.stem}{ending}") as file:
            file.write(text.encode())
        print(ready.folder / f"{ready.stem}{ending}")


def plan(config: EvaluateConfig) -> None:
    """Loads and checks everything, and says what would be evaluated; starts no actor and writes nothing."""
    ready = prepare(config)
    print(cli.settings_yaml(ready.config))
    motions = sum(request.num_samples for request in ready.requests)
    print(
        f"\n{len(ready.replications)} replications of {len(ready.replications[0].samples)} texts: {motions} motions in "
        f"{len(ready.requests)} groups, of {len(ready.items)} real motions to compare with"
    )
    for role in ready.plan.roles:
        print(f"{role.count} x {role.name}: {role.num_cpus:g} CPU, {role.num_gpus:g} GPU each")
    for note in ready.notes:
        print(f"note: {note}")
    print(f"would write {ready.folder / ready.stem}.log, .json and .md")
    ready.plan.check(cluster_resources(config.cluster, ready.plan))


def evaluate(ready: PreparedEvaluation) -> EvaluationResult:
    """Generates, measures, and computes all metrics.

    Raises:
        CallFailed: a rollout or a measurement failed for good.
        NotFiniteError: a metric is not finite.
    """
    config, settings = ready.config, ready.config.protocol
    reference = _reference_windows(ready)
    with opened_runtime(config.cluster, ready.plan) as runtime:
        runtime.start(list(ready.plan.roles))
        wanted = list(dict.fromkeys([*reference, *(window for own in ready.windows for window in own)]))
        real = collecting.measure_real(runtime, wanted, lambda window: window.motion(ready.items))
        joined = collecting.measure_real(
            runtime, list(ready.real_composites), lambda prompt: ready.real_composites[prompt]
        )
        version = runtime.put(PolicyVersion(0, ready.policy.weights()))
        groups = collecting.measure_requests(runtime, ready.requests, version)
        found = collecting.measure_real(
            runtime,
            range(len(ready.requests)) if ready.retriever is not None else (),
            lambda place: _looked_up(ready, place),
        )
    single = np.stack([real[window].motions[0] for window in reference]) if reference else None
    if ready.composites:
        own = np.stack([group.motions[0] for group in joined.values()]) if len(joined) > 1 else None
        references = References(own, single)
        # The joined real motions are what FID compares with; their distance to themselves says nothing.
        of_truth = References(None, single)
        truths: list[list[Measured]] = [[(group, 0) for group in joined.values()]] * len(ready.replications)
    else:
        references = of_truth = References(single)
        truths = [[(real[window], 0) for window in own] for own in ready.windows]
    rows = {}
    if sum(len(group.texts) for group, _ in truths[0]) >= settings.pool_size:
        rows[GROUND_TRUTH] = _summaries(ready, truths, of_truth, GROUND_TRUTH)
    made = [generated(replication, groups) for replication in ready.replications]
    rows[MODEL] = _summaries(
        ready, made, references, MODEL, [repeated(replication, groups) for replication in ready.replications]
    )
    if found:
        looked_up = list(found.values())
        rows[RETRIEVAL] = _summaries(
            ready,
            [generated(replication, looked_up) for replication in ready.replications],
            references,
            RETRIEVAL,
            [repeated(replication, looked_up) for replication in ready.replications],
        )
    return EvaluationResult(
        title=f"Evaluation of {config.policy.model_path}, {settings.eval_mode}",
        rows=rows,
        facts=ready.facts,
        notes=[*ready.notes, *_small_sample(rows, len(made[0]), single)],
        comparable=comparable(config, ready.policy.skeleton),
        prompts=_by_prompt(ready, groups),
    )


def _looked_up(ready: PreparedEvaluation, place: int) -> GroupMotions:
    """Motions of the training split for the prompt of a request, as many as it asks for."""
    assert ready.retriever is not None
    request, seed = ready.requests[place], ready.config.protocol.seed
    return ready.retriever.generate([request.prompt], request.num_samples, seed + place)[0]


def _summaries(
    ready: PreparedEvaluation,
    motions: Sequence[Sequence[Measured]],
    references: References,
    row: str,
    repeats: Sequence[Sequence[Sequence[Measured]]] | None = None,
) -> dict[str, Summary]:
    settings = ready.config.protocol
    purpose = (GROUND_TRUTH, MODEL, RETRIEVAL).index(row)
    found = [
        metrics_of(
            own,
            references,
            settings,
            np.random.default_rng([settings.seed, number, purpose]),
            by_cosine=ready.config.chosen_network == "tmr",
            repeats=() if repeats is None else repeats[number],
        )
        for number, own in enumerate(motions)
    ]
    return summaries(found, f"the {row}")


def _reference_windows(ready: PreparedEvaluation) -> list[draws.Window]:
    if not ready.items:
        return []
    return draws.reference_windows(ready.items, draws.crop_of(ready.config), ready.config.protocol.seed)


def _small_sample(rows: Mapping[str, Mapping[str, Summary]], count: int, real: np.ndarray | None) -> list[str]:
    if real is None or "fid" not in rows[MODEL]:
        return []
    fewest, width = min(count, len(real)), real.shape[1]
    if fewest > width:
        return []
    return [
        f"FID is of {fewest} motions in {width} dimensions, whose covariance has no full rank: compare it only with "
        "FIDs of as many motions"
    ]


def _by_prompt(ready: PreparedEvaluation, groups: Sequence[MeasuredGroup]) -> list[dict[str, Any]]:
    """Figures of the motions of every composite prompt; other evaluations have none by prompt."""
    if not ready.composites:
        return []
    pairs = zip(ready.requests, groups, strict=True)
    return [
        {
            "text": request.prompt.text,
            "segments": [segment.text for segment in request.prompt.segments],
            **{name: values.tolist() for name, values in group.figures.items()},
        }
        for request, group in pairs
    ]
