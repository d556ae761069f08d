"""The evaluator's words: classes, lemmas by rules, tagged captions, and files that are read without running code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from rewards.evaluator.words import CLASSES, Vocabulary, read_tagged_captions
from tests.toys.small_evaluator import WORDS, write_vocabulary


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    write_vocabulary(tmp_path / "glove")
    return Vocabulary.load(tmp_path / "glove")


def test_a_word_has_its_vector_and_the_class_of_its_list_before_its_tag(vocabulary: Vocabulary) -> None:
    tokens = ["person/NOUN", "walk/NOUN", "hand/VERB", "person/CCONJ", "zebra/NOUN", "slowly/ADV", "chair/X"]
    words, classes = vocabulary.vectors(tokens)
    names = [CLASSES[row.argmax()] for row in classes]
    assert names == ["NOUN", "Act_VIP", "Body_VIP", "OTHER", "OTHER", "Desc_VIP", "Obj_VIP"]
    assert (classes.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(words[0], vocabulary.rows[WORDS.index("person")])
    np.testing.assert_array_equal(words[4], vocabulary.rows[WORDS.index("unk")])


def test_texts_without_tags_are_read_by_rules(vocabulary: Vocabulary) -> None:
    tokens = vocabulary.tokens_of("A person slowly walks for-ward, sitting on 2 chairs; kicked and jumps.")
    assert tokens[:5] == ["a/DET", "person/NOUN", "slowly/NOUN", "walk/VERB", "forward/NOUN"]
    assert [token.split("/")[0] for token in tokens[5:]] == ["sit", "on", "chair", "kick", "and", "jump"]
    sentence = vocabulary.sentence(["walk/VERB"] * 30)
    assert len(sentence) == 22 and (sentence[0], sentence[-1]) == ("sos/OTHER", "eos/OTHER")


def test_tagged_captions_are_those_of_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "000001.txt").write_text(
        "a man walks.#a/DET man/NOUN walk/VERB#0.0#0.0\n\nhe sits#he/PRON sit/VERB#1#2\n"
    )
    assert read_tagged_captions(tmp_path) == {
        "a man walks.": ["a/DET", "man/NOUN", "walk/VERB"],
        "he sits": ["he/PRON", "sit/VERB"],
    }
    (tmp_path / "000002.txt").write_text("no tokens here\n")
    with pytest.raises(ValueError, match=r"000002\.txt, line 1: 'no tokens here' is not caption#word/TAG"):
        read_tagged_captions(tmp_path)
    with pytest.raises(ValueError, match=r"evaluator_texts_path .*no captions"):
        read_tagged_captions(tmp_path / "absent")


class Runs:
    """What an unsafe reader would execute."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("made_by_a_pickle",)


def test_files_that_are_wrong_are_named_and_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "glove"
    with pytest.raises(ValueError, match=r"glove_path .*no our_vab_data\.npy, our_vab_words\.pkl, our_vab_idx\.pkl"):
        Vocabulary.load(folder)
    write_vocabulary(folder)
    index = folder / "our_vab_idx.pkl"
    good = index.read_bytes()
    index.write_bytes(pickle.dumps({"sos": Runs()}))
    with pytest.raises(ValueError, match=r"our_vab_idx\.pkl is refused: it names .*mkdir"):
        Vocabulary.load(folder)
    assert not (tmp_path / "made_by_a_pickle").exists()
    for content, message in (
        (pickle.dumps({"sos": 0}), "do not belong together"),
        (pickle.dumps({word: 99 for word in WORDS}), "row is not in the matrix"),
        (pickle.dumps([1]), "expected a matrix of vectors, a list of words and their rows"),
        (good[:20], "is (broken|refused)"),
        (b"<html>", r"our_vab_idx\.pkl is a web page"),
    ):
        index.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            Vocabulary.load(folder)
