"""Known objects: the list that ships, finding one, and sizes and masses of a scene's entities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from motions.base.errors import UserError
from motions.scenes.objects import ObjectIndex, load_objects
from motions.scenes.scene import Entity, Scene
from rollouts.text.encoders import load_text_encoder


def letters(texts: Sequence[str]) -> np.ndarray:
    return np.array([[1e-6 + text.count(chr(97 + k)) for k in range(26)] for text in texts])


def test_the_list_that_ships_has_sensible_sizes_and_masses() -> None:
    objects = load_objects()
    assert len(objects) >= 40
    for one in objects:
        size = one.typical_dimensions_m
        assert 0.005 <= min(size.width, size.depth, size.height) <= max(size.width, size.depth, size.height) <= 6.0
        density = one.typical_mass_kg / (size.width * size.depth * size.height)
        assert 0.5 < density < 25_000, one.canonical_name
        assert one.parts and one.mesh_prompt and one.material
    person = next(one for one in objects if one.canonical_name == "person")
    assert person.typical_mass_kg == 45.0, "that of the simulated humanoid"


def test_a_noun_finds_its_object_by_name_or_by_what_it_means() -> None:
    index = ObjectIndex(load_objects(), load_text_encoder("minilm").encode_pooled)
    nouns = {"sofa": "sofa", "couch": "sofa", "park_bench": "bench", "soccer ball": "ball", "boxes": "box"}
    nouns |= {"limousine": "car", "snowboard": "skateboard", "quark": None}
    found = {noun: index.find(noun) for noun in nouns}
    assert {noun: one and one.canonical_name for noun, one in found.items()} == nouns


def test_without_an_encoder_only_names_are_found() -> None:
    index = ObjectIndex(load_objects())
    assert index.find("limousine") is None and index.find("taxi") is not None
    with pytest.raises(ValueError, match="no encoder"):
        index.ranked("taxi", 1)
    with pytest.raises(ValueError, match="neither embeddings nor an encoder"):
        _ = index.embeddings
    by_letters = ObjectIndex(load_objects(), letters)
    assert by_letters.embeddings.shape == (len(by_letters.names), 26)
    np.testing.assert_allclose(np.linalg.norm(by_letters.embeddings, axis=1), 1.0)


def test_sizes_and_masses_of_a_scene() -> None:
    scene = Scene(
        entities=(
            Entity(name="ball", colour="red"),
            Entity(name="ball_2", scale=2.0),
            Entity(name="thing", size_m=(1.0, 1.0, 0.5)),
            Entity(name="table", size_m=(1.4, 0.8, 0.37), material="glass"),
            Entity(name="table_2", mass_kg=3.0),
            Entity(name="acrobat", type="person"),
        )
    )
    bodies = ObjectIndex(load_objects()).bodies(scene)
    assert bodies["ball"].size_m == (0.22, 0.22, 0.22) and bodies["ball"].mass_kg == pytest.approx(0.43)
    assert bodies["ball_2"].size_m == (0.44, 0.44, 0.44) and bodies["ball_2"].mass_kg == pytest.approx(8 * 0.43)
    assert bodies["thing"].mass_kg == pytest.approx(150.0) and bodies["thing"].source == "given"
    assert (bodies["table"].mass_kg, bodies["table"].material) == (pytest.approx(12.5), "glass")
    assert (bodies["table_2"].mass_kg, bodies["table_2"].category) == (3.0, "table")
    assert bodies["acrobat"].mass_kg == 45.0
    with pytest.raises(UserError, match=r"entities\[0\].size_m: 'gizmo' has no size, and no known object is like it"):
        ObjectIndex(load_objects()).bodies(Scene(entities=(Entity(name="gizmo"),)))


def test_mistakes_in_a_list_are_named(tmp_path: Path) -> None:
    record = json.loads(load_objects()[0].model_dump_json())
    path = tmp_path / "objects.json"

    def message(content: object) -> str:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        load_objects.cache_clear()
        with pytest.raises(UserError) as caught:
            load_objects(path)
        return str(caught.value)

    assert "is not JSON" in message("[")
    assert "holds no objects" in message([])
    assert "[1].typical_mass_kg: input should be greater than 0" in message([record, record | {"typical_mass_kg": 0}])
    assert "[0].typical_dimensions_m.depth: field required" in message(
        [record | {"typical_dimensions_m": {"width": 1, "height": 1}}]
    )
    assert "[0].colour: extra inputs" in message([record | {"colour": "red"}])
    assert "is a name of 'person' and of 'person'" in message([record, record])
    with pytest.raises(UserError, match="cannot read"):
        load_objects(tmp_path / "nowhere.json")
