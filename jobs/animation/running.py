"""`jobs.animate`: the stages of each scene as chained calls, of one in this process, of many on a cluster."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.run.plan import Plan, Workload, cluster_resources
from cluster.run.roles import common_role
from cluster.run.session import opened_runtime
from cluster.runtime.protocol import Call, Role
from jobs.animation.settings import AnimateConfig, SceneActorSettings, Stage
from jobs.animation.stages import FILES, PAGE, do_stage, earlier_decisions, prepare, stages_of
from jobs.report.document import asset
from jobs.scenes.filming import POSTER
from jobs.scenes.parsing import SCENE
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.scenes.scene import read_scene

ACTOR = "scene"

_INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{rows}</main>
</body>
</html>
"""


def run(config: AnimateConfig) -> None:
    """Makes one animation, or those of `text_file`, by chained calls, and says what each stage decided.

    Raises:
        UserError: whatever `prepare` finds; or scenes could not be finished, after all others are.
    """
    many, scenes = config.animation.text_file is not None, scenes_of(config)
    for scene in scenes:
        prepare(scene)
    cluster = config.cluster if many else config.cluster.model_copy(update={"runtime": "local"})
    needs = _plan(cluster, len(scenes))
    failures: dict[str, str] = {}
    with opened_runtime(cluster, needs) as runtime:
        runtime.start(list(needs.roles))
        known: dict[Call, tuple[str, Stage]] = {}
        for scene in scenes:
            folder = scene.animation.save_dir
            folder.mkdir(parents=True, exist_ok=True)
            decided: object = earlier_decisions(folder)
            for stage in stages_of(scene):
                call = runtime.submit(ACTOR, "stage", scene, stage, decided, label=f"{folder.name} {stage}")
                known[call], decided = (folder.name, stage), call.output
        for call in runtime.wait(list(known)):
            name, stage = known[call]
            if call.failure is not None:
                # The later stages of a scene fail for the same reason.
                failures.setdefault(name, str(call.failure))
                continue
            assert call.stats is not None
            print(f"{f'{name} ' if many else ''}{stage}, {call.stats.seconds:.1f} s")
            print("".join(f"  {line}\n" for line in runtime.result(call.output)[stage]), end="", flush=True)
    if many:
        with atomic_write(config.animation.save_dir / PAGE) as file:
            file.write(_index([scene.animation.save_dir for scene in scenes]).encode())
    if not failures or many:
        print(config.animation.save_dir / PAGE)
    if failures:
        raise UserError(
            f"{len(failures)} of {len(scenes)} scenes could not be finished: {'; '.join(failures.values())}"
        )


def plan(config: AnimateConfig) -> None:
    """Checks what can be checked before anything is written, and prints what would be done."""
    scenes = scenes_of(config)
    for scene in scenes:
        prepare(scene)
        for stage in stages_of(scene):
            print(f"{stage}: would write {', '.join(str(scene.animation.save_dir / name) for name in FILES[stage])}")
    if config.animation.text_file is not None:
        needs = _plan(config.cluster, len(scenes))
        for role in needs.roles:
            print(f"{role.count} x {role.name}: {role.num_cpus:g} CPU, {role.num_gpus:g} GPU each")
        needs.check(cluster_resources(config.cluster, needs))


def scenes_of(config: AnimateConfig) -> list[AnimateConfig]:
    """The configuration of each line of `text_file`, with a folder of its own in an absolute `save_dir`; without a file
    the configuration itself.

    Raises:
        UserError: the file cannot be read, or holds no line.
    """
    file = config.animation.text_file
    if file is None:
        return [config]
    try:
        lines = [line.strip() for line in read_text(file).splitlines()]
    except OSError as error:
        raise UserError(f"text_file {file}: {error.strerror}") from error
    texts = [line for line in lines if line]
    if not texts:
        raise UserError(f"text_file {file} holds no scene; write one a line")
    root, from_text = config.animation.save_dir.absolute(), config.animation.start_at == "parse"
    return [
        config.model_copy(
            update={
                "animation": config.animation.model_copy(
                    update={
                        "text": text if from_text else None,
                        "text_file": None,
                        "save_dir": root / f"scene{number:03d}",
                    }
                )
            }
        )
        for number, text in enumerate(texts)
    ]


class SceneWorker:
    """Does stages of scenes in folders that all actors see."""

    def stage(
        self, config: AnimateConfig, stage: Stage, decisions: Mapping[str, Sequence[str]]
    ) -> dict[str, list[str]]:
        """Does a stage of one scene: see `do_stage`."""
        return do_stage(config, stage, decisions)


def _index(folders: Sequence[Path]) -> str:
    """The page of all scenes: poster, text, and the way to the page of each."""
    rows = []
    for folder in folders:
        text = html.escape(read_scene(folder / SCENE).text if (folder / SCENE).is_file() else folder.name)
        if (folder / PAGE).is_file():
            picture = f'<img src="{folder.name}/{POSTER}" alt="" style="width:320px;max-width:100%"><br>'
            rows.append(f'<p><a href="{folder.name}/{PAGE}">{picture}{text}</a></p>\n')
        else:
            rows.append(f"<p>{text}: not finished</p>\n")
    return _INDEX.format(title=f"{len(folders)} scenes", style=asset("page.css"), rows="".join(rows))


def _plan(cluster: SceneActorSettings, num_scenes: int) -> Plan:
    role: Role = common_role(cluster)(
        ACTOR,
        SceneWorker,
        count=min(cluster.num_scene_actors, num_scenes),
        num_cpus=cluster.cpus_per_scene_actor,
        num_gpus=cluster.gpus_per_scene_actor,
        timeout_s=cluster.call_timeout_s,
    )
    # Actors exchange lines of text, and files in a folder that all of them see.
    nothing = Workload(
        num_prompts=num_scenes,
        group_size=1,
        trained_steps=0,
        denoising_steps=0,
        guided=False,
        max_frames=0,
        num_features=0,
        text_elements=0,
        model_parameters=0,
        trainable_parameters=0,
    )
    return Plan((role,), nothing)
