"""A page in which a trained controller moves its character: simulated in the browser, without any server.

The page holds MuJoCo's WebAssembly build, the model, the reference motion as tables, and the policy as plain matrices;
`control.js` and `reference.js` do what `envs.mujoco` and `envs.task` do in a control step.
"""

from __future__ import annotations

import base64
import html
from string import Template
from typing import Any

import numpy as np
import yaml
from torch import nn

from envs.body.joint_coordinates import COORDINATES
from envs.body.mujoco_model import build_humanoid_xml, build_kinematics_xml
from envs.body.state import BallLayout
from envs.body.tracked import BODIES_PART
from envs.settings import BODY_NAMES, DeepMimicSettings
from envs.task.imitation_task import ImitationTask
from envs.task.reference_tables import TABLE_HZ, named_table
from jobs.report.document import PALETTES, asset, embedded, facts_table, metadata_version
from jobs.web.mujoco_wasm import LICENSE, SHA512, URL, VERSION, MujocoWasm
from motions.base.errors import UserError
from motions.humanoid.kinematics import BODIES
from rollouts.control.actor_critic import ActorCritic

SCRIPTS = ("reference.js", "control.js", "page.js")
ROOT_COLUMNS = 7
"""Columns of qpos before the joints'."""
NUM_VELOCITIES = 6 + len(COORDINATES)
"""Columns of qvel."""


def require_playable(task: DeepMimicSettings) -> None:
    """Raises UserError where the browser could not simulate what the controller was trained for."""
    if task.pd == "stable":
        raise UserError("pd is stable, which is solved in Python; legal for task web: damping, actuator")


def render_controller_page(
    controller: ActorCritic, task: DeepMimicSettings, clip: str, source: str, package: MujocoWasm
) -> str:
    """The page as HTML text.

    Args:
        task: what the controller was trained for, as it is evaluated.
        clip: the one of the task's clips that is played.
        source: name of the controller, for the reader.
        package: MuJoCo's WebAssembly build.

    Raises:
        UserError: see `require_playable`.
    """
    require_playable(task)
    own = (asset(name, "jobs.web") for name in SCRIPTS)
    return Template(asset("page.html", "jobs.web")).substitute(
        title=html.escape(f"A character that imitates {clip}"),
        lead="Simulated here, in this browser, under its trained controller.",
        style=asset("page.css"),
        push_body=html.escape(task.push_body.replace("_", " ")),
        facts=facts_table(_facts(controller, task, clip, source)),
        configuration=html.escape(yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False)),
        version=metadata_version(),
        data=embedded(page_data(controller, task, clip)),
        wasm=_base64(package.binary),
        scripts="\n".join((package.script, asset("viewer.js"), *own)),
    )


def page_data(controller: ActorCritic, task: DeepMimicSettings, clip: str) -> dict[str, object]:
    """What the page's scripts read, as plain JSON values; arrays are little endian bytes in base64."""
    imitation = ImitationTask(task, 1)
    index, blocks = task.motion.index(clip), imitation.observation_blocks
    units = imitation.action_units
    return {
        "model": build_humanoid_xml(task),
        "kinematics": build_kinematics_xml(task, None, with_bodies="bodies" in blocks),
        "substeps": task.physics_hz // task.control_hz,
        "control_hz": task.control_hz,
        "start_phase": task.start_phase,
        "push_body": task.push_body,
        "root_sync": task.root_sync,
        "ahead_s": imitation.ahead[1:].tolist(),
        "observation_blocks": list(blocks),
        "coordinates": _coordinate_places(task),
        "action": {
            "bound": units.bound,
            "radians": units.radians.tolist(),
            "centre": None if task.action_mode == "residual" else units.centre.tolist(),
        },
        "falls": {
            "forbidden": imitation.falls.forbidden[index].tolist(),
            "max_deviation_m": task.max_body_deviation,
        },
        "body_parents": _body_parents(),
        "reference": _reference(task, imitation, index),
        "policy": _policy(controller),
        "colours": {"character": PALETTES["after"], "reference": PALETTES["before"]["path"]},
    }


