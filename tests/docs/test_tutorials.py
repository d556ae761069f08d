"""Every command of the tutorials and how-to pages runs as it is written, on tiny numbers.

A page's commands (its blocks marked `bash`) run in order, in one folder, as `python -m` would run them. `TINY` lists
what is replaced: numbers of steps, sizes of networks, and where the parts run; every other word stays as the page has
it, so a flag that does not exist fails here. A `python` or `yaml` block with a title is the file of that name. What
is submitted to Ray is read by Ray's own command line and then planned by `--dry_run`; `tests/jobs/test_submit.py`
submits for real.
"""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.toys.bvh_files import MIXAMO, Rig, animate, write_bvh
from tests.toys.characters.cloning_toys import SMALL_RUN
from tests.toys.small_evaluator import write_evaluator
from tests.toys.tiny_models import TinyModels

ROOT = Path(__file__).resolve().parents[2]
CAPTIONS = """file,caption,start,end
walk_01.bvh,a person walks forward,,
walk_01.bvh,someone strolls ahead,,
walk_02.bvh,a person walks on,,
long_take.bvh,a man kicks with the right leg,0.5,3.2
"""
PAGES = sorted(
    path.relative_to(ROOT / "docs").as_posix()
    for folder in ("tutorials", "how_to")
    for path in (ROOT / "docs" / folder).glob("*.md")
)
BLOCK = re.compile(
    r"(?P<note><!-- not run by the tests: [^>]+-->\n)?"
    r"^```(?P<language>bash|python|yaml)(?P<rest>[^\n]*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
STEPS_DIVISOR = 50
"""Numbers of steps that a page gives are divided by it, so that more of them stay more."""

CHARACTER: dict[str, Any] = {**SMALL_RUN, "dagger_rounds": 0, "runtime": "local"}
ITERATIONS = {"num_timesteps": 256, "steps_per_batch": 128, "num_envs": 4}
MODEL = {
    **{"num_envs": 4, "rollout_steps": 64, "warmup_iterations": 1, "model_hidden_size": 16, "model_warmup_updates": 2},
    **{"model_updates": 1, "policy_updates": 1, "imagined_steps": 3},
}
TRAINING = {"num_steps": 2, "batch_size": 4, "save_interval": 2}
TINY: dict[str, dict[str, Any]] = {
    "jobs.grpo": {
        **{"runtime": "local", "num_steps": 2, "batch_size": 2, "group_size": 2, "num_prompts": 2},
        "composite_fraction": 0,
        **{"num_eval_prompts": 2, "num_eval_samples": 2, "sampling_steps": 3, "sde_window": 1, "sde_window_start": 1},
        **{"gpus_per_rollout_actor": 0, "gpus_per_learner": 0, "gpus_per_reward_actor": 0, "max_motion_length": 96},
    },
    "jobs.evaluate": {
        **{"runtime": "local", "replication_times": 1, "eval_num_samples": 2, "pool_size": 2, "sampling_steps": 2},
    },
    "jobs.composite": {"max_samples": 2},
    "jobs.generate": {"sampling_steps": 2, "no_gif": None},
    "jobs.pretrain": {
        **TRAINING,
        **{"latent_dim": 16, "ff_size": 16, "layers": 1, "num_heads": 2, "num_samples": 0, "num_composites": 2},
        **{"composite_fraction": 0, "diffusion_steps": 6},
    },
    "jobs.pretrain --preset own_data": {**TRAINING, "num_samples": 0, "max_frames": 60},
    "jobs.train_retrieval": {**TRAINING, "tmr_latent_dim": 16, "tmr_ff_size": 16, "tmr_layers": 1, "tmr_heads": 2},
    "jobs.train_critic": {
        **TRAINING,
        **{"critic_dim_feat": 8, "critic_dim_rep": 4, "critic_heads": 2, "num_eval_pairs": 2},
    },
    "jobs.critic_score": {},
    "jobs.prefer": {},
    "jobs.import_motion": {"val_share": 0},  # The pages' two recordings do not fill three splits.
    "jobs.view": {},
    "jobs.parse_scene": {},
    "jobs.train_m1_t5": {
        **{"num_examples": 8, "width": 16, "layers": 1, "heads": 2, "vocabulary": 300, "copy_steps": 1},
        **{"batch_size": 4, "num_measured": 2, "max_line_tokens": 1000},
    },
    "jobs.plan_scene": {},
    "jobs.simulate": {"physics_hz": 120},
    "jobs.render": {"width": 96, "height": 64, "fps": 4, "sub_frames": 1, "renderer": "tiny"},
    "jobs.animate": {
        **{"num_candidates": 1, "sampling_steps": 2, "tracking_max_s": 0.5, "physics_hz": 120, "renderer": "tiny"},
        **{"width": 96, "height": 64, "fps": 4, "sub_frames": 1},
    },
    "jobs.deepmimic --learner world_model": MODEL | CHARACTER | {"model_timesteps": 256, "video_s": 0},
    "jobs.sweep": {"dry_run": None},
    "jobs.doctor": {"dry_run": None},  # A machine may lack what is none of the page's business.
    "jobs.resume": {"dry_run": None},
    "jobs.runs": {},
    "jobs.deploy": {},
    "jobs.deepmimic": CHARACTER | ITERATIONS | {"video_s": 0, "critic_warmup_batches": 0},
    "jobs.sft": CHARACTER,
    "jobs.trpo": ITERATIONS | {"runtime": "local"},
    "jobs.world_model": MODEL | {"num_timesteps": 256, "eval_episodes": 2},
    "jobs.deepmimic --task video": {"video_s": 0.1},
    "jobs.deepmimic --task web": {"dry_run": None},  # Without a network there is nothing to make the page of.
    "jobs.deepmimic --task evaluate": {"eval_episodes": 2, "eval_steps": 20, "eval_push_forces": (100,)},
    "jobs.trpo --task evaluate": {"num_eval_episodes": 2, "max_episode_steps": 20},
}
"""Options that are added or replace those of a page, by job and first words."""
REPLACED = {"num_samples": 2, "num_repetitions": 2, "text_encoder": "minilm", "formats": "html,bvh,glb,npz"}
"""Options that are replaced where a page gives them."""


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command of a page that runs, in order; other blocks with a title are written to files."""
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]+)"', block["rest"])
        if block["language"] != "bash" and title:
            Path(title[1]).write_text(block["text"], encoding="utf-8")
        elif block["language"] == "bash" and not block["note"]:
            for line in block["text"].replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield words


def tiny(words: Sequence[str]) -> list[str]:
    """The words behind `python -m`, with what `TINY` and `REPLACED` say."""
    job, *given = words
    changes = dict(TINY[max((key for key in TINY if key in " ".join(words)), key=len)])
    first = next((index for index, word in enumerate(given) if word.startswith("--")), len(given))
    groups: list[list[str]] = []
    for word in given[first:]:
        if word.startswith("--"):
            groups.append([word])
        else:
            groups[-1].append(word)
    kept = given[:first]
    for option, *values in groups:
        name = option[2:]
        if name == "num_steps":
            changes[name] = max(1, int(values[0]) // STEPS_DIVISOR)
        elif name in REPLACED:
            changes[name] = REPLACED[name]
        elif name not in changes:
            kept += [option, *values]
    for name, value in changes.items():
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        kept += [f"--{name}", *map(str, values)]
    return [job, *kept]


def run_module(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m WORDS`, in this process: PyTorch is imported once."""
    monkeypatch.setattr(sys, "argv", list(words))
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    assert ended.value.code == 0, f"python -m {shlex.join(words)} ended with {ended.value.code}"


def check_ray(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads a `ray` command as Ray does, without running it; a submitted job is planned."""
    from ray.scripts.scripts import cli

    own, job = split_at_dashes(words[1:])
    command: Any = cli
    arguments = own
    while hasattr(command, "commands"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(command.name, [*arguments, *(["--", *job] if job else [])])
    if job:
        assert job[:2] == ["python", "-m"]
        planned = tiny(job[2:])
        run_module([*planned, *([] if "--dry_run" in planned else ["--dry_run"])], monkeypatch)


def split_at_dashes(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before and behind `--`."""
    index = list(words).index("--") if "--" in words else len(words)
    return list(words[:index]), list(words[index + 1 :])


# Other tests have imported the jobs before.
pytestmark = [pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning"), pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What readers of the pages have: recordings, and the files of MDM, HumanML3D, TMR and evaluator, here tiny."""
    rig = Rig(MIXAMO)
    write_bvh(tmp_path / "captures" / "walk_01.bvh", animate(rig, 60))
    write_bvh(tmp_path / "captures" / "walk_02.bvh", animate(rig, 60, seed=2))
    write_bvh(tmp_path / "captures" / "long_take.bvh", animate(rig, 130, seed=1))
    (tmp_path / "captions.csv").write_text(CAPTIONS)
    for place, target in {
        "save/humanml_enc_512_50steps": tiny_models.policy,
        "dataset/HumanML3D": tiny_models.dataset,
        "models/tmr_humanml3d_guoh3dfeats": tiny_models.tmr,
        "stats/humanml3d/guoh3dfeats": tiny_models.tmr / "stats",
    }.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(target, tmp_path / place)
    (tmp_path / "save/humanml_enc_512_50steps/model000000004.pt").rename(
        tmp_path / "save/humanml_enc_512_50steps/model000750000.pt"
    )
    write_evaluator(tmp_path / "t2m")
    (tmp_path / "t2m/glove").rename(tmp_path / "glove")
    for name in ("t2m_mean.npy", "t2m_std.npy"):
        (tmp_path / "t2m" / name).rename(tmp_path / "dataset" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(ROOT / "docs" / page):
        if words[0] == "ray":
            check_ray(words, monkeypatch)
        elif words[:2] == ["python", "-m"]:
            # Targets are for the numbers of the real evaluation, which takes minutes.
            run_module([*words[2:], "--dry_run"] if "--check" in words else [*tiny(words[2:])], monkeypatch)
        elif words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
        else:
            assert words[0] == "export", f"{page}: the test does not know how to run {shlex.join(words)}"


def test_a_flag_that_does_not_exist_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="ended with 2"):
        run_module(["jobs.pretrain", "--save_dir", "runs/policy", "--dataste", "data"], monkeypatch)
