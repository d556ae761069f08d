"""Words as the evaluator of Guo et al. (2022) reads them: a vector of the vocabulary, and one of 15 classes.

A token is `word/TAG`. The public code takes lemmas and tags from spaCy, and those of HumanML3D's captions lie in its
`texts` folder. Texts that are not in that folder are read by the rules of `tokens_of`, which know the frequent words of
motion captions; a word that the vocabulary lacks is `unk`, as in the public code.

The vocabulary is a folder with `our_vab_data.npy` [words, 300], `our_vab_words.pkl` and `our_vab_idx.pkl`; the pickles
are read as plain data, without running code from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motions.base.errors import UserError
from motions.base.safe_files import read_npy, read_plain_pickle

MAX_WORDS = 20
"""Words of a text that are read; `sos` and `eos` stand around them."""

CLASSES = (
    *("VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV"),
    *("Loc_VIP", "Body_VIP", "Obj_VIP", "Act_VIP", "Desc_VIP", "OTHER"),
)
_IMPORTANT = {
    "Loc_VIP": "left right clockwise counterclockwise anticlockwise forward back backward up down straight curve",
    "Body_VIP": "arm chin foot feet face hand mouth leg waist eye knee shoulder thigh",
    "Obj_VIP": "stair dumbbell chair window floor car ball handrail baseball basketball",
    "Act_VIP": "walk run swing pick bring kick put squat throw hop dance jump turn stumble stop sit lift lower raise "
    "wash stand kneel stroll rub bend balance flap jog shuffle lean rotate spin spread climb",
    "Desc_VIP": "slowly carefully fast careful slow quickly happy angry sad happily angrily sadly",
}
_CLASS_OF = {word: name for name, words in reversed(_IMPORTANT.items()) for word in words.split()}
_TAG_OF = {
    word: tag
    for tag, words in {
        "DET": "a an the this that each every some another all both no",
        "ADP": "in on at to of with from into onto over under around across through by for near off out before after "
        "behind toward towards against along between above below while as",
        "PRON": "he she it they his her its their him them himself herself itself someone something one who which",
        "AUX": "is are was were be been being has have had do does did can could will would",
        "NUM": "two three four five six seven eight nine ten",
        "ADJ": "other big small large wide high low long short",
        "ADV": "then again twice once there here away together forwards backwards",
    }.items()
    for word in words.split()
}
_IRREGULAR = {
    **{"ran": "run", "sat": "sit", "stood": "stand", "threw": "throw", "swung": "swing", "spun": "spin"},
    **{"bent": "bend", "knelt": "kneel", "brought": "bring", "took": "take", "went": "go", "made": "make"},
}
_ENDINGS = (("ies", "y"), ("es", ""), ("s", ""), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"))


@dataclass(frozen=True)
class Vocabulary:
    """Word vectors.

    Example:
        vocabulary = Vocabulary.load("glove")
        words, classes = vocabulary.vectors(["a/DET", "person/NOUN", "walk/VERB"])
    """

    index: Mapping[str, int]
    """Row of each word; `sos`, `eos` and `unk` are words."""
    rows: np.ndarray
    """[words, W] float32."""

    @classmethod
    def load(cls, folder: str | Path, prefix: str = "our_vab") -> Vocabulary:
        """The vocabulary of a folder.

        Raises:
            UserError: a file is missing, of another kind, names code, or does not fit the others.
        """
        folder = Path(folder).expanduser()
        names = {kind: folder / f"{prefix}_{kind}" for kind in ("data.npy", "words.pkl", "idx.pkl")}
        if missing := [path.name for path in names.values() if not path.is_file()]:
            raise UserError(
                f"glove_path {folder}: no {', '.join(missing)}; it is the folder `glove` of the evaluator of Guo et al."
            )
        rows, words, index = (
            read_npy(names["data.npy"]),
            read_plain_pickle(names["words.pkl"]),
            read_plain_pickle(names["idx.pkl"]),
        )
        if not isinstance(words, list) or not isinstance(index, dict) or rows.ndim != 2:
            raise UserError(f"glove_path {folder}: expected a matrix of vectors, a list of words and their rows")
        lacking = {"sos", "eos", "unk"} - set(words)
        if lacking or not all(type(index.get(word)) is int for word in words):
            raise UserError(
                f"glove_path {folder}: {len(words)} words, {len(rows)} vectors and {len(index)} rows do not belong "
                "together, or sos, eos and unk are not among the words"
            )
        chosen = [index[word] for word in words]
        if not 0 <= min(chosen) <= max(chosen) < len(rows) or not np.isfinite(rows).all():
            raise UserError(f"glove_path {folder}: a word's row is not in the matrix, or a vector is not finite")
        return cls(dict(zip(words, chosen, strict=True)), np.asarray(rows, np.float32))

    @property
    def dim(self) -> int:
        """Width W of a vector."""
        return self.rows.shape[1]

    def vectors(self, tokens: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors [L, W] and one-hot classes [L, 15] float32 of tokens `word/TAG`.

        A word that is not in the vocabulary is `unk` of class OTHER, whatever its tag. A word of the public code's
        lists has the class of its list, another one its tag, where that is a class.
        """
        classes = np.zeros((len(tokens), len(CLASSES)), np.float32)
        places = []
        for row, token in zip(classes, tokens, strict=True):
            word, _, tag = token.rpartition("/")
            known = word in self.index
            places.append(self.index[word if known else "unk"])
            name = _CLASS_OF.get(word, tag if tag in CLASSES else "OTHER") if known else "OTHER"
            row[CLASSES.index(name)] = 1.0
        return self.rows[places], classes

    def sentence(self, tokens: Sequence[str]) -> list[str]:
        """The first 20 tokens between `sos` and `eos`."""
        return ["sos/OTHER", *tokens[:MAX_WORDS], "eos/OTHER"]

    def tokens_of(self, text: str) -> list[str]:
        """Lemmas and tags of a text by rules: lists of frequent words, and endings that lead to a word of the
        vocabulary. Hyphens are left out and so is what is no letter, as in the public code."""
        return [self._token(word) for word in re.findall(r"[a-z]+", text.lower().replace("-", ""))]

    def _token(self, word: str) -> str:
        if word in _TAG_OF:
            return f"{word}/{_TAG_OF[word]}"
        if word in _CLASS_OF:
            return f"{word}/{'VERB' if _CLASS_OF[word] == 'Act_VIP' else 'NOUN'}"
        lemma = self._lemma(word)
        if lemma != word:
            is_noun = _CLASS_OF.get(lemma) in ("Body_VIP", "Obj_VIP") or (word.endswith("s") and lemma not in _CLASS_OF)
            return f"{lemma}/{'NOUN' if is_noun else 'VERB'}"
        return f"{word}/{'ADV' if word.endswith('ly') else 'NOUN'}"

    def _lemma(self, word: str) -> str:
        found = [_IRREGULAR[word]] if word in _IRREGULAR else []
        for ending, instead in _ENDINGS:
            stem = word.removesuffix(ending)
            if stem != word and len(stem) > 1:
                found.append(stem + instead)
                if not instead and stem[-1] == stem[-2]:  # sitting, hopped
                    found.append(stem[:-1])
        known = [lemma for lemma in found if lemma in self.index]
        important = [lemma for lemma in known if lemma in _CLASS_OF]
        if important:
            return important[0]
        return word if word in self.index or not known else known[0]


def read_tagged_captions(folder: str | Path) -> dict[str, list[str]]:
    """Tokens of each caption in the `texts` folder of HumanML3D or KIT-ML, whose lines are
    `caption#word/TAG word/TAG#start#end`.

    Raises UserError where there are none, or a line has no tokens.
    """
    folder = Path(folder).expanduser()
    captions: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.txt")) if folder.is_dir() else ():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            parts = line.strip().split("#")
            if parts == [""]:
                continue
            if len(parts) < 2 or not all("/" in token for token in parts[1].split()):
                raise UserError(f"{path}, line {number}: {line!r:.80} is not caption#word/TAG ...#start#end")
            captions[parts[0].strip()] = parts[1].split()
    if not captions:
        raise UserError(f"evaluator_texts_path {folder}: no captions; it is the folder `texts` of the dataset")
    return captions
