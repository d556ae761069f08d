"""Pages of the reference, made while the site is built (a hook of MkDocs): they cannot drift from the code.

* `reference/options/JOB.md`: every option of a job, from its configuration model.
* `reference/api/LAYER.md`: the public names of a layer, whose docstrings mkdocstrings renders.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = str(Path(__file__).resolve().parents[2])
sys.path.insert(0, ROOT)

from jobs.command_line.flags import REQUIRED, Flag, flags_of  # noqa: E402
from jobs.command_line.settings_files import preset_names  # noqa: E402
from motions.base.public_names import public_names  # noqa: E402
from motions.settings import spellings_of  # noqa: E402

JOBS = {
    "grpo": "jobs.configs.grpo:GRPOConfig",
    "generate": "jobs.configs.generate:GenerateConfig",
    "composite": "jobs.composites.settings:CompositeConfig",
    "evaluate": "jobs.evaluation.settings:EvaluateConfig",
    "compare": "jobs.configs.service.compare:CompareConfig",
    "pretrain": "jobs.configs.pretrain:PretrainConfig",
    "train_retrieval": "jobs.configs.retrieval:RetrievalConfig",
    "train_critic": "jobs.critic.settings:CriticConfig",
    "train_physics_ssm": "jobs.ssm.refiner_settings:PhysicsSSMConfig",
    "train_motion_ssm": "jobs.ssm.settings:MotionSSMConfig",
    "critic_score": "jobs.critic.settings:CriticScoreConfig",
    "prefer": "jobs.critic.settings:PreferConfig",
    "train_mdm": "jobs.actions.settings:TrainMDMConfig",
    "tune_mdm": "jobs.actions.settings:TuneMDMConfig",
    "test_mdm": "jobs.actions.settings:MeasureMDMConfig",
    "sample_and_save": "jobs.actions.settings:SampleAndSaveConfig",
    "save_gt": "jobs.actions.settings:SaveGtConfig",
    "eval_fid": "jobs.actions.settings:EvalFidConfig",
    "direct": "jobs.actions.settings:DirectConfig",
    "import_motion": "jobs.configs.import_motion:ImportConfig",
    "view": "jobs.configs.view:ViewConfig",
    "demo": "jobs.configs.demo:DemoConfig",
    "parse_scene": "jobs.scenes.settings:ParseSceneConfig",
    "plan_scene": "jobs.scenes.settings:PlanSceneConfig",
    "simulate": "jobs.scenes.settings:SimulateConfig",
    "render": "jobs.scenes.settings:RenderConfig",
    "animate": "jobs.animation.settings:AnimateConfig",
    "enhance": "jobs.films.settings:EnhanceConfig",
    "build_vg_dataset": "jobs.scenes.settings:VisualGenomeConfig",
    "build_vg_kb_index": "jobs.scenes.settings:ObjectIndexConfig",
    "build_scene_dataset": "jobs.scenes.parser_settings:SceneDatasetConfig",
    "train_m1_t5": "jobs.scenes.parser_settings:TrainParserConfig",
    "deepmimic": "jobs.configs.deepmimic:DeepMimicConfig",
    "sft": "jobs.configs.sft:SFTConfig",
    "trpo": "jobs.configs.trpo:TRPOJobConfig",
    "world_model": "jobs.configs.world_model:WorldModelJobConfig",
    "balance": "jobs.configs.balance:BalanceConfig",
    "sweep": "jobs.trainings.sweep:SweepConfig",
    "runs": "jobs.configs.service.runs:RunsConfig",
    "resume": "jobs.configs.service.runs:ResumeConfig",
    "doctor": "jobs.trainings.doctor:DoctorConfig",
    "deploy": "jobs.trainings.deploy:DeployConfig",
}
"""Job -> its configuration model."""
LAYERS = ("motions", "envs", "rollouts", "rewards", "learners", "cluster")

OPTIONS_INTRODUCTION = """# Commands

Every job is a command, `python -m jobs.NAME [options]`. `--help all` prints what the pages of this section show: all
options with their legal values and defaults, made from the same models.

Values are taken from the defaults, then from `--preset`, then from `--config`, then from the options of the command
line; each later one wins. These options belong to every job:

`--preset NAME|PATH.yaml`
:   Start from a preset, given by name or as a file.

`--config PATH.yaml`
:   Read options from a file, such as the `config.yaml` of an earlier run.

`--dry_run`
:   Check the settings and say what would run, without starting it.

`--debug`
:   Show the whole traceback of an error.

`--help [all|GROUP|OPTION]`
:   List every option, with the important ones explained; or explain all of them, a group, or a single one.

