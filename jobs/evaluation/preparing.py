"""What an evaluation loads and checks, and what each of its replications will need."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.run.plan import Plan, Workload
from cluster.run.roles import acting_roles
from jobs.configs.data import MDM_DATASETS
from jobs.evaluation import collecting, draws
from jobs.evaluation.describing import facts_of, notes_of, stem_of
from jobs.evaluation.settings import EvaluateConfig
from jobs.report.viewing import new_folder
from jobs.text.generation import recorded_sampler
from motions.base.errors import UserError
from motions.data.dataset import MotionDataset, load_dataset
from motions.data.prompts import Prompt
from motions.data.text_motion import TextMotion
from motions.files.writing import check_free
from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.real import RealMotions
from rewards.evaluator.scorer import EvaluatorEmbedder
from rewards.tmr.scorer import Embedder
from rollouts.checkpoints.loading import (
    is_one_action,
    load_policy_text_encoder,
    model_file,
    open_base,
    open_policy,
    with_statistics_of,
)
from rollouts.checkpoints.model_args import ARGS_FILE, read_model_args
from rollouts.devices import require_device
from rollouts.diffusion.requests import evaluation_requests, prompt_conditions
from rollouts.diffusion.windows import ancestral_positions
from rollouts.messages import GroupMotions, RolloutRequest
from rollouts.one_action.requirements import require_no_denoising
from rollouts.policy import Policy
from rollouts.retrieval.motions import MotionRetriever
from rollouts.settings import DenoisingSettings
from rollouts.text.encoders import load_text_encoder

EVALUATIONS = Path("outputs/evaluation")


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation that is checked and could start."""

    config: EvaluateConfig
    """With the sampler of the model's args.json."""
    policy: Policy
    items: tuple[TextMotion, ...]
    """Real motions of the split; none where a composite file is evaluated without data."""
    windows: Sequence[Sequence[draws.Window]]
    """Real motions of each replication."""
    composites: Sequence[Prompt]
    real_composites: Mapping[Prompt, GroupMotions]
    """Joined real motions of those composites whose texts are captions of the split."""
    requests: Sequence[RolloutRequest]
    retriever: MotionRetriever | None
    """Looks motions up for the texts of the requests; None without that row."""
    replications: Sequence[draws.Replication]
    plan: Plan
    folder: Path
    stem: str
    facts: Mapping[str, Any]
    notes: Sequence[str]


def prepare(config: EvaluateConfig) -> PreparedEvaluation:
    """Loads policy, network and data, and draws what each replication has.

    Raises:
        UserError: whatever is wrong with files, data or options; nothing has been started or written.
    """
    file, one_action = model_file(config.policy), is_one_action(config.policy)
    if not one_action:
        config = _with_data_of(file, config)
    if config.data.dataset in MDM_DATASETS:
        config = config.model_copy(update={"policy": with_statistics_of(config.policy, config.data.data_source)})
    config = config.model_copy(update={"sampling": _sampling(config, one_action=one_action)})
    stem = stem_of(config, file)
    folder = config.protocol.save_dir or new_folder(EVALUATIONS, file.parent)
    check_free(folder, [f"{stem}{ending}" for ending in (".log", ".json", ".md")])
    _check_devices(config)
    loaded = open_base(collecting.policy_settings(config))
    idle = collecting.sampling_settings(config).model_copy(update={"device": "cpu"})
    policy = open_policy(loaded, collecting.policy_settings(config), idle)
    skeleton, settings = policy.skeleton, config.protocol
    network = collecting.load_network(config, skeleton, "cpu")
    print(f"policy: {loaded.report}")
    dataset, lacking = _data(config, skeleton)
    items = () if dataset is None else dataset.items(settings.eval_split)
    windows: list[list[draws.Window]] = []
    composites: list[Prompt] = []
    if settings.use_composite_dataset:
        composites = draws.composite_prompts(config, dataset, skeleton)
        prompts = {
            number: [
                composites[int(place)]
                for place in np.random.default_rng([settings.seed, number]).permutation(len(composites))
            ]
            for number in range(settings.replications)
        }
    else:
        crop = draws.crop_of(config)
        windows = [
            draws.windows_of(items, crop, settings.seed, number)[: _full(len(items), settings.pool_size)]
            for number in range(settings.replications)
        ]
        most = draws.whole_pools(settings.eval_num_samples, settings.pool_size)
        prompts = {number: [window.prompt for window in own[:most]] for number, own in enumerate(windows)}
    if items and len(prompts[0]) < 2:
        raise UserError("there is one text to evaluate; FID compares two motions or more (eval_num_samples)")
    _check_texts(network, prompts[0] if windows else composites, [item for own in windows for item in own])
    book = draws.SampleBook()
    replications = draws.replications_of(book, prompts, settings)
    requests = _requests(config, policy, book)
    real = _real_composites(composites, items, skeleton)
    notes = [
        *([lacking] if lacking else []),
        *notes_of(config, dataset, network, prompts[0], real, len(composites)),
    ]
    roles = acting_roles(
        config.cluster,
        functools.partial(collecting.build_rollout_worker, config),
        {collecting.METER: functools.partial(collecting.build_meter, config, skeleton)},
    )
    return PreparedEvaluation(
        config=config,
        policy=policy,
        items=items,
        windows=windows,
        composites=composites,
        real_composites=real,
        requests=requests,
        retriever=_retriever(config, dataset),
        replications=replications,
        plan=Plan(tuple(roles), _workload(requests, policy)),
        folder=folder,
        stem=stem,
        facts=facts_of(config, file, policy, network, replications),
        notes=notes,
    )


