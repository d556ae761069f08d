"""A T5 that writes scenes: its tokens, its files, and T5s of the published kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from motions.base.errors import UserError
from motions.scenes.examples.targets import PREFIX
from rollouts.text.library import transformers
from rollouts.text.scene_parser import SceneParser, load_parser, new_parser, padded

pytestmark = pytest.mark.slow

LINES = (
    f"{PREFIX}A man walks to the table, then kicks the red ball.",
    '{"actions":[{"actor":"man","verb":"kick","seconds":3,"text":"a man walks, kicks"}],"entities":[]}',
)


def small(seed: int = 0) -> SceneParser:
    """A tiny parser."""
    return new_parser(LINES, vocabulary=400, width=16, layers=1, heads=2, seed=seed)


@pytest.mark.parametrize(
    "line", [LINES[1], '{"a":[{"b":"a zebra walks"},{"c":2}]}', '{"text":"the dog\'s ball"}', "{}"]
)
def test_lines_come_back_from_their_tokens(line: str) -> None:
    parser = small()
    [ids] = parser.encode([line])
    assert ids[-1] == parser.tokenizer.eos_token_id
    assert parser.decode([parser.tokenizer.pad_token_id, *ids, *ids]) == line


def test_a_word_has_the_same_token_in_a_text_and_in_json() -> None:
    parser = small()
    text, line = parser.encode(LINES)
    for word in ("man", "walks", "kicks"):
        [token] = parser.encode([word])[0][:-1]
        assert token in text and token in line


def test_padding_is_masked() -> None:
    ids, mask = padded([[5, 6, 7], [8]], 0)
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_weights_are_a_function_of_the_seed_and_files_give_the_same_lines(tmp_path: Path) -> None:
    parser, same, other = small(), small(), small(1)
    assert parser.tokenizer.get_vocab() == same.tokenizer.get_vocab()
    states = [one.model.state_dict() for one in (parser, same, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())
    parser.save(tmp_path)
    assert (tmp_path / "model.safetensors").is_file() and not list(tmp_path.glob("*.bin"))
    again = load_parser(tmp_path)
    texts = ["A man walks.", "the ball"]
    assert again.words_apart and again.encode(LINES) == parser.encode(LINES)
    assert again.write(texts, max_tokens=8) == parser.write(texts, max_tokens=8)


def published(folder: Path) -> None:
    """Files of a T5 of the published kind: a tokenizer without braces, with sentinels."""
    words = ["<pad>", "</s>", "<unk>", *(f"<extra_id_{n}>" for n in range(2)), *map(chr, range(33, 123)), "▁"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<extra_id_0>", "<extra_id_1>"],
    )
    fast.save_pretrained(folder)
    config = transformers.T5Config(vocab_size=len(words), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)


def test_braces_are_sentinels_for_a_tokenizer_without_them(tmp_path: Path) -> None:
    published(tmp_path)
    parser = load_parser(tmp_path)
    assert not parser.words_apart
    line = '{"a":[{"b":2}]}'
    [ids] = parser.encode([line])
    assert 2 not in ids, "a brace has become the unknown token"
    assert parser.decode(ids).replace(" ", "") == line


def test_what_is_no_t5_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no T5 that can be loaded"):
        load_parser(tmp_path)
    small().save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"<html>")
    with pytest.raises(UserError, match="is no T5 that can be loaded"):
        load_parser(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="is no T5 that can be loaded"):
        load_parser(tmp_path)
