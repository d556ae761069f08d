"""`jobs.build_vg_kb_index` on a miniature of Visual Genome, and that the planner takes what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import build_vg_kb_index
from jobs.command_line import main as cli
from jobs.scenes.known_objects import object_index
from jobs.scenes.settings import ObjectIndexConfig
from motions.base.errors import UserError
from motions.scenes.objects import load_objects
from motions.scenes.scene import Entity, Scene


def build(folder: Path, *more: object, output: str = "out") -> int:
    argv = ["--vg-dir", str(folder), "--output", str(folder / output), *map(str, more)]
    return cli.main(
        ObjectIndexConfig, build_vg_kb_index.run, None, "jobs.build_vg_kb_index", build_vg_kb_index.plan, argv=argv
    )


def objects(*names: str) -> str:
    """A file of two images that name these objects."""
    boxes = [
        {"object_id": k, "names": [name], "synsets": [], "x": 1, "y": 2, "w": 3, "h": 4} for k, name in enumerate(names)
    ]
    return json.dumps([{"image_id": 1, "objects": boxes}, {"image_id": 2, "objects": boxes[:1]}])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("genome")
    (made / "objects.json").write_text(objects("Davenports", "limousine", "Table", "happiness", "chesterfield"))
    (made / "object_alias.txt").write_text("sofa,davenport,chesterfield\n\ncar,auto\n")
    assert build(made) == 0
    return made


def test_nouns_get_sizes_of_what_they_share_a_name_with_or_are_like(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {one.canonical_name: one for one in load_objects(folder / "out" / "objects.json")}
    sofa, car = found["sofa"], found["car"]
    assert len(found) == len(load_objects()) + 2 and "happiness" not in found
    assert found["davenport"].typical_dimensions_m == sofa.typical_dimensions_m, "an alias of a sofa"
    assert found["davenport"].aliases == ("chesterfield",), "a rarer name of the same thing"
    assert found["limousine"].typical_mass_kg == car.typical_mass_kg, "most like a car"
    assert build(folder) == 2 and "objects.json exists" in capsys.readouterr().err
    assert build(folder, "--overwrite", "--dry_run") == 0 and "davenport 2, limousine 1" in capsys.readouterr().out
    assert build(folder, "--max-objects", 1, output="one") == 0
    assert (
        "1 nouns: 0 were known, 1 are new, 0 are other names of these, 0 are like nothing known"
        in capsys.readouterr().out
    )


def test_the_planner_takes_what_is_found(folder: Path) -> None:
    scene = Scene(entities=(Entity(name="davenport"), Entity(name="stretch_limousine")))
    found, without = object_index(folder / "out").bodies(scene), object_index(None)
    assert found["davenport"].category == "sofa" and found["stretch_limousine"].source == "limousine"
    assert without.find("davenport") is None, "the list that ships does not know it"


def test_an_index_of_another_list_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("index.json", "index.safetensors"):
        (tmp_path / name).write_bytes((folder / "out" / name).read_bytes())
    records = json.loads((folder / "out" / "objects.json").read_text())
    (tmp_path / "objects.json").write_text(json.dumps(records[1:]))
    with pytest.raises(UserError, match=r"is of other entries: it holds .* make the index again"):
        object_index(tmp_path)
    more = tmp_path / "more.json"
    more.write_text(json.dumps([{**records[0], "canonical_name": "dragon", "aliases": ["wyvern"]}]))
    (tmp_path / "genome").mkdir()
    (tmp_path / "genome" / "objects.json").write_text(objects("wyvern", "fire dragon"))
    assert build(tmp_path / "genome", "--objects", more) == 0
    assert object_index(tmp_path / "genome" / "out").find("wyvern") is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no objects.json"),
        ('[{"image_id": 1}]', "record 0: KeyError('objects'): not as in objects.json"),
        (objects(" "), "names no object"),
    ],
)
def test_what_is_no_visual_genome(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "objects.json").write_text(content)
    assert build(tmp_path) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