def _retriever(config: EvaluateConfig, dataset: MotionDataset | None) -> MotionRetriever | None:
    """What looks motions up in the training split, if that is asked for.

    Raises:
        UserError: there is no data to look in.
    """
    if not config.protocol.retrieval_row:
        return None
    if dataset is None:
        raise UserError("retrieval_row is set, and there is no data to look motions up in")
    encoder = load_text_encoder("minilm", truncate=True)
    return MotionRetriever(dataset.items("train"), dataset.skeleton, encoder)


def _sampling(config: EvaluateConfig, *, one_action: bool) -> DenoisingSettings:
    """How the policy denoises: as args.json says where nothing is given, or not at all.

    Raises:
        UserError: a policy of one action is told how to denoise.
    """
    if not one_action:
        return recorded_sampler(config.policy.model_path, config.sampling)
    require_no_denoising(config.sampling)
    return config.sampling.model_copy(update={"guidance_scale": 1.0})


def _with_data_of(file: Path, config: EvaluateConfig) -> EvaluateConfig:
    """The options with the data that args.json of a checkpoint of MDM names, where none was chosen, as MDM's own
    evaluation does; says so. kinetune's own checkpoints name a skeleton and no data."""
    args = read_model_args(file)
    if "dataset" in config.data.model_fields_set or args.skeleton is not None or args.dataset not in MDM_DATASETS:
        return config
    print(f"dataset {args.dataset}: taken from {file.with_name(ARGS_FILE)}")
    return config.model_copy(update={"data": config.data.model_copy(update={"dataset": args.dataset})})


def _data(config: EvaluateConfig, skeleton: Skeleton) -> tuple[MotionDataset | None, str | None]:
    """The data, or why there is none although a file of composites can do without.

    Raises:
        UserError: data that is needed cannot be read, or is of another skeleton.
    """
    try:
        dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
        if dataset.skeleton != skeleton:
            raise UserError(
                f"dataset {config.data.dataset} has skeleton {dataset.skeleton.name}, the policy {skeleton.name}"
            )
        dataset.items(config.protocol.eval_split)
    except UserError as error:
        if config.protocol.composite_data_path is None:
            raise
        return None, f"there is no ground truth and no FID: {error}"
    return dataset, None


def _check_texts(
    network: Embedder | EvaluatorEmbedder, prompts: Sequence[Prompt], windows: Sequence[draws.Window]
) -> None:
    """Raises UserError for a text that the network cannot read."""
    texts = dict.fromkeys(
        [*(part.text for prompt in prompts for part in prompt.segments), *(w.caption for w in windows)]
    )
    if isinstance(network, Embedder):
        misfit = network.text_misfit("network that evaluates", list(texts))
    else:
        assert isinstance(network, EvaluatorEmbedder)
        misfit = next((why for text in texts if (why := network.text_misfit(text)) is not None), None)
    if misfit is not None:
        raise UserError(misfit)


def _requests(config: EvaluateConfig, policy: Policy, book: draws.SampleBook) -> list[RolloutRequest]:
    encoder = load_policy_text_encoder(collecting.policy_settings(config))
    distinct = list(dict.fromkeys(book.prompts))
    conditions = dict(zip(distinct, prompt_conditions(policy, encoder, distinct), strict=True))
    steps = ancestral_positions(policy.num_steps) if config.protocol.stochastic else ()
    requests = evaluation_requests(
        book.prompts, [conditions[prompt] for prompt in book.prompts], 1, config.protocol.seed, 0, steps
    )
    return [replace(request, num_samples=count) for request, count in zip(requests, book.counts, strict=True)]


def _real_composites(
    composites: Sequence[Prompt], items: Sequence[TextMotion], skeleton: Skeleton
) -> dict[Prompt, GroupMotions]:
    real = RealMotions(items, skeleton)
    found = {prompt: real.motion_of(prompt) for prompt in dict.fromkeys(composites)}
    return {prompt: motion for prompt, motion in found.items() if motion is not None}


def _workload(requests: Sequence[RolloutRequest], policy: Policy) -> Workload:
    return Workload(
        num_prompts=min(collecting.AT_ONCE, len(requests)),
        group_size=max(request.num_samples for request in requests),
        trained_steps=0,
        denoising_steps=policy.num_steps,
        guided=policy.sampling.guidance_scale not in (0.0, 1.0),
        max_frames=max(request.prompt.num_frames for request in requests),
        num_features=policy.skeleton.num_features,
        text_elements=requests[0].condition.values.size,
        model_parameters=sum(parameter.numel() for parameter in policy.network.parameters()),
        trainable_parameters=sum(parameter.numel() for parameter in policy.trainable_parameters().values()),
    )


def _full(count: int, pool_size: int) -> int:
    """The number rounded down to full pools, as in the public data loader.

    Raises:
        UserError: no pool is full.
    """
    if count < pool_size:
        raise UserError(
            f"pool_size is {pool_size} and the split has {count} motions: no pool is full. With a smaller one figures "
            "are not comparable with published ones"
        )
    return count // pool_size * pool_size


def _check_devices(config: EvaluateConfig) -> None:
    on_ray = config.cluster.runtime == "ray"
    for option, name, reserving in (
        ("device", config.sampling.device, "gpus_per_rollout_actor"),
        ("reward_device", config.network.reward_device, "gpus_per_reward_actor"),
    ):
        require_device(option, name, {reserving: getattr(config.cluster, reserving)} if on_ray else None)
