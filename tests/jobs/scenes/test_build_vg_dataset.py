"""`jobs.build_vg_dataset` on miniature graphs in Visual Genome's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import build_vg_dataset
from jobs.command_line import main as cli
from jobs.scenes.settings import VisualGenomeConfig
from motions.base.errors import UserError
from motions.scenes.visual_genome import example_of, stream_records

EMPTY = '{"image_id": 1, "objects": [], "relationships": []}'
BOX = {"synsets": [], "x": 1, "y": 2, "w": 3, "h": 4}
GRAPHS: list[dict[str, Any]] = [
    {
        "image_id": 1,
        "objects": [
            {"object_id": 10, "names": ["Man"], **BOX},
            {"object_id": 11, "names": ["ball"], "attributes": ["round", "Red"], **BOX},
            {"object_id": 12, "names": ["table"], **BOX},
            {"object_id": 13, "names": [" "], **BOX},
            {"object_id": 14, "names": ["umbrella"], **BOX},
        ],
        "relationships": [
            {"relationship_id": 1, "predicate": "HAS", "synsets": [], "subject_id": 10, "object_id": 11},
            {"relationship_id": 2, "predicate": "next  to", "synsets": [], "subject_id": 11, "object_id": 12},
            {"relationship_id": 3, "predicate": "on", "synsets": [], "subject_id": 13, "object_id": 12},
        ],
    },
    {"image_id": 2, "objects": [{"object_id": 20, "names": ["dog"], **BOX}], "relationships": []},
    {"image_id": 3, "objects": [], "relationships": []},
]


def build(folder: Path, *more: object) -> int:
    argv = ["--vg-dir", str(folder), "--output", str(folder / "out"), *map(str, more)]
    return cli.main(
        VisualGenomeConfig, build_vg_dataset.run, None, "jobs.build_vg_dataset", build_vg_dataset.plan, argv=argv
    )


def lines(folder: Path) -> dict[str, dict[str, Any]]:
    """Targets by input, of all splits."""
    found = {}
    for name in ("train", "val", "test"):
        for line in (folder / "out" / f"{name}.jsonl").read_text().splitlines():
            record = json.loads(line)
            found[record["input"]] = json.loads(record["target"])
    return found


def test_targets_hold_what_the_text_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scene_graphs.json").write_text(json.dumps(GRAPHS))
    attributes = [{"image_id": 2, "attributes": [{"object_id": 20, "names": ["dog"], "attributes": ["black", "big"]}]}]
    (tmp_path / "attributes.json").write_text(json.dumps(attributes))
    assert build(tmp_path, "--dry_run") == 0 and not (tmp_path / "out").exists()
    assert build(tmp_path) == 0
    found = lines(tmp_path)
    text = "extract scene: A man has a red ball. A red ball is next to a table. There is an umbrella."
    assert found.keys() == {text, "extract scene: There is a black dog."}
    assert found[text]["relations"] == [
        {"subject": "man", "predicate": "has", "object": "red ball"},
        {"subject": "red ball", "predicate": "next to", "object": "table"},
    ]
    types = {one["name"]: one["type"] for one in found[text]["entities"]}
    assert types == {"man": "person", "red ball": "object", "table": "object", "umbrella": "object"}
    assert build(tmp_path) == 2 and "train.jsonl exists" in capsys.readouterr().err
    assert build(tmp_path, "--overwrite", "--max-samples", 1) == 0 and lines(tmp_path).keys() == {text}


def test_at_most_six_relations_are_told_and_no_object_besides() -> None:
    objects = [{"object_id": k, "names": [f"thing{k}"], **BOX} for k in range(12)]
    relations = [{"predicate": "on", "subject_id": k, "object_id": k + 1} for k in range(11)]
    example = example_of({"objects": objects, "relationships": relations})
    assert example is not None and len(example.relations) == 6 and len(example.entities) == 7
    assert all(name in example.text for name, _ in example.entities) and "There is" not in example.text


def test_files_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scene_graphs.json"
    path.write_text(json.dumps(GRAPHS, indent=3))
    assert list(stream_records(path)) == GRAPHS
    big = [{"image_id": k, "text": "x" * 1000} for k in range(3000)]
    path.write_text(json.dumps(big))
    assert path.stat().st_size > 2_000_000 and list(stream_records(path)) == big
    path.write_text("[]")
    assert list(stream_records(path)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "is no JSON list"),
        (f"[{EMPTY}, 3]", "record 1: 3 is no object"),
        (f"[{EMPTY}", "a comma or ] is missing after record 0"),
        (f'[{EMPTY}, {{"ima', "record 1: "),
        ('[{"image_id": 1}]', "record 0: KeyError('objects'): not as in scene_graphs.json"),
        (f"[{EMPTY}]", "names no object"),
    ],
)
def test_broken_files_are_named(content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scene_graphs.json").write_text(content)
    assert build(tmp_path) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_without_graphs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(tmp_path) == 2 and "has no scene_graphs.json" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot read"):
        next(stream_records(tmp_path / "nowhere.json"))
    (tmp_path / "latin.json").write_bytes(b'[{"a": "\xe9"}]')
    with pytest.raises(UserError, match=r"latin\.json is no text in UTF-8"):
        next(stream_records(tmp_path / "latin.json"))


def test_few_texts_are_divided_too_and_empty_splits_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = [
        {"image_id": k, "objects": [{"object_id": k, "names": [name], **BOX}], "relationships": []}
        for k, name in enumerate(("dog", "cat", "bird", "horse"))
    ]
    (tmp_path / "scene_graphs.json").write_text(json.dumps(graphs))
    assert build(tmp_path) == 0
    sizes = [len((tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()) for name in ("train", "val", "test")]
    assert sizes == [2, 1, 1] and "too few" not in capsys.readouterr().out
    assert build(tmp_path, "--overwrite", "--max-samples", 2) == 0
    assert "val.jsonl: 0 examples: too few texts to divide" in capsys.readouterr().out
