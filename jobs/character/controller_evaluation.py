"""How controllers of a character are evaluated: by a run's last stage, and one from a file (`--task evaluate`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.records.opening import check_place
from envs.body.mujoco_model import build_humanoid, build_humanoid_xml
from envs.mujoco.vector_environment import make_vector_env
from envs.settings import DeepMimicSettings
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.report.character import RecordedMotion, joint_points, save_video
from jobs.report.from_control import write_control_report
from jobs.web.controller_page import render_controller_page, require_playable
from jobs.web.mujoco_wasm import VERSION, load_mujoco_wasm
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from rewards.evaluation.character import (
    CharacterPolicy,
    controller_policy,
    evaluate_characters,
    evaluation_json,
    imitation_episodes,
    judged,
    missed_targets,
    table_text,
)
from rewards.evaluation.settings import ControlEvaluationSettings
from rollouts.control.actor_critic import CONTROLLER_FILE, LoadedController, load_controller

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
IMITATION_PHASES = (0.0, 0.35, 0.7)
IMITATION_S = 10.0
FILMED_FPS = 30.0
CHECKED_MOTION = "walk"
CHECKED_S = 20.0
CHECKED_PUSH = 100.0
CHECKED = ("eval_episodes", "eval_push_directions", "eval_push_at_s")
"""Options that `--check` requires at their defaults, with episodes of 20 s and pushes of 100 N, because the targets are
defined for these numbers."""


def evaluate_controller(config: DeepMimicConfig) -> None:
    """The task `evaluate`: evaluates a trained controller.

    Raises:
        UserError: for the reasons of `prepare_evaluation`.
        SystemExit: 1, with `--check`, if a target is missed.
    """
    run = config.run
    loaded, task, clips = prepare_evaluation(config)
    print(f"{loaded.path}, {', '.join(clips)}")
    policies = {"trained": controller_policy(loaded.controller)}
    evaluation = show_evaluation(config, task, policies, run.save_dir, clips)
    if run.save_dir is not None:
        print(f"report: {write_control_report(run.save_dir)}")
    if run.check:
        missed = missed_targets(evaluation)
        print(f"missed: {'; '.join(missed)}" if missed else "all targets met")
        if missed:
            raise SystemExit(1)


def film_controller(config: DeepMimicConfig) -> None:
    """The task `video`: writes `video.mp4`, the reference and a trained controller side by side until it falls.

    Raises:
        UserError: for the reasons of `prepare_evaluation`.
    """
    folder = config.run.save_dir
    assert folder is not None
    loaded, task, clips = prepare_evaluation(config)
    steps = max(1, round(config.evaluation.video_s * task.control_hz))
    policy, clip = controller_policy(loaded.controller), task.motion.index(clips[0])
    episodes = imitation_episodes(task, policy, np.zeros(1), steps, clip=clip, record=True)
    assert episodes.qpos is not None and episodes.reference_qpos is not None
    shown = int(episodes.steps[0]) + 1
    takes = [
        RecordedMotion("reference", episodes.reference_qpos[:shown, 0]),
        RecordedMotion(clips[0], episodes.qpos[:shown, 0]),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "video.mp4"
    renderer = save_video(path, build_humanoid_xml(task), takes, float(task.control_hz), FILMED_FPS)
    fell = ", when it falls" if episodes.fell[0] else ""
    print(f"{path}: {(shown - 1) / task.control_hz:.1f} s{fell}, drawn by {renderer}")


def write_web_page(config: DeepMimicConfig) -> None:
    """The task `web`: writes `web.html`, in which a trained controller moves its character in a browser.

    Raises:
        UserError: for the reasons of `prepare_evaluation`, of `require_playable` and of `load_mujoco_wasm`.
    """
    folder = config.run.save_dir
    assert folder is not None
    loaded, task, clips = prepare_evaluation(config)
    require_playable(task)
    package = load_mujoco_wasm(config.run.mujoco_wasm)
    source = loaded.path.parent.name
    page = render_controller_page(loaded.controller, task, clips[0], source, package).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "web.html"
    with atomic_write(path) as file:
        file.write(page)
    print(f"{path}: {clips[0]}, {len(page) / 1e6:.1f} MB, with MuJoCo {VERSION}")


def prepare_evaluation(config: DeepMimicConfig) -> tuple[LoadedController, DeepMimicSettings, tuple[str, ...]]:
    """The controller to evaluate, the task in which it is evaluated, and the clips.

    Raises:
        UserError: there is no such controller, it was made for other observations, an option would change the rules of
            the evaluation, `--check` is used with other numbers than its own, or the results cannot be written.
    """
    run, motion = config.run, config.character.motion
    if run.check and motion[0] != CHECKED_MOTION:
        raise UserError(f"check: targets exist for {CHECKED_MOTION}, not for {motion[0]}")
    if run.save_dir is not None:
        check_place(run.save_dir)
    loaded = load(config)
    task, clips = task_of(config, loaded)
    if run.check:
        require_checked_numbers(config.evaluation, task)
    return loaded, task, clips


def require_checked_numbers(options: ControlEvaluationSettings, task: DeepMimicSettings) -> None:
    """Raises UserError if `--check` would measure something without targets."""
    steps = round(CHECKED_S * task.control_hz)
    if options.eval_steps != steps:
        raise UserError(
            f"check: the targets are for {CHECKED_S:g} s, which are eval_steps {steps} at control_hz "
            f"{task.control_hz}, not {options.eval_steps}"
        )
    for name in CHECKED:
        legal = ControlEvaluationSettings.model_fields[name].default
        if getattr(options, name) != legal:
            raise UserError(f"check: the targets are for {name} {legal}, not {getattr(options, name)}")
    if CHECKED_PUSH not in options.eval_push_forces:
        raise UserError(f"check: eval_push_forces must hold {CHECKED_PUSH:g}")


def load(config: DeepMimicConfig) -> LoadedController:
    """The controller to evaluate.

    Raises:
        UserError: none comes with kinetune for the clip, or the file is no controller.
    """
    motion = config.character.motion[0]
    path = config.run.controller or RESULTS / f"deepmimic_{motion}"
    if config.run.controller is None and not (path / CONTROLLER_FILE).is_file():
        known = sorted(folder.parent.name.removeprefix("deepmimic_") for folder in RESULTS.glob(f"*/{CONTROLLER_FILE}"))
        raise UserError(f"no controller ships for {motion} in {RESULTS} (there are: {', '.join(known) or 'none'})")
    return load_controller(path)


def task_of(config: DeepMimicConfig, loaded: LoadedController) -> tuple[DeepMimicSettings, tuple[str, ...]]:
    """The task in which to evaluate a controller, and the clips to use.

    The task is the one that the controller was trained for, as far as its file states it, with the changes that options
    ask for. All clips of the training remain in it, because they define the units of absolute actions.

    Raises:
        UserError: the controller was made for other observations than this task's, or an option would change the rules
            by which all controllers are evaluated.
    """
    given = config.task_settings
    asked = {name: getattr(given, name) for name in config.character.model_fields_set}
    if config.demonstrations.lookahead is not None:
        asked["lookahead_s"] = given.lookahead_s
    saved = loaded.extra.get("task")
    task, clips = given, given.motion
    if isinstance(saved, dict):
        trained = DeepMimicSettings.model_validate(saved)
        if config.run.controller is not None and "motion" not in asked and not config.run.check:
            clips = trained.motion
        if set(clips) <= set(trained.motion):
            asked |= {"motion": trained.motion, "motion_weights": trained.motion_weights}
        else:
            asked |= {"motion": clips, "motion_weights": None}
        task = DeepMimicSettings.model_validate(trained.model_dump() | asked)
    judging = judged(task)
    refused = [name for name in asked if getattr(judging, name) != asked[name]]
    if refused:
        raise UserError(
            f"{', '.join(f'{name} {asked[name]}' for name in refused)}: every controller is judged by the same rules; "
            f"legal: {', '.join(f'{name} {getattr(judging, name)}' for name in refused)}"
        )
    env = make_vector_env(judging, 1, seed=0)
    load_controller(loaded.path, env.observation_schema)
    env.close()
    return judging, clips


def show_evaluation(
    config: DeepMimicConfig,
    task: DeepMimicSettings,
    policies: Mapping[str, CharacterPolicy],
    folder: Path | None,
    clips: Sequence[str],
) -> dict[str, Any]:
    """Evaluates, prints the table, and writes the files that the report needs."""
    evaluation = evaluate_characters(task, policies, config.evaluation, clips)
    print(table_text(evaluation))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "evaluation.json") as file:
            file.write(evaluation_json(evaluation))
        record_imitations(
            config.evaluation.video_s, judged(task), next(iter(policies.values())), folder, task.motion.index(clips[0])
        )
    return evaluation


def record_imitations(
    video_s: float, task: DeepMimicSettings, policy: CharacterPolicy, folder: Path, clip: int
) -> None:
    """Writes `imitations.npz` for the report's player, and the animation."""
    steps = round(IMITATION_S * task.control_hz)
    episodes = imitation_episodes(task, policy, np.array(IMITATION_PHASES), steps, clip=clip, record=True)
    assert episodes.qpos is not None and episodes.reference_qpos is not None
    model = build_humanoid(task)
    arrays: dict[str, np.ndarray] = {}
    for index, count in enumerate(episodes.steps):
        for name, states in (("policy", episodes.qpos), ("reference", episodes.reference_qpos)):
            arrays[f"{name}{index}"] = joint_points(model, states[: count + 1, index]).astype(np.float32)
    with atomic_write(folder / "imitations.npz") as file:
        phases, hz = np.array(IMITATION_PHASES), np.array(float(task.control_hz))
        np.savez(file, allow_pickle=False, phases=phases, control_hz=hz, **arrays)
    if video_s == 0:
        return
    shown = min(int(episodes.steps[0]) + 1, max(2, round(video_s * task.control_hz)))
    takes = [
        RecordedMotion("reference", episodes.reference_qpos[:shown, 0]),
        RecordedMotion("policy", episodes.qpos[:shown, 0]),
    ]
    renderer = save_video(folder / "imitation.webp", build_humanoid_xml(task), takes, float(task.control_hz))
    about = {"renderer": renderer, "phase": IMITATION_PHASES[0]}
    with atomic_write(folder / "imitation.json") as file:
        file.write(json.dumps(about).encode())
