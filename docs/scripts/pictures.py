"""Draws the pictures of the documentation that show what runs leave behind.

    python docs/scripts/pictures.py runs/demo        # the folder that `make demo` wrote

Writes `docs/pictures/motions.png` (one prompt before and after the fine-tuning), `reward.svg` (from
`docs/results/stochastic_steps.json`), `character.png` (the controller of `docs/results/deepmimic_walk`; MuJoCo renders
it by EGL) and `character_in_browser.png` (its page in Chromium, during a push).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("MUJOCO_GL", "egl")
plt.switch_backend("svg")

from envs.body.mujoco_import import mujoco  # noqa: E402
from envs.body.mujoco_model import build_humanoid_xml  # noqa: E402
from envs.settings import DeepMimicSettings  # noqa: E402
from jobs.report.offscreen import SKY  # noqa: E402
from jobs.web.controller_page import render_controller_page  # noqa: E402
from jobs.web.mujoco_wasm import load_mujoco_wasm  # noqa: E402
from motions.drawing import contact_sheet  # noqa: E402
from motions.skeleton.skeletons import HUMANML3D  # noqa: E402
from rewards.evaluation.character import controller_policy, imitation_episodes  # noqa: E402
from rollouts.control.actor_critic import load_controller  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
RESULTS = ROOT / "docs" / "results"
WIDTH, HEIGHT = 1200, 380
COLOURS = {
    "floor": (0.93, 0.93, 0.92),
    "right": (0.88, 0.48, 0.18),
    "left": (0.16, 0.42, 0.75),
    "trunk": (0.22, 0.24, 0.28),
}
MOTION = 342
"""Row of `samples/*.npz` that is shown: of the composite prompt that gained most."""


def draw_motions(run: Path) -> None:
    """Poses of one held-out prompt, above before and below after the training, with the same noise."""
    prompts = (run / "samples" / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    rows, title = [], ""
    for moment in ("before", "after"):
        with np.load(run / "samples" / f"{moment}.npz") as samples:
            joints = samples["joints"][MOTION][: samples["lengths"][MOTION]]
            text = json.loads(prompts[samples["prompt_index"][MOTION]])["text"]
            reward = samples["terms/total"][MOTION]
        title = f"\N{LEFT DOUBLE QUOTATION MARK}{text}\N{RIGHT DOUBLE QUOTATION MARK}"
        sheet = contact_sheet(joints, HUMANML3D, num_poses=6, columns=6, size=(200, 190))
        rows.append((f"{moment}: reward {reward:.2f}", sheet))
    font, bold = (ImageFont.load_default(size) for size in (17, 22))
    band = 34
    height = 44 + sum(band + sheet.height for _, sheet in rows)
    picture = Image.new("RGB", (rows[0][1].width, height), (251, 251, 249))
    pen = ImageDraw.Draw(picture)
    pen.text((16, 12), title, (20, 30, 40), font=bold)
    top = 44
    for label, sheet in rows:
        pen.text((16, top + 8), label, (70, 80, 90), font=font)
        picture.paste(sheet, (0, top + band))
        top += band + sheet.height
    picture.quantize(96).save(PICTURES / "motions.png", optimize=True)


def draw_reward() -> None:
    """Held-out reward by update, one stochastic step against all."""
    curves = json.loads((RESULTS / "stochastic_steps.json").read_text())["held_out_total"]
    plt.rcParams |= {"svg.hashsalt": "kinetune", "font.family": "sans-serif", "font.size": 11}
    figure, axes = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    for (name, points), colour in zip(curves.items(), ("#00796b", "#bf4f12"), strict=True):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=2, color=colour, label=name)
    axes.set(xlabel="update", ylabel="mean reward on 96 held-out prompts")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center right")
    figure.savefig(PICTURES / "reward.svg", metadata={"Date": None})


def draw_character() -> None:
    """One walk in one picture: the same camera, a pose every half second."""
    loaded = load_controller(RESULTS / "deepmimic_walk")
    task = DeepMimicSettings.model_validate(loaded.extra["task"])
    episodes = imitation_episodes(task, controller_policy(loaded.controller), np.zeros(1), 100, record=True)
    assert episodes.qpos is not None
    model = mujoco.MjModel.from_xml_string(build_humanoid_xml(task).replace("<asset>", SKY, 1))
    model.vis.global_.offwidth, model.vis.global_.offheight = WIDTH, HEIGHT
    model.light_castshadow[:] = 0
    model.light_diffuse[:], model.light_specular[:] = 0.0, 0.0
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = 0.9, 0.3
    model.geom_matid[:] = -1
    for geom in range(model.ngeom):
        name = model.body(model.geom_bodyid[geom]).name
        side = name.partition("_")[0] if geom else "floor"
        model.geom_rgba[geom] = (*COLOURS.get(side, COLOURS["trunk"]), 1.0)
    states = episodes.qpos[::19, 0][:6]
    camera = mujoco.MjvCamera()
    camera.distance, camera.azimuth, camera.elevation = 3.0, 90.0, -9.0
    camera.lookat[:] = (states[:, 0].mean(), states[:, 1].mean(), 0.8)
    renderer, data = mujoco.Renderer(model, height=HEIGHT, width=WIDTH), mujoco.MjData(model)
    for index, state in enumerate(states):
        data.qpos[:] = state
        mujoco.mj_forward(model, data)
        if index == 0:
            renderer.update_scene(data, camera)
        else:
            moving = mujoco.mjtCatBit.mjCAT_DYNAMIC
            mujoco.mjv_addGeoms(model, data, mujoco.MjvOption(), mujoco.MjvPerturb(), moving, renderer.scene)
    Image.fromarray(renderer.render()).quantize(200).save(PICTURES / "character.png", optimize=True)
    renderer.close()


def draw_in_browser() -> None:
    """The page of `jobs.deepmimic --task web`, after two seconds and a push of 0.1 s, beside the reference."""
    controller, task = load_controller(RESULTS / "deepmimic_walk"), DeepMimicSettings()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "web.html"
        package = load_mujoco_wasm(None)
        page.write_text(render_controller_page(controller.controller, task, "walk", "deepmimic_walk", package), "utf-8")
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 900, "height": 620})
        opened.goto(page.as_uri())
        opened.wait_for_function("window.kinetunePage", timeout=0)
        opened.click("[data-action=reference]")
        opened.locator("[data-newtons]").fill("150")
        opened.evaluate("""() => {
          const { simulation } = kinetunePage;
          for (let step = 0; step < 64; step++) {
            if (step === 60) simulation.push(150, 90, 0.2);
            simulation.step();
          }
          kinetunePage.render();
        }""")
        shot = opened.locator("#stage").screenshot()
        browser.close()
    Image.open(io.BytesIO(shot)).quantize(128).save(PICTURES / "character_in_browser.png", optimize=True)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    draw_motions(Path(sys.argv[1]))
    draw_reward()
    draw_character()
    draw_in_browser()