A switch is turned on by its name and off by `--no_` before the name. A dash and an underscore are the same in a name.
Options belong to groups; where two groups of a job have an option of the same name, the group stands in front of it, as
in `--policy.lora_r`, and it always may. Files hold options flat, or nested by group, as `config.yaml` does.
Exit status: 0 for success; 2 for a mistake in the options or files that were given, told in one line; 130 when
interrupted; 1 for everything else, with the traceback, which is also written to `error.log` in the run's folder.

| command | what it does | presets |
|---|---|---|
"""
API_INTRODUCTION = """# Python

The code is cut into layers, each a top-level package; imports point down only. A layer's `__init__.py` re-exports its
public names, the ones that your own reward, dataset or script imports:

```python
from motions import HUMANML3D, Prompt
from rewards import RewardTerms
```

Names are imported when they are first used: `import motions` loads neither torch nor Ray. Everything else in a layer is
internal and may change.

| layer | what it holds |
|---|---|
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    # MkDocs has put the path back after it had loaded this hook.
    sys.path.insert(0, ROOT)
    pages = {"options/index.md": OPTIONS_INTRODUCTION, "api/index.md": API_INTRODUCTION}
    for job, place in JOBS.items():
        doc = inspect.getdoc(importlib.import_module(f"jobs.{job}")) or ""
        presets = ", ".join(f"`{name}`" for name in preset_names(f"jobs.{job}"))
        pages["options/index.md"] += f"| [jobs.{job}]({job}.md) | {doc.splitlines()[0]} | {presets} |\n"
        pages[f"options/{job}.md"] = options_page(job, load(place), doc)
    for layer in LAYERS:
        doc = inspect.getdoc(importlib.import_module(layer)) or ""
        pages["api/index.md"] += f"| [{layer}]({layer}.md) | {doc.splitlines()[0]} |\n"
        pages[f"api/{layer}.md"] = api_page(layer, doc)
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}", content=text))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Keeps the name of an option in one piece: a browser would break the line behind its dashes."""
    return re.sub(
        r"<code>([^<]*)</code>",
        lambda code: "<code>" + re.sub(r"--\w+", r'<span class="option-name">\g<0></span>', code[1]) + "</code>",
        html,
    )


def load(place: str) -> Any:
    """The object that `package.module:Name` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def options_page(job: str, model: Any, doc: str) -> str:
    """Every option of a job under the heading of its group."""
    parts = [f"# jobs.{job}", markdown(doc)]
    by_path = flags_of(model)
    flags = sorted(by_path.values(), key=lambda flag: flag.default != REQUIRED)
    if model.important:
        names = [by_path[spellings_of(model)[name]].name for name in model.important]
        parts.append("The options that matter most: " + ", ".join(f"[`--{name}`](#{name})" for name in names) + ".")
    order = {flag.heading: index for index, flag in reversed(list(enumerate(flags)))}
    for heading, members in groupby(sorted(flags, key=lambda flag: order[flag.heading]), key=lambda flag: flag.heading):
        parts += [f"## {heading}", *map(option, members)]
    return "\n\n".join(parts) + "\n"


def option(flag: Flag) -> str:
    """One option: its spellings, what it means, legal values and default."""
    also = "".join(f", `--{alias}`" for alias in flag.aliases)
    default = "required" if flag.default == REQUIRED else f"default: `{flag.default}`"
    values = f"{escaped(flag.legal)}; {default}"
    return f"#### `--{flag.name}`{also} {{: #{flag.name} }}\n\n{markdown(flag.doc)}\n\n{values}\n{{: .option-values }}"


def api_page(layer: str, doc: str) -> str:
    """The public names of a layer, by module."""
    parts = [f"# {layer}", markdown(doc)]
    names = public_names(layer)
    for module, members in groupby(sorted(names, key=lambda name: (names[name], name)), key=names.__getitem__):
        parts.append(f"## {module} {{: #module-{module.replace('.', '-')} }}")
        parts += [f"::: {module}.{name}" for name in members]
    return "\n\n".join(parts) + "\n"


def markdown(text: str) -> str:
    """A docstring as Markdown: what stands outside of code is escaped."""
    blocks = []
    for block in text.split("\n\n"):
        blocks.append(block if block.startswith("    ") else escaped(block))
    return "\n\n".join(blocks)


def escaped(text: str) -> str:
    """Text whose `*`, `_` and `<` mean themselves, except inside backticks."""
    pieces = re.split(r"(`[^`]*`)", text)
    # Python-Markdown knows no backslash before "<".
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([*_])", r"\\\1", piece).replace("<", "&lt;") for piece in pieces
    )
