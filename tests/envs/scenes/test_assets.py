"""What things are made of fills their boxes and weighs what it should."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import trimesh

from envs.scenes.assets import Asset, asset_glb, build_assets, mesh_piece, pieces_of
from motions.base.errors import UserError
from motions.scenes.layout import plan_layout
from motions.scenes.layout_file import LayoutFile, layout_file
from motions.scenes.objects import ObjectIndex, load_objects
from motions.scenes.rules import parse_text
from motions.scenes.scene import Scene


def planned(text: str) -> tuple[Scene, LayoutFile]:
    scene = parse_text(text)
    return scene, layout_file(plan_layout(scene, ObjectIndex(load_objects()).bodies(scene)), 0)


def test_every_known_object_fills_its_box_and_has_its_mass() -> None:
    for known in load_objects():
        usual = known.typical_dimensions_m
        size = (usual.width, usual.depth, usual.height)
        pieces = pieces_of(known.category, size)
        asset = Asset("x", pieces, (0.0, 0.0, 0.0), size, known.typical_mass_kg, 0.5, (1.0, 0.0, 0.0))
        assert all(min(piece.size) > 0 for piece in pieces), known.canonical_name
        bounds = np.array([piece.mesh.bounds for piece in pieces])
        low, high = bounds[:, 0].min(0), bounds[:, 1].max(0)
        assert (low >= -np.array(size) / 2 - 1e-6).all() and (high <= np.array(size) / 2 + 1e-6).all(), known
        assert low[2] == pytest.approx(-size[2] / 2), "it stands on the floor"
        assert sum(asset.masses) == pytest.approx(known.typical_mass_kg)
        assert all(piece.mesh.is_watertight for piece in pieces)
        assert (asset.balance[1] > 0).all()


def test_the_inertia_of_a_box_is_that_of_the_formula() -> None:
    scene, layout = planned("There is a box.")
    (asset,) = build_assets(scene, layout, frozenset())
    w, d, h = asset.size_m
    middle, inertia = asset.balance
    np.testing.assert_allclose(middle, 0.0, atol=1e-9)
    expected = asset.mass_kg / 12 * np.array([d * d + h * h, w * w + h * h, w * w + d * d])
    np.testing.assert_allclose(inertia, expected, rtol=1e-6)


def test_colours_frictions_holders_and_what_hangs() -> None:
    scene, layout = planned("A red ball is in a box. A lamp is above a table. A man walks. A cup is on the table.")
    assets = {asset.name: asset for asset in build_assets(scene, layout, frozenset({"man"}))}
    assert "man" not in assets and assets["ball"].colour == (1.0, 0.0, 0.0) and assets["ball"].rolls
    assert len(assets["box"].pieces) == 5, "what holds something is hollow"
    assert {name for name, asset in assets.items() if asset.fixed} == {"lamp"}
    loaded = trimesh.load(io.BytesIO(asset_glb(assets["table"])), file_type="glb", force="mesh")
    np.testing.assert_allclose(loaded.extents, np.array(assets["table"].size_m)[[0, 2, 1]], rtol=1e-4)
    with pytest.raises(UserError, match="no place for 'box'"):
        build_assets(scene, layout.model_copy(update={"places": {"ball": layout.places["ball"]}}), frozenset())


def test_a_mesh_of_ones_own_is_scaled_and_must_be_closed(tmp_path: Path) -> None:
    trimesh.creation.icosphere(subdivisions=2).export(tmp_path / "ball.obj")
    scene, layout = planned("There is a ball. There is a box.")
    assets = build_assets(scene, layout, frozenset(), tmp_path)
    assert [asset.pieces[0].shape for asset in assets] == ["mesh", "box"]
    points = assets[0].pieces[0].points
    assert points is not None and np.ptp(points, axis=0) == pytest.approx(assets[0].size_m)
    open_mesh = trimesh.creation.box()
    open_mesh.update_faces(np.arange(len(open_mesh.faces)) > 1)
    open_mesh.export(tmp_path / "open.stl")
    with pytest.raises(UserError, match=r"open\.stl is not watertight"):
        mesh_piece(tmp_path / "open.stl", (1.0, 1.0, 1.0))
    (tmp_path / "text.glb").write_text("no mesh")
    with pytest.raises(UserError, match=r"text\.glb is no mesh"):
        mesh_piece(tmp_path / "text.glb", (1.0, 1.0, 1.0))
