"""The page of a controller in Chromium: it simulates what the Python environment does, and is played and pushed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, sync_playwright

from envs.mujoco.environment import DeepMimicEnv
from envs.settings import DeepMimicSettings
from jobs.character.controller_evaluation import RESULTS
from jobs.web.controller_page import render_controller_page
from jobs.web.mujoco_wasm import MujocoWasm, load_mujoco_wasm
from motions.base.errors import UserError
from rewards.evaluation.character import judged
from rollouts.control.actor_critic import Activation, ActorCritic, ActorCriticConfig, load_controller

pytestmark = [pytest.mark.slow, pytest.mark.browser]

Opener = Callable[[ActorCritic, DeepMimicSettings, str], Page]

PLAYED = """([phase, steps, push]) => {
  const simulation = kinetunePage.simulation;
  simulation.restart(phase);
  return Array.from({ length: steps }, (_, step) => {
    if (push && step === push.step) simulation.push(push.newtons, push.degrees, push.duration_s);
    const { observation, action } = simulation.step();
    return { observation: [...observation], action: [...action], qpos: [...simulation.data.qpos],
             fell: simulation.fell, over: simulation.over };
  });
}"""


@pytest.fixture(scope="module")
def package() -> MujocoWasm:
    """MuJoCo's WebAssembly build."""
    try:
        return load_mujoco_wasm(None)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def opener(package: MujocoWasm, chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Opens the page of a controller from a file, and fails at the end if one complained or asked the network."""
    complaints: list[str] = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)

        def open_page(controller: ActorCritic, task: DeepMimicSettings, clip: str) -> Page:
            path = tmp_path_factory.mktemp("page") / "web.html"
            path.write_text(render_controller_page(controller, task, clip, "test", package), encoding="utf-8")
            opened = browser.new_page(viewport={"width": 900, "height": 900})
            opened.set_default_timeout(200_000)
            opened.on("console", lambda message: complaints.append(message.text))
            opened.on("pageerror", lambda error: complaints.append(str(error)))
            opened.on("request", lambda request: complaints.append(request.url) if foreign(request.url) else None)
            opened.goto(path.as_uri())
            opened.wait_for_function("window.kinetunePage")
            return opened

        yield open_page
        browser.close()
    assert complaints == []


def foreign(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


@pytest.fixture(scope="module")
def walk() -> tuple[ActorCritic, DeepMimicSettings]:
    """The controller that comes with kinetune, and its task."""
    loaded = load_controller(RESULTS / "deepmimic_walk")
    return loaded.controller, judged(DeepMimicSettings.model_validate(loaded.extra["task"]))


@pytest.fixture(scope="module")
def walking(opener: Opener, walk: tuple[ActorCritic, DeepMimicSettings]) -> Page:
    """Its page."""
    return opener(*walk, "walk")


def in_python(
    controller: ActorCritic, task: DeepMimicSettings, phase: float, steps: int, clip: int = 0
) -> list[dict[str, Any]]:
    """What `PLAYED` records, by the Python environment, until the episode ends."""
    env, records = DeepMimicEnv(task), []
    observation, _ = env.reset(seed=0, options={"phase": phase, "clip": clip})
    for _ in range(steps):
        action = controller.act(torch.from_numpy(observation)).numpy()
        record = {"observation": observation, "action": action}
        observation, _, fell, over, _ = env.step(action)
        records.append({**record, "qpos": env.state()["qpos"][0], "fell": fell, "over": over})
        if fell or over:
            break
    env.close()
    return records


def largest_gap(there: list[dict[str, Any]], here: list[dict[str, Any]], name: str) -> float:
    return max(float(np.abs(np.array(a[name]) - b[name]).max()) for a, b in zip(there, here, strict=True))


@pytest.mark.parametrize(("phase", "degrees"), [(0.0, None), (0.6, 90.0)])
def test_the_first_hundred_control_steps_are_those_of_python(
    phase: float, degrees: float | None, walking: Page, walk: tuple[ActorCritic, DeepMimicSettings]
) -> None:
    """Measured: qpos within 1e-6 (metres, radians), observations within 6e-6, actions within 4.1e-7 of torch's."""
    controller, task = walk
    push = None
    if degrees is not None:
        push = {"step": 30, "newtons": 100.0, "degrees": degrees, "duration_s": 0.2}
        task = task.model_copy(update={"push_force": 100.0, "push_at_s": 1.0, "push_direction_deg": degrees})
    here = in_python(controller, task, phase, 100)
    there = walking.evaluate(PLAYED, [phase, 100, push])
    assert len(here) == 100 and not there[-1]["fell"]
    assert largest_gap(there, here, "qpos") < 1e-5
    assert largest_gap(there, here, "observation") < 1e-4
    with torch.no_grad():
        exact = [{"action": controller.act(torch.tensor(record["observation"])).numpy()} for record in there]
    assert largest_gap(there, exact, "action") < 1e-5


def test_the_walk_lasts_twenty_seconds(walking: Page) -> None:
    fell, forward_m = walking.evaluate("""() => {
      const simulation = kinetunePage.simulation;
      simulation.restart(0);
      for (let step = 0; step < 600; step++) simulation.step();
      return [simulation.fell, simulation.root[0]];
    }""")
    assert not fell
    assert forward_m > 15.0


ALL_BLOCKS = ("phase", "bodies", "targets", "root", "joints", "key_positions")
TASKS: dict[str, tuple[Activation, DeepMimicSettings]] = {
    "ball joints, absolute actions, all blocks": (
        "relu",
        DeepMimicSettings(
            motion=("walk", "cartwheel"), joints="ball", action_mode="absolute", observation_blocks=ALL_BLOCKS
        ),
    ),
    "actuators, other rates, over the seam": (
        "silu",
        DeepMimicSettings(motion=("run", "walk"), pd="actuator", physics_hz=480, control_hz=60, target_steps=(0, 40)),
    ),
    "through whole turns": (
        "elu",
        DeepMimicSettings(motion=("spinkick", "backflip"), velocity_feedforward=False, observation_blocks=ALL_BLOCKS),
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_kind_of_task_is_simulated_until_the_fall(name: str, opener: Opener) -> None:
    """By untrained controllers with large actions, on the second of two clips; the fall comes in the same step."""
    activation, task = TASKS[name]
    env = DeepMimicEnv(task)
    size = env.task.observation_size
    env.close()
    config = ActorCriticConfig(size, 28, (16,), activation=activation, output_gain=0.1, unscaled_inputs=(0, 3))
    controller = ActorCritic(config, seed=1)
    controller.update_statistics(np.random.default_rng(0).normal(0.5, 2.0, (50, size)))
    here = in_python(controller, task, 0.8, 200, clip=1)
    assert here[-1]["fell"] or here[-1]["over"]
    assert len(here) > 10 and np.abs(here[0]["action"]).max() > 0.01
    opened = opener(controller, task, task.motion[1])
    there = opened.evaluate(PLAYED, [0.8, len(here), None])
    opened.close()
    assert largest_gap(there, here, "qpos") < 1e-4
    assert [record["fell"] for record in there] == [record["fell"] for record in here]
    assert there[-1]["over"] == here[-1]["over"]


def test_the_character_is_started_paused_pushed_and_looked_at(walking: Page) -> None:
    seconds = "kinetunePage.simulation.seconds"
    picture = "document.querySelector('canvas').toDataURL()"
    walking.click("[data-action=restart]")
    first = walking.evaluate(picture)
    walking.click("[data-action=play]")
    walking.wait_for_function(f"{seconds} > 0.5")
    walking.click("[data-action=play]")
    paused = walking.evaluate(seconds)
    assert walking.locator("[data-action=play]").inner_text() == "Start"
    assert walking.locator("[data-status]").inner_text() == f"{paused:.1f} s"
    shots = [first, walking.evaluate(picture)]
    walking.locator("canvas").hover()
    walking.mouse.down()
    walking.mouse.move(300, 300)
    walking.mouse.up()
    shots.append(walking.evaluate(picture))
    walking.mouse.wheel(0, -400)
    walking.wait_for_function("kinetunePage.camera.distance < 3")
    shots.append(walking.evaluate(picture))
    walking.click("[data-action=reference]")
    shots.append(walking.evaluate(picture))
    assert len(set(shots)) == len(shots)
    assert walking.evaluate(seconds) == paused
    walking.locator("[data-newtons]").fill("500")
    walking.click("[data-action=speed]")
    walking.click("[data-action=speed]")
    assert walking.locator("[data-action=speed]").inner_text() == "¼×"  # no frame is longer than the push
    walking.click("[data-degrees='90']")  # starts again
    force = np.array(walking.wait_for_function("kinetunePage.simulation.force").json_value())
    assert np.linalg.norm(force) == pytest.approx(500.0)
    assert force[1] > 400.0  # it walks along x, and y is to its left
    walking.wait_for_function("kinetunePage.ended && !kinetunePage.playing")
    assert "fell after" in walking.locator("[data-status]").inner_text()
    walking.click("[data-action=play]")
    walking.wait_for_function("kinetunePage.playing && kinetunePage.simulation.seconds > 0.1")
    assert "fell" not in walking.locator("[data-status]").inner_text()
    walking.click("[data-action=play]")


def test_the_page_says_what_it_is_made_of(walking: Page) -> None:
    text = walking.locator(".facts").inner_text()
    assert "@mujoco/mujoco/-/mujoco-3.14.0.tgz" in text and "Apache License 2.0" in text
    assert "194 - 256 - 256 - 28" in text and "test:" in text


def test_stable_pd_is_refused(walk: tuple[ActorCritic, DeepMimicSettings], package: MujocoWasm) -> None:
    task = walk[1].model_copy(update={"pd": "stable"})
    with pytest.raises(UserError, match="pd is stable, which is solved in Python; legal for task web: damping"):
        render_controller_page(walk[0], task, "walk", "test", package)
