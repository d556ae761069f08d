"""Looking motions up by text: nearness, twins, abstaining, seeds, composites, and indices of other entries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from motions.base.errors import UserError
from motions.data.dataset import load_dataset
from motions.data.prompts import Prompt, Segment
from motions.data.text_motion import TextMotion
from motions.skeleton.skeletons import HUMANML3D
from rollouts.retrieval.index import Entry, TextIndex, choose_backend
from rollouts.retrieval.motions import MotionRetriever, caption_entries
from rollouts.retrieval.settings import LookupSettings
from rollouts.text.encoders import TextEncoder, load_text_encoder
from rollouts.text.words import vocabulary

WALK, KICK = "a person walks forward", "somebody kicks with the left leg"


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder("minilm")


@pytest.fixture(scope="module")
def items() -> list[TextMotion]:
    """A walk of 60 frames with two captions, a kick of 30 and its mirrored twin."""
    longest = max(load_dataset("builtin").items("train"), key=lambda item: item.num_frames).features
    return [
        TextMotion("walk-0", "walk", longest[:60], ("a person strolls", "a man walks slowly")),
        TextMotion("kick-0", "kick", longest[20:50], ("a person kicks with the right foot",)),
        TextMotion("Mkick-0", "kick", longest[30:60], ("a person kicks with the left foot",)),
    ]


def retriever(items: list[TextMotion], encoder: TextEncoder, **settings: object) -> MotionRetriever:
    return MotionRetriever(items, HUMANML3D, encoder, LookupSettings.model_validate(settings))


def one(text: str, frames: int) -> Prompt:
    return Prompt(text, (Segment(text, frames),))


def test_the_nearest_caption_is_found_and_a_twin_is_left_out(items: list[TextMotion], encoder: TextEncoder) -> None:
    found = retriever(items, encoder).matches(WALK)
    assert [match.item.clip_id for match in found][:1] == ["walk-0"] and len(found) == 2
    assert found[0].caption in items[0].captions and found[0].score > found[1].score
    kicks = retriever(items, encoder).matches(KICK)
    assert [match.item.clip_id for match in kicks] == ["Mkick-0", "walk-0"], "the twin whose caption is nearer"
    # The scores are cosines.
    text, caption = encoder.encode_pooled([WALK, found[0].caption]).astype(np.float64)
    cosine = text @ caption / np.linalg.norm(text) / np.linalg.norm(caption)
    assert found[0].score == pytest.approx(cosine, abs=1e-5)


def test_top_k_temperature_and_seed_decide_what_is_drawn(items: list[TextMotion], encoder: TextEncoder) -> None:
    prompts = [one(KICK, 50)]

    def lengths(seed: int = 0, **settings: object) -> list[int]:
        return retriever(items, encoder, **settings).generate(prompts, 12, seed)[0].lengths.tolist()

    assert lengths(temperature=0.0) == lengths(top_k=1) == [30] * 12, "the kick has 30 frames"
    mixed = lengths(temperature=5.0)
    assert set(mixed) == {30, 50}, "the walk is cut to the time asked for, the kick keeps its length"
    assert lengths(temperature=5.0) == mixed and lengths(seed=1, temperature=5.0) != mixed


def drawn() -> str:
    """What is drawn for one text from three clips, and the vocabulary of their captions."""
    items = list(load_dataset("builtin").items("train")[:3])
    found = retriever(items, load_text_encoder("minilm"), temperature=5.0, top_k=3).generate([one(WALK, 40)], 6, 3)[0]
    sums = [float(np.abs(features).sum()) for features in found.features]
    return f"{found.lengths.tolist()} {sums} {vocabulary([text for item in items for text in item.captions])}"


@pytest.mark.slow
def test_processes_draw_the_same() -> None:
    """Python's own hash of a text differs from process to process: no draw, and no vocabulary, may follow it."""
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    code = f"from {__name__} import drawn; print(hash({WALK!r})); print(drawn())"
    environment = {**os.environ, "PYTHONHASHSEED": other}
    child = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    hashed, said = child.stdout.splitlines()
    assert int(hashed) != hash(WALK) and said == drawn()


def test_it_abstains_where_nothing_is_near(items: list[TextMotion], encoder: TextEncoder) -> None:
    picky = retriever(items, encoder, min_score=0.6)
    assert picky.matches("a person strolls")
    with pytest.raises(UserError, match=r"no caption is near enough to 'the stock market falls': the nearest is 'a"):
        picky.generate([one("the stock market falls", 40)], 1, 0)


def test_a_composite_prompt_gets_a_motion_for_each_segment(items: list[TextMotion], encoder: TextEncoder) -> None:
    prompt = Prompt(f"{WALK}, then {KICK}", (Segment(WALK, 40), Segment(KICK, 30)))
    group = retriever(items, encoder, top_k=1).generate([prompt], 2, 0)[0]
    assert group.features.shape == (2, 70, 263) and group.lengths.tolist() == [70, 70]
    assert np.isfinite(group.features).all() and np.array_equal(*group.features)


def test_an_index_is_only_loaded_for_its_own_entries(
    items: list[TextMotion], encoder: TextEncoder, tmp_path: Path
) -> None:
    entries = caption_entries(items)
    assert [entry.text for entry in entries][:2] == list(items[0].captions), "every caption"
    index = TextIndex.build(entries, encoder)
    index.save(tmp_path)
    loaded = TextIndex.load(tmp_path, entries, encoder)
    assert np.array_equal(loaded.vectors, index.vectors) and loaded.fingerprint == index.fingerprint
    assert MotionRetriever(items, HUMANML3D, encoder, index=loaded).matches(WALK)
    with pytest.raises(UserError, match=r"index\.json is of other entries: it holds 4 texts of minilm, these are 3"):
        TextIndex.load(tmp_path, entries[:3], encoder)
    with pytest.raises(UserError, match="make the index again"):
        TextIndex.load(tmp_path, [*entries[:3], Entry("kick-0", "a person kicks")], encoder)
    with pytest.raises(ValueError, match="of other captions"):
        MotionRetriever(items[:1], HUMANML3D, encoder, index=index)
    (tmp_path / "index.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not the vectors of an index"):
        TextIndex.load(tmp_path, entries, encoder)
    (tmp_path / "index.json").write_text(json.dumps({"kind": "other"}))
    with pytest.raises(UserError, match="is no index of texts"):
        TextIndex.load(tmp_path, entries, encoder)
    with pytest.raises(UserError, match="no such file"):
        TextIndex.load(tmp_path / "nowhere", entries, encoder)
    with pytest.raises(ValueError, match="no entries to search"):
        TextIndex.build([], encoder)


def test_faiss_is_used_where_it_is_installed(
    items: list[TextMotion], encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = TextIndex.build(caption_entries(items), encoder)
    expected = index.search([WALK, KICK], 3, "numpy")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_backend("auto") == "numpy"
    with pytest.raises(UserError, match="search_backend is faiss, and that package is not installed"):
        index.search([WALK], 3, "faiss")

    class IndexFlatIP:
        def __init__(self, width: int) -> None:
            self.rows = np.zeros((0, width), np.float32)

        def add(self, rows: np.ndarray) -> None:
            self.rows = rows

        def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
            scores = queries @ self.rows.T
            order = np.argsort(-scores, axis=1)[:, :count]
            return np.take_along_axis(scores, order, axis=1), order

    stand_in = types.ModuleType("faiss")
    monkeypatch.setattr(stand_in, "IndexFlatIP", IndexFlatIP, raising=False)
    monkeypatch.setitem(sys.modules, "faiss", stand_in)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    found = index.search([WALK, KICK], 3)
    assert np.array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