def _reference(task: DeepMimicSettings, imitation: ImitationTask, index: int) -> dict[str, Any]:
    motion = imitation.reference
    velocity = motion.recipe.com_velocity
    _, table = named_table(task.motion[index], task.seam_blend_s, motion.joints, velocity, TABLE_HZ)
    hinges = motion.joints == "hinge"
    return {
        "duration_s": float(motion.durations[index]),
        "cyclic": bool(motion.cyclic[index]),
        "cycle_offset": motion.offsets[index].tolist(),
        "feedforward_s": task.damping_s if task.velocity_feedforward else 0.0,
        "hinge_joints": hinges,
        "triples": [place for place, name in enumerate(COORDINATES) if name.endswith("_x")],
        "num_qpos": table.start.shape[1] - 1 - NUM_VELOCITIES,
        "quaternions": [3] if hinges else [3, *BallLayout().quaternions[:, 0].tolist()],
        "tables": {
            "target": _table(table.target),
            "bodies": _table(table.state[:, BODIES_PART]),
            "start": _table(table.start),
        },
    }


def _coordinate_places(task: DeepMimicSettings) -> list[dict[str, object]]:
    """Where in qpos the joint coordinates are, in order: single angles, or quaternions (`ball`) that give three."""
    if task.joints == "hinge":
        return [{"at": ROOT_COLUMNS + place, "ball": False} for place in range(len(COORDINATES))]
    layout = BallLayout()
    balls = zip(layout.ball_columns[:, 0].tolist(), layout.quaternions[:, 0].tolist(), strict=True)
    hinges = zip(layout.hinge_columns.tolist(), layout.hinges.tolist(), strict=True)
    places = [(column, at, True) for column, at in balls] + [(column, at, False) for column, at in hinges]
    return [{"at": at, "ball": ball} for _, at, ball in sorted(places)]


def _body_parents() -> list[int]:
    parents = {body.name: BODIES[body.parent].name for body in BODIES if body.parent >= 0}
    return [BODY_NAMES.index(parents[name]) if name in parents else -1 for name in BODY_NAMES]


def _policy(controller: ActorCritic) -> dict[str, object]:
    layers = [layer for layer in controller.policy if isinstance(layer, nn.Linear)]
    mean, std, limit = (tensor.numpy() for tensor in controller.statistics.scaling())
    return {
        "activation": controller.config.activation,
        "mean": _floats(mean),
        "std": _floats(std),
        "limit": _floats(limit),
        "layers": [
            {"weight": _floats(layer.weight.numpy(force=True)), "bias": _floats(layer.bias.numpy(force=True))}
            for layer in layers
        ],
    }


def _facts(controller: ActorCritic, task: DeepMimicSettings, clip: str, source: str) -> list[tuple[str, str]]:
    sizes = (controller.config.observation_dim, *controller.config.hidden_sizes, controller.config.action_dim)
    weights = sum(parameter.numel() for parameter in controller.policy.parameters())
    steps = f"{task.physics_hz} physics steps and {task.control_hz} actions a second"
    return [
        ("Simulator", f"MuJoCo {VERSION} of Google DeepMind, WebAssembly build, unchanged: {URL}, sha512 {SHA512}"),
        ("Licence of the simulator", LICENSE),
        ("Character", f"the 45 kg humanoid of DeepMimic, generated by kinetune as MJCF; {steps}"),
        ("Controller", f"{source}: layers of {' - '.join(map(str, sizes))}, {controller.config.activation}; "
                       f"{weights} weights in single precision, without exploration noise"),
        ("Reference motion", f"{clip}, tables of {TABLE_HZ:g} samples a second"),
        ("Control, reference, drawing", "kinetune's own scripts, on a plain canvas"),
    ]  # fmt: skip


def _table(values: np.ndarray) -> dict[str, object]:
    return {"columns": values.shape[1], "values": _base64(np.ascontiguousarray(values, dtype="<f8").tobytes())}


def _floats(values: np.ndarray) -> str:
    return _base64(np.ascontiguousarray(values, dtype="<f4").tobytes())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
