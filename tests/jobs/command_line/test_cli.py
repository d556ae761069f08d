"""The command line: precedence, spellings, errors that name flag, value and legal values, and a readable help."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AliasChoices, Field, model_validator

from cluster.runtime.stopping import Stopped
from jobs.command_line import main as cli
from jobs.command_line.flags import ForeignFlag, UsageError
from jobs.command_line.validation import with_dashes
from jobs.command_line.values import read_assignments
from jobs.configs.grpo import GRPOConfig
from motions.base.errors import RemoteError, UserError
from motions.settings import Settings
from tests.house.source_tree import ROOT

pytestmark = pytest.mark.slow


class ToolSettings(Settings):
    """How the tool cuts."""

    blade: Literal["steel", "stone"] = "steel"
    """Material of the blade."""
    num_cuts: int = Field(4, ge=2, validation_alias=AliasChoices("num_cuts", "cuts"))
    """Cuts of one piece."""
    sharp: bool = True
    """Whether the blade was sharpened."""
    lora_alpha: float = Field(16.0, gt=0)
    """Scale."""


class ToolConfig(ToolSettings):
    """What the tool works on."""

    save_dir: Path
    """Where pieces go."""
    texts: tuple[str, ...] = ()
    """Words engraved."""
    sizes_m: tuple[Annotated[float, Field(gt=-9)], ...] = Field(default=(1.0,), min_length=1)
    """Sizes in metres."""
    limit_s: float | None = None
    """Time limit."""
    corners: tuple[int, ...] | None = (1, 2)
    """Rounded corners; by default those of the blade."""

    @model_validator(mode="after")
    def _stone_is_blunt(self) -> ToolConfig:
        if self.blade == "stone" and self.sharp:
            raise ValueError("blade stone cannot be sharp; give --no_sharp")
        return self


def parse(*argv: str, **foreign: ForeignFlag) -> ToolConfig:
    return cli.parse(ToolConfig, argv, "jobs.tool", foreign).settings


def errors(*argv: str, **foreign: ForeignFlag) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse(*argv, **foreign)
    return list(caught.value.lines)


def test_values_of_every_kind() -> None:
    config = parse(
        *("--save-dir", "out", "--cuts", "3", "--no_sharp", "--blade=stone", "--texts", "walks on", "runs"),
        *("--texts", "sits", "--sizes_m", "1e-3,2", "-3", "--limit_s", "none", "--lora_alpha", "1e1"),
    )
    assert config == ToolConfig(
        save_dir=Path("out"),
        num_cuts=3,
        sharp=False,
        blade="stone",
        texts=("walks on", "runs", "sits"),
        sizes_m=(0.001, 2.0, -3.0),
        lora_alpha=10.0,
    )


def test_none_is_no_value_or_an_empty_list() -> None:
    config = parse("--save_dir", "out", "--texts", "none", "--corners", "None", "--limit_s", "none")
    assert (config.texts, config.corners, config.limit_s) == ((), None, None)
    assert parse("--save_dir", "out", "--texts", "none", "two").texts == ("none", "two")
    assert errors("--save_dir", "out", "--sizes_m", "none") == [
        "--sizes_m none: expected one or more numbers > -9",
    ]


@pytest.mark.parametrize(
    ("words", "value"),
    [(["--sharp"], True), (["--sharp", "False"], False), (["--no-sharp"], False), (["--no_sharp", "false"], True)],
)
def test_switches(words: list[str], value: bool) -> None:
    assert parse("--save_dir", "out", *words).sharp is value


def test_later_sources_win(tmp_path: Path) -> None:
    preset, file = tmp_path / "preset.yaml", tmp_path / "file.yaml"
    preset.write_text("job: jobs.tool\nsave_dir: preset\ncuts: 5\nlora_alpha: 1e-6\n")
    file.write_text("num_cuts: 6\nsharp: false\n")
    config = parse("--sharp", "--config", str(file), "--preset", str(preset))
    assert (config.save_dir, config.num_cuts, config.sharp) == (Path("preset"), 6, True)
    assert config.lora_alpha == 1e-6  # YAML 1.1 reads 1e-6 as text


def test_resolved_settings_read_back(tmp_path: Path) -> None:
    config = parse("--save_dir", "out", "--texts", "a person: walks", "--sizes_m", "2")
    file = tmp_path / "config.yaml"
    file.write_text(cli.settings_yaml(config))
    assert parse("--config", str(file)) == config


def test_files_may_say_one_thing_for_a_list_and_none_for_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("save_dir: out\ntexts: a person walks\nsizes_m: 2\ncorners: none\nlimit_s: none\n")
    config = parse("--config", str(file))
    assert (config.texts, config.sizes_m, config.corners, config.limit_s) == (("a person walks",), (2.0,), None, None)
    file.write_text("save_dir: out\ntexts: null\ncorners: 3\n")
    config = parse("--config", str(file))
    assert (config.texts, config.corners) == ((), (3,))


def test_a_tilde_is_the_home_folder_where_no_shell_replaced_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "preset.yaml").write_text("cuts: 5\n")
    (tmp_path / "file.yaml").write_text("save_dir: ~/out\n")
    assert cli.with_named_groups(GRPOConfig, ["--config=~/file.yaml"], "jobs.grpo") is GRPOConfig
    config = parse("--preset=~/preset.yaml", "--config=~/file.yaml", "--texts", "~/not/a/path")
    assert (config.num_cuts, config.save_dir, config.texts) == (5, tmp_path / "out", ("~/not/a/path",))
    assert parse("--save_dir=~nobody-of-that-name/x").save_dir == Path("~nobody-of-that-name/x")


def test_command_of_settings_reads_back() -> None:
    config = parse("--save_dir", "my out", "--no_sharp", "--texts", "a, b", "c", "--sizes_m", "2", "--limit_s", "3")
    command = cli.command_of(config, "jobs.tool")
    assert command == "python -m jobs.tool --no_sharp --save_dir 'my out' --texts 'a, b' c --sizes_m 2.0 --limit_s 3.0"
    assert parse(*shlex.split(command)[3:]) == config
    nothing = ToolConfig.of(save_dir=Path("out"), texts=(), corners=None)
    assert parse(*shlex.split(cli.command_of(nothing, "jobs.tool"))[3:]) == nothing


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--lora_alpah", "3"], "unknown option --lora_alpah; did you mean --lora_alpha?"),
        (["--h"], "unknown option --h"),
        (["--num_cuts", "1"], "--num_cuts 1: expected integer >= 2"),
        (["--lora_alpha", "inf"], "--lora_alpha inf: expected finite number > 0"),
        (["--limit_s", "nan"], "--limit_s nan: expected finite number or none"),
        (["--sizes_m", "1", "-inf"], "--sizes_m 1 -inf: expected one or more finite numbers > -9"),
        (["--cuts", "many"], "--num_cuts many: expected integer >= 2"),
        (["--blade", "wood"], "--blade wood: expected one of steel, stone"),
        (["--num_cuts", "3", "--cuts", "4"], "--num_cuts is given twice: --num_cuts 3 and --cuts 4"),
        (["--no_sharp", "--sharp", "true"], "--sharp is given twice: --no_sharp and --sharp true"),
        (["--blade=stone", "--blade", "steel"], "--blade is given twice: --blade stone and --blade steel"),
        (["--num_cuts"], "--num_cuts needs a value: integer >= 2"),
        (["--no_blade"], "--no_blade: only a switch can be turned off with --no_; blade takes a value"),
        (["lora_alpha", "16"], "unexpected 'lora_alpha 16': did you mean --lora_alpha 16?"),
        (["--sharp", "lora_alpha", "16"], "unexpected 'lora_alpha 16': did you mean --lora_alpha 16?"),
        (["--lora_alpha 16"], "'--lora_alpha 16' is one word; did you mean --lora_alpha 16 without quotes around it?"),
        (
            ["--blade", "steel", "twice"],
            "unexpected word 'twice' (behind --blade): options start with --, and a value with spaces needs quotes",
        ),
        (
            ["--blade", "steel", " --sharp"],
            "' --sharp': a backslash stands before --sharp; a backslash continues a command only as the last character "
            "of its line",
        ),
        (["--blade", "stone"], "blade stone cannot be sharp; give --no_sharp"),
        (["--preset", "nothing"], "--preset nothing: no such preset; for jobs.tool there are: none; or give"),
        (["--config="], "--config '': no such file; expected a .yaml file"),
        (["--sharp", "Flase"], "--sharp Flase: expected true or false"),
        (["--no_sharp=maybe"], "--no_sharp maybe: expected true or false"),
        (["--sharp", "true", "false"], "unexpected word 'false' (behind --sharp)"),
        (["--blade="], "--blade '': expected one of steel, stone"),
        (["--config", "nothing.yaml"], "--config nothing.yaml: no such file; expected a .yaml file"),
    ],
)
def test_mistakes(words: list[str], line: str) -> None:
    (found,) = errors("--save_dir", "out", *words)
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("save_dir /x is not empty", "--save_dir /x is not empty"),
        ("limit_s: too short", "--limit_s: too short"),
        ("blade is dull", "--blade is dull"),
        ("blade bronze: legal are steel, stone", "--blade bronze: legal are steel, stone"),
        ("blade and handle do not fit: mend them", "blade and handle do not fit: mend them"),
        ("save_directories are full", "save_directories are full"),
    ],
)
def test_a_message_that_begins_by_an_option_names_it_as_it_is_given(message: str, shown: str) -> None:
    assert with_dashes(message, ToolConfig) == shown


def test_assignments_are_read_as_files_are() -> None:
    words = ["cuts=3", "limit_s=none", "texts=[a, b]", "blade=stone"]
    expected = {"num_cuts": 3, "limit_s": None, "texts": ["a", "b"], "blade": "stone"}
    assert read_assignments("--set", words, ToolConfig) == expected
    with pytest.raises(UsageError) as caught:
        read_assignments("--set", ["cuts", "cust=3", "cuts=[3"], ToolConfig)
    beginnings = ("--set cuts: expected OPTION=VALUE", "--set cust=3: unknown option cust", "--set cuts=[3: not a YAML")
    for line, beginning in zip(caught.value.lines, beginnings, strict=True):
        assert line.startswith(beginning)


def test_every_mistake_has_its_line() -> None:
    assert errors("--num_cuts", "1", "--lora_alpha", "0") == [
        "--num_cuts 1: expected integer >= 2",
        "--lora_alpha 0: expected number > 0",
        "--save_dir is required: path",
    ]
    assert len(errors("--nonsense", "--cuts")) == 2


def test_mistakes_in_files_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("num_cuts: 1\nsave_dir: out\n")
    assert errors("--config", str(file)) == [f"--num_cuts 1 ({file}): expected integer >= 2"]
    file.write_text("num_cut: 1\n")
    assert errors("--config", str(file)) == [f"{file}: unknown option 'num_cut'; did you mean --num_cuts?"]
    file.write_text("job: jobs.other\n")
    assert errors("--config", str(file)) == [f"{file}: these settings are for jobs.other, not for jobs.tool"]
    file.write_text("")
    assert errors("--config", str(file)) == [f"{file}: expected a mapping of option names to values; the file is empty"]
    file.write_text("save_dir: out\ntexts: [a, b\n")
    assert errors("--config", str(file)) == [
        f"{file}: not a YAML file: line 3: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"
    ]
    file.write_text("save_dir: ''\nblade: null\nlimit_s: true\ncuts: true\nsizes_m: [1, true]\nsharp: 2\n")
    assert errors("--config", str(file)) == [
        f"--blade none ({file}): expected one of steel, stone",
        f"--num_cuts true ({file}): expected integer >= 2",
        f"--sharp 2 ({file}): expected true or false",
        f"--save_dir '' ({file}): expected path",
        f"--sizes_m 1 true ({file}): expected one or more numbers > -9",
        f"--limit_s true ({file}): expected number or none",
    ]
    file.write_text("- 1\n")
    assert errors("--config", str(file)) == [f"{file}: expected a mapping of option names to values; got list"]
    file.write_text("cuts: 2\nsave_dir: out\ncuts: 3\n")
    assert errors("--config", str(file)) == [f"{file}, line 3: cuts is given twice"]
    file.write_text("cuts: 2\nnum_cuts: 3\n")
    assert errors("--config", str(file)) == [f"{file}: num_cuts is given twice: as cuts and as num_cuts"]


def test_options_of_other_guides() -> None:
    uncropped = ForeignFlag("prompts are never cropped", accepted=("true",))
    command = cli.parse(ToolConfig, ["--save_dir", "o", "--uncropped"], "jobs.tool", {"uncropped": uncropped})
    assert command.notes == ("--uncropped true changes nothing: prompts are never cropped",)
    assert errors("--save_dir", "o", "--uncropped", "false", uncropped=uncropped) == [
        "--uncropped false is not supported: prompts are never cropped"
    ]


def run_main(*argv: str) -> int:
    def run(config: ToolConfig) -> None:
        if config.num_cuts == 9:
            raise UserError("num_cuts 9: the blade\n  breaks")
        if config.num_cuts == 8:
            raise ValueError("a fault of ours")
        if config.num_cuts == 7:
            (config.save_dir / "nowhere").read_text()
        if config.num_cuts == 6:
            raise RemoteError("cut 6 failed: TypeError", TypeError("in another process"))
        if config.num_cuts == 5:
            raise RemoteError("cut 5 failed: UserError: no blade", UserError("no blade"))
        if config.num_cuts in (15, 2):
            os.kill(os.getpid(), config.num_cuts)
        print(f"cut {config.num_cuts}")

    return cli.main(ToolConfig, run, "Cuts.\n\n    python -m jobs.tool", "jobs.tool", argv=argv, plan=print)


def test_exit_codes_and_streams(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("--save_dir", "out") == 0
    assert capsys.readouterr().out == "cut 4\n"
    assert run_main("--cuts", "1") == 2
    assert capsys.readouterr().err.splitlines()[0] == "error: --num_cuts 1: expected integer >= 2"
    assert run_main("--save_dir", "out", "--cuts", "9") == 2
    assert capsys.readouterr().err == "error: --num_cuts 9: the blade breaks\n"
    assert run_main("--save_dir", "out", "--cuts", "9", "--debug", "false") == 2
    for word in ("--debug", "--debug=true"):
        with pytest.raises(UserError, match="breaks"):
            run_main("--save_dir", "out", "--cuts", "9", word)
    with pytest.raises(ValueError, match="a fault of ours"):
        run_main("--save_dir", "out", "--cuts", "8")
    with pytest.raises(RemoteError, match="cut 6"):
        run_main("--save_dir", "out", "--cuts", "6")
    capsys.readouterr()
    assert run_main("--save_dir", "out", "--cuts", "5") == 2
    assert capsys.readouterr().err == "error: cut 5 failed: UserError: no blade\n"
    assert run_main("--save_dir", "out", "--cuts", "7") == 2
    assert capsys.readouterr().err == "error: [Errno 2] No such file or directory: 'out/nowhere'\n"
    capsys.readouterr()
    assert run_main("--save_dir", "out", "--cuts", "9", "--dry_run") == 0
    assert "num_cuts=9" in capsys.readouterr().out


class CarvingConfig(ToolConfig):
    """A tool that can go on."""

    resume: bool = False
    """Go on."""
    overwrite: bool = False
    """Begin again."""


@pytest.mark.parametrize(("number", "name", "status"), [(15, "SIGTERM", 143), (2, "Ctrl-C", 130)])
def test_a_command_that_is_asked_to_end_says_how_to_go_on(
    number: int, name: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main("--save_dir", "out", "--cuts", str(number)) == status
    assert capsys.readouterr().err == f"stopped by {name}\n"

    def carve(config: ToolConfig) -> None:
        try:
            os.kill(os.getpid(), number)
        except Stopped as stopped:
            stopped.saved = "step 7 is saved"
            raise

    words = ["--save_dir", "my out"]
    assert cli.main(ToolConfig, carve, None, "jobs.tool", argv=words) == status
    assert capsys.readouterr().err == (
        f"stopped by {name}; step 7 is saved. To go on:\n  python -m jobs.tool --save_dir 'my out'\n"
    )
    in_file = tmp_path / "overwrite.yaml"
    in_file.write_text("overwrite: true\n")
    to_go_on = "python -m jobs.tool --save_dir 'my out' --resume"
    for words, command in (
        (["--resume", "true", "--save_dir", "my out"], to_go_on),
        (["--overwrite", "Yes", "--save_dir=my out"], "python -m jobs.tool '--save_dir=my out' --resume"),
        (["--save_dir", "my out", "--no-resume", "--overwrite=1"], to_go_on),
        (
            ["--save_dir", "my out", "--config", str(in_file)],
            f"{to_go_on[:-9]} --config {in_file} --resume --no_overwrite",
        ),
    ):
        assert cli.main(CarvingConfig, carve, None, "jobs.tool", argv=words) == status
        assert capsys.readouterr().err == f"stopped by {name}; step 7 is saved. To go on:\n  {command}\n"
        # What it names can be called.
        assert cli.parse(CarvingConfig, shlex.split(command)[3:], "jobs.tool").settings.resume


def test_a_mistake_in_the_code_is_written_to_the_folder_of_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(cuts: str, folder: Path) -> None:
        with pytest.raises((ValueError, RemoteError)):
            run_main("--save_dir", str(folder), "--cuts", cuts)

    for folder in (tmp_path / "missing", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        fail("8", folder)
        # Jobs that want a new or an empty folder can be tried again.
        assert not folder.exists() or not list(folder.iterdir())
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").touch()
    capsys.readouterr()
    fail("8", tmp_path / "run")
    assert f"written to {tmp_path / 'run/error.log'}" in capsys.readouterr().err
    fail("6", tmp_path / "run")
    log = (tmp_path / "run/error.log").read_text()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} python -m jobs.tool --save_dir", log)
    assert "in run\n" in log and "ValueError: a fault of ours" in log
    assert "TypeError: in another process" in log and "RemoteError: cut 6 failed" in log
    assert run_main("--save_dir", str(tmp_path / "run"), "--cuts", "9") == 2
    assert (tmp_path / "run/error.log").read_text() == log


PROGRAM = """
import sys
from tests.jobs.command_line.test_cli import run_main
sys.exit(run_main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("words", [["--help"], ["--save_dir", "out", "--dry_run"]])
def test_a_reader_that_closes_the_pipe_is_no_error(words: list[str]) -> None:
    """As `python -m jobs.grpo --help | head` does."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistake_in_the_code_has_its_own_exit_status() -> None:
    for cuts, status, where in (("8", 1, "Traceback"), ("9", 2, "error: --num_cuts 9"), ("4", 0, "")):
        words = [sys.executable, "-c", PROGRAM, "--save_dir", "out", "--cuts", cuts]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == status and done.stderr.startswith(where)


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("python -m jobs.tool [options]\n\nCuts.\n\n    python -m jobs.tool\n\nGeneral\n")
    assert "\nWhat the tool works on\n  --save_dir VALUE\n      Where pieces go. [path; required]\n" in text
    assert "\nHow the tool cuts\n" in text
    assert "  --num_cuts, --cuts VALUE\n      Cuts of one piece. [integer >= 2; default: 4]\n" in text
    assert "  --sharp\n      Whether the blade was sharpened. [true or false; default: true]\n" in text
    assert "[one of steel, stone; default: steel]" in text
    assert "--texts VALUE ...\n      Words engraved. [texts, or none; default: none]" in text
    assert "--sizes_m VALUE ...\n      Sizes in metres. [one or more numbers > -9; default: 1.0]" in text


def test_pages_name_functions_that_exist() -> None:
    named = [
        place
        for page in (ROOT / "jobs").glob("*.py")
        for place in re.findall(r'cli\.later\("(.+?)"\)', page.read_text())
    ]
    assert len(named) > 10
    for place in named:
        module, _, name = place.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), place
