"""Generation: the sampler a model was measured with, folders, dry runs, MDM's flags, and the page in a browser."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pygltflib
import pytest
from playwright.sync_api import sync_playwright

from cluster.records.checkpoints import RunDirectoryError
from jobs import generate
from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_GENERATE
from jobs.configs.generate import GenerateConfig
from jobs.text import generation
from motions.files.reading import MotionReader
from rollouts.text.encoders import PromptTooLongError
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow


def config_of(models: TinyModels, folder: Path, **changes: object) -> GenerateConfig:
    values = {"model_path": str(models.policy), "text": ("walks",), "save_dir": folder, "seconds": 1.0, "gif": False}
    return GenerateConfig.of(values | changes)


def run_generate(models: TinyModels, *words: str) -> int:
    words = ("--model_path", str(models.policy), "--gif", "false", *words)
    return cli.main(GenerateConfig, generate.run, None, "jobs.generate", generate.plan, FOREIGN_TO_GENERATE, words)


@pytest.fixture
def recorded(tiny_models: TinyModels, tmp_path: Path) -> TinyModels:
    """A policy whose args.json says how it was sampled in its run."""
    shutil.copytree(tiny_models.policy, tmp_path / "policy")
    path = tmp_path / "policy" / "args.json"
    sampler = {"sampler": "ddim", "sampling_steps": 3, "eta": 0.5, "guidance_scale": 1.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | sampler))
    return dataclasses.replace(tiny_models, policy=tmp_path / "policy")


def motion(folder: Path) -> np.ndarray:
    return np.load(folder / "sample00_rep00.npy")


def test_a_model_is_sampled_as_its_run_was_and_flags_win(
    recorded: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generation.prepare(config_of(recorded, tmp_path / "a")).policy.num_steps == 3
    told = capsys.readouterr().out
    assert "sampler ddim, sampling_steps 3, eta 0.5, guidance_scale 1.0, composite_denoising pooled: taken from" in told
    assert f"taken from {recorded.policy / 'args.json'}\n" in told
    chosen = generation.prepare(config_of(recorded, tmp_path / "a", sampling_steps=4, guidance_scale=2.0))
    assert chosen.policy.num_steps == 4
    sampling = chosen.config.sampling
    assert (sampling.sampler, sampling.eta, sampling.guidance_scale) == ("ddim", 0.5, 2.0)
    assert "sampler ddim, eta 0.5, composite_denoising pooled: taken from " in capsys.readouterr().out
    # None is a choice too: all steps.
    assert generation.prepare(config_of(recorded, tmp_path / "a", sampling_steps=None)).policy.num_steps == 6

    generate.run(config_of(recorded, tmp_path / "taken"))
    explicit = {"sampler": "ddim", "sampling_steps": 3, "eta": 0.5, "guidance_scale": 1.0}
    generate.run(config_of(recorded, tmp_path / "said", **explicit))
    np.testing.assert_array_equal(motion(tmp_path / "taken"), motion(tmp_path / "said"))


def test_composites_are_composed_unless_the_models_run_did_not(recorded: TinyModels, tmp_path: Path) -> None:
    """args.json of a run of an earlier version names a sampler and not how composites are denoised: pooled."""
    prompts = tmp_path / "prompts.jsonl"
    segments = [{"text": text, "num_frames": 20} for text in ("walks", "runs")]
    prompts.write_text(json.dumps({"text": "walks, then runs", "segments": segments}))
    path = recorded.policy / "args.json"

    def made(name: str, **changes: object) -> np.ndarray:
        given = {"text": (), "text_file": prompts, **changes}
        generate.run(config_of(recorded, tmp_path / name, **given))
        return motion(tmp_path / name)

    assert np.array_equal(made("old"), made("pooled", composite_denoising="pooled"))
    composed = made("composed", composite_denoising="composed")
    assert np.abs(composed - motion(tmp_path / "old")).max() > 1e-4
    sampler = json.loads(path.read_text())
    path.write_text(json.dumps(sampler | {"composite_denoising": "composed", "composite_overlap": 3}))
    assert np.array_equal(made("recorded"), composed)
    path.write_text(json.dumps(sampler | {"composite_denoising": "composed", "composite_overlap": 6}))
    assert not np.array_equal(made("wider"), composed)
    untrained = {name: value for name, value in sampler.items() if name != "sampler"}
    path.write_text(json.dumps(untrained))
    assert np.array_equal(made("base", sampler="ddim"), composed)


def test_texts_are_split_into_their_actions_on_request(tiny_models: TinyModels, tmp_path: Path) -> None:
    text = ("a person walks forward, then jumps", "a person sits")
    config = config_of(tiny_models, tmp_path / "out", text=text, split_text=True, seconds=2.0)
    first, second = generation.prepare(config).prompts
    assert [(part.text, part.num_frames) for part in first.segments] == [
        ("a person walks forward", 20),
        ("a person jumps", 20),
    ]
    assert first.text == text[0] and [part.text for part in second.segments] == ["a person sits"]


def test_motions_longer_than_those_of_the_training_are_composed(tiny_models: TinyModels, tmp_path: Path) -> None:
    """The policy has seen 96 frames and makes at most 255 at a time."""
    generate.run(config_of(tiny_models, tmp_path / "long", seconds=15.0))
    assert motion(tmp_path / "long").shape == (300, 22, 3)
    with pytest.raises(ValueError, match=r"'walks' lasts 300 frames; at most 196 are possible, unless"):
        generate.run(config_of(tiny_models, tmp_path / "pooled", seconds=15.0, composite_denoising="pooled"))


def test_a_sampler_that_does_not_exist_is_named_with_its_file(recorded: TinyModels, tmp_path: Path) -> None:
    path = recorded.policy / "args.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampler": "plms"}))
    with pytest.raises(ValueError, match=r"args.json: sampler: Value error, sampler is 'plms'; legal: ddpm, ddim"):
        generation.prepare(config_of(recorded, tmp_path / "out"))
    generation.prepare(config_of(recorded, tmp_path / "out", sampler="ddpm"))


def test_somebody_elses_folder_is_left_alone(tiny_models: TinyModels, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("my homepage")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="is not empty and holds no results"):
            generate.run(config_of(tiny_models, tmp_path, overwrite=overwrite))
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "my homepage"


def test_overwrite_leaves_no_file_of_older_results(tiny_models: TinyModels, tmp_path: Path) -> None:
    generate.run(config_of(tiny_models, tmp_path / "out", num_samples=2))
    with pytest.raises(ValueError, match="holds results; give another folder or --overwrite"):
        generate.run(config_of(tiny_models, tmp_path / "out"))
    # What cannot be generated moves nothing.
    with pytest.raises(PromptTooLongError):
        generate.run(config_of(tiny_models, tmp_path / "out", text=("word " * 400,), overwrite=True))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    generate.run(config_of(tiny_models, tmp_path / "out", overwrite=True))
    assert not list((tmp_path / "out").glob("*_rep01*"))
    assert (tmp_path / "out" / "index.html").is_file()
    assert len(list((tmp_path / "out.old-1").glob("sample00_rep0?.npy"))) == 2


def test_a_place_that_cannot_be_written_is_found_before_sampling(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.text.generation.generate", lambda *_, **__: pytest.fail("sampled first"))
    # Nobody can make folders there, not even root.
    with pytest.raises(ValueError, match=r"save_dir /proc/kinetune is not writable"):
        generate.run(config_of(tiny_models, Path("/proc/kinetune")))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="is a file, not a directory"):
        generate.run(config_of(tiny_models, tmp_path / "file"))


def test_a_dry_run_checks_prompts_and_folder_and_writes_nothing(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--save_dir", str(tmp_path / "out"), "--dry_run")
    assert run_generate(tiny_models, "--text", "walks", "runs", "--num_samples", "2", *where) == 0
    assert "2 prompts x 2 motions of up to 120 frames" in capsys.readouterr().out
    assert run_generate(tiny_models, "--text", "word " * 400, *where) == 2
    assert "reads at most" in capsys.readouterr().err
    assert run_generate(tiny_models, "--text", "walks", "--sampling_steps", "7", *where) == 2
    (tmp_path / "note.txt").write_text("mine")
    assert run_generate(tiny_models, "--text", "walks", "--save_dir", str(tmp_path), "--dry_run") == 2
    assert "is not empty and holds no results" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_mdm_s_numbers_of_samples_and_repetitions(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--save_dir", str(tmp_path / "out"), "--device", "cpu")
    data = ("--dataset", "humanml", "--data_dir", str(tiny_models.dataset))
    assert run_generate(tiny_models, "--num_samples", "4", "--num_repetitions", "2", *data, *where) == 0
    assert "4 prompts x 2 motions" in capsys.readouterr().out
    with np.load(tmp_path / "out" / "results.npz", allow_pickle=False) as results:
        assert (int(results["num_samples"]), int(results["num_repetitions"])) == (4, 2)
        assert set(results["lengths"].tolist()) == {42}
    given = ("--text_prompt", "walks", "--motion_length", "1", "--num_repetitions", "3", "--dry_run")
    for words in (given, (*given, "--num_samples", "10")):
        assert run_generate(tiny_models, *words, "--output_dir", str(tmp_path / "b"), "--cuda", "True") == 0
        output = capsys.readouterr()
        assert "1 prompts x 3 motions of up to 20 frames" in output.out
        assert "--cuda True changes nothing" in output.err
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("walks\nruns\njumps\n")
    config = config_of(tiny_models, tmp_path, text=(), text_file=prompts, num_samples=2, num_repetitions=1)
    assert generation.read_prompts(
        config.generation,
        config.data,
        generation.prepare(config_of(tiny_models, tmp_path / "c")).policy.skeleton,
    )[1].text.startswith("runs")


def test_motions_are_written_in_the_formats_that_are_asked_for(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--text", "walks", "--seconds", "1", "--num_samples", "2", "--save_dir", str(tmp_path / "out"))
    assert run_generate(tiny_models, *where, "--formats", "bvh,glb", "npz") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    pairs = {f"sample00_rep0{index}{end}" for index in range(2) for end in (".bvh", "_smpl_approximate.npz")}
    assert names > {"motions.glb", *pairs} and "index.html" not in names
    output = capsys.readouterr().out
    assert "the SMPL parameters (npz) are approximate" in output and f"open {tmp_path / 'out'}\n" in output
    document = pygltflib.GLTF2.load(str(tmp_path / "out" / "motions.glb"))
    assert document is not None
    assert [animation.name for animation in document.animations] == ["sample00_rep00", "sample00_rep01"]
    [first, _] = MotionReader().read(tmp_path / "out")
    assert first.title == "walks" and np.array_equal(first.joints, motion(tmp_path / "out"))
    assert run_generate(tiny_models, *where, "--formats", "fbx") == 2
    assert "--formats fbx: expected one or more of html, gif, mp4, bvh, glb, npz" in capsys.readouterr().err


@pytest.mark.browser
def test_the_page_opens_and_plays_without_complaint(tiny_models: TinyModels, tmp_path: Path, chromium: str) -> None:
    generate.run(config_of(tiny_models, tmp_path / "out", text=("walks", "runs"), num_samples=2))
    complaints: list[str] = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto((tmp_path / "out" / "index.html").as_uri())
        page.wait_for_function("window.kinetuneStage.time > 3")
        assert page.locator("canvas[data-player]").count() == 2
        page.locator("#prompts button").nth(1).click()
        assert page.locator("[data-segments] span").all_inner_texts() == ["runs"]
        browser.close()
    assert complaints == []


def test_frames_of_a_file_are_kept_and_completed(tiny_models: TinyModels, tmp_path: Path) -> None:
    first = config_of(tiny_models, tmp_path / "first", seconds=2.0)
    generate.run(first)
    features = np.load(tmp_path / "first" / "sample00_rep00_features.npy")
    kept = {"given_motion": tmp_path / "first" / "sample00_rep00_features.npy", "keep_first": 0.5}
    generate.run(config_of(tiny_models, tmp_path / "on", seconds=3.0, **kept))
    made = np.load(tmp_path / "on" / "sample00_rep00_features.npy")
    assert made.shape == (60, 263)
    np.testing.assert_allclose(made[:10], features[:10], atol=1e-4)
    assert np.abs(made[10:40] - features[10:]).max() > 1e-3

    generate.run(config_of(tiny_models, tmp_path / "between", seconds=3.0, **kept, keep_last=0.25, seed=3))
    between = np.load(tmp_path / "between" / "sample00_rep00_features.npy")
    np.testing.assert_allclose(between[-5:], features[-5:], atol=1e-4)
    assert np.abs(between[10:-5] - made[10:-5]).max() > 1e-3

    # Joints are converted, and lose the last frame.
    joints = kept | {"given_motion": tmp_path / "first" / "sample00_rep00.npy"}
    generate.run(config_of(tiny_models, tmp_path / "joints", seconds=3.0, **joints))
    assert np.load(tmp_path / "joints" / "sample00_rep00.npy").shape == (60, 22, 3)

    windows = {"autoregressive": True, "context_len": 8, "pred_len": 12}
    generate.run(config_of(tiny_models, tmp_path / "windows", seconds=3.0, **kept, **windows))
    parts = np.load(tmp_path / "windows" / "sample00_rep00_features.npy")
    np.testing.assert_allclose(parts[:10], features[:10], atol=1e-4)
    assert parts.shape == (60, 263) and np.abs(parts[10:] - made[10:]).max() > 1e-3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--keep_first", "1"), "without given_motion"),
        (("--given_motion", "{motion}"), "nothing of it is kept"),
        (("--given_motion", "{motion}", "--keep_first", "1"), "expected finite features [T, 263]"),
        (("--given_motion", "gone.npy", "--keep_first", "1"), "given_motion: gone.npy: no such file"),
        (("--given_motion", "{motion}", "--keep_last", "1", "--autoregressive"), "only go on from earlier frames"),
        (("--context_len", "8"), "context_len is given without autoregressive"),
        (("--autoregressive", "--pred_len", "300"), "context_len is 20 and pred_len 300"),
        (("--autoregressive_include_prefix", "false"), "are part of the motion"),
    ],
)
def test_completions_that_cannot_be(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "motion.npy"
    np.save(path, np.zeros((40, 12), np.float32))
    given = [word.format(motion=path) for word in words]
    assert run_generate(tiny_models, "--text", "walks", "--dry_run", "--save_dir", str(tmp_path / "out"), *given) == 2
    assert message in capsys.readouterr().err
