"""A T5 (Raffel et al. 2020) that writes a text's scene as JSON.

Either one of the published ones (`google/flan-t5-small`, by name or as a local folder), or a small one with its own
tokenizer that is made here (`new_parser`). T5's vocabulary has no braces: `{` and `}` are written as its sentinels
`<extra_id_0>` and `<extra_id_1>` and put back where a line is decoded, for which special tokens must not be skipped.

The tokenizer that is made here cuts a line into words and runs of punctuation, so that a word has the same token in a
text as inside JSON, and what is copied is copied token by token; rare words are cut into pieces.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn

from motions.base.errors import UserError
from motions.scenes.examples.targets import PREFIX
from rollouts.devices import seeded
from rollouts.text.library import transformers
from rollouts.text.models import quiet_transformers

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
BRACES = {"{": "<extra_id_0>", "}": "<extra_id_1>"}
_TOKEN = r"\w+|[^\w\s]+"
_PIECE = "##"
CONFIG = "parser.json"
"""Beside the files of transformers: which form the lines have."""
MOST_TOKENS = 512
"""Of a written line."""


class SceneParser:
    """A T5 and its tokenizer.

    Attributes:
        model: the network, a `transformers.T5ForConditionalGeneration` on its device.
        tokenizer: a `transformers.PreTrainedTokenizerFast`.
        words_apart: whether the tokenizer is one that is made here.
    """

    def __init__(self, model: Any, tokenizer: Any, *, words_apart: bool) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.words_apart = words_apart

    def to(self, device: torch.device) -> SceneParser:
        """The same parser, with its network on a device."""
        nn.Module.to(self.model, device)
        return self

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Token ids of texts or of target lines, each with the end token."""
        if self.words_apart:
            encoded = self.tokenizer(list(lines), add_special_tokens=False)["input_ids"]
            return [[*ids, self.tokenizer.eos_token_id] for ids in encoded]
        return self.tokenizer([_with_sentinels(line) for line in lines])["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        """The line of some tokens, up to the end token."""
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        own = list(ids)
        own = [one for one in own[: own.index(end) if end in own else None] if one != pad]
        if self.words_apart:
            return _joined(self.tokenizer.convert_ids_to_tokens(own))
        line = self.tokenizer.decode(own, skip_special_tokens=False)
        for brace, sentinel in BRACES.items():
            line = line.replace(sentinel, brace)
        return line

    @torch.inference_mode()
    def write(self, texts: Sequence[str], *, num_beams: int = 1, max_tokens: int = MOST_TOKENS) -> list[str]:
        """The lines that the network writes for texts, without the task's prefix."""
        ids, mask = padded(self.encode([PREFIX + text for text in texts]), self.tokenizer.pad_token_id)
        device = self.model.device
        was_training = self.model.training
        self.model.eval()
        written = self.model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            num_beams=num_beams,
            do_sample=False,
            max_new_tokens=max_tokens,
            early_stopping=num_beams > 1,
        )
        self.model.train(was_training)
        return [self.decode(one[1:].tolist()) for one in written]

    def save(self, folder: Path) -> None:
        """Writes weights (safetensors), configuration and tokenizer."""
        with quiet_transformers():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / CONFIG).write_text(json.dumps({"words_apart": self.words_apart}) + "\n")


def padded(ids: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids [B, L] int64 and their mask [B, L] int64, 1 at tokens."""
    length = max(map(len, ids))
    rows = torch.tensor([[*one, *[pad] * (length - len(one))] for one in ids])
    return rows, torch.tensor([[1] * len(one) + [0] * (length - len(one)) for one in ids])


def new_tokenizer(lines: Iterable[str], vocabulary: int) -> Any:
    """A `PreTrainedTokenizerFast` of the most frequent words and runs of punctuation; others are cut into characters.

    The vocabulary is counted here: the trainers of the tokenizers library break ties differently each time.
    """
    counts = Counter(piece for line in lines for piece in re.findall(_TOKEN, line))
    characters = [*map(chr, range(33, 127))]
    words = [PAD, END, UNKNOWN, *characters, *(_PIECE + one for one in characters)]
    frequent = sorted(set(counts).difference(words), key=lambda word: (-counts[word], word))
    words += frequent[: max(0, vocabulary - len(words))]
    ids = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN, continuing_subword_prefix=_PIECE))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), "removed", invert=True)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN
    )


def new_parser(lines: Iterable[str], *, vocabulary: int, width: int, layers: int, heads: int, seed: int) -> SceneParser:
    """A small T5 with random weights, a function of the seed, and a tokenizer of some lines."""
    tokenizer = new_tokenizer(lines, vocabulary)
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=width // heads,
        d_ff=4 * width,
        num_layers=layers,
        num_heads=heads,
        dropout_rate=0.0,
        feed_forward_proj="relu",
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    with seeded(torch.device("cpu"), seed):
        model = transformers.T5ForConditionalGeneration(config)
    return SceneParser(model, tokenizer, words_apart=True)


def load_parser(place: str | Path) -> SceneParser:
    """The parser of a folder, or a published T5 by its name on the hub.

    Raises:
        UserError: there is no T5, or the hub cannot be reached.
    """
    path = Path(place)
    try:
        with quiet_transformers():
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(place))
            model = transformers.T5ForConditionalGeneration.from_pretrained(str(place), use_safetensors=True)
        words_apart = (path / CONFIG).is_file() and json.loads((path / CONFIG).read_text())["words_apart"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{place} is no T5 that can be loaded: {reason}. Give the folder of one, or the name of one on the hub "
            "where it can be reached"
        ) from error
    return SceneParser(model, tokenizer, words_apart=bool(words_apart))


def _with_sentinels(line: str) -> str:
    for brace, sentinel in BRACES.items():
        line = line.replace(brace, sentinel)
    return line


def _joined(tokens: Sequence[str]) -> str:
    """The line of words and runs of punctuation: a space stands between two words, and between a comma and a word."""
    line, before = "", ""
    for token in tokens:
        if token.startswith(_PIECE):
            line += token.removeprefix(_PIECE)
            continue
        if re.match(r"\w", token) and (before == "," or re.match(r"\w", before)):
            line += " "
        line += token
        before = token
    return line
