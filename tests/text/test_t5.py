"""T5: its tokenizers, held against SentencePiece and transformers, and its encoder."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.checkpoints.layouts.text import t5
from tests.text import references
from tileup.errors import ModelError
from tileup.text.sentencepiece import read_sentencepieces
from tileup.text.t5 import T5, load_t5
from tileup.text.t5_tokens import SHIPPED, load_t5_tokenizer

DATA = Path(__file__).parent / "data"
PIECES = DATA / "spiece.model"
"""A unigram model trained by SentencePiece 0.2.3, and beside it what that makes of some texts."""


def test_spiece_model_gives_the_tokens_of_sentencepiece() -> None:
    tokenizer = load_t5_tokenizer(PIECES)
    known = json.loads((DATA / "spiece.json").read_text())
    assert len(known) == 8
    for each in known:
        assert tokenizer.ids(each["text"]) == each["ids"], each["text"]


def test_the_pieces_are_numbered_as_t5_numbers_them() -> None:
    pieces = read_sentencepieces(PIECES.read_bytes())
    assert pieces is not None
    assert [text for text, _ in pieces.scores[:3]] == ["<pad>", "</s>", "<unk>"]
    assert pieces.unknown == 2
    assert pieces.charsmap
    assert load_t5_tokenizer(PIECES).row([5, 6], 6) == (5, 6, 1, 0, 0, 0)


# Published with T5 by transformers: its documents of the model and its tests against the first
# release of Google's own code.
PUBLISHED = {
    "Das Haus ist wunderbar.": [644, 4598, 229, 19250, 5],
    "translate English to German: The house is wonderful.": [
        *(13959, 1566, 12, 2968, 10),
        *(37, 629, 19, 1627, 5),
    ],
    "Hello world!": [8774, 296, 55],
}


def test_t5s_own_tokenizer_is_shipped() -> None:
    tokenizer = load_t5_tokenizer()
    assert {text: tokenizer.ids(text) for text in PUBLISHED} == PUBLISHED
    assert tokenizer.row([8774], 4) == (8774, 1, 0, 0)
    content = gzip.decompress(SHIPPED.read_bytes())
    model = json.loads(content)["model"]
    assert len(model["vocab"]) == 32100
    assert [text for text, _ in model["vocab"][:3]] == ["<pad>", "</s>", "<unk>"]
    assert SHIPPED.stat().st_size < 700_000


def test_the_shipped_tokenizer_reads_as_transformers_does(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(gzip.decompress(SHIPPED.read_bytes()))
    theirs = references.t5_tokenizer(tmp_path / "tokenizer.json")
    ours = load_t5_tokenizer()
    texts = ["", " two  blanks\n", "Ünïcödé ﬁlm ½ 猫 🐈", "a (red:1.3) cat", "3.14, 1,000!"]
    for text in texts:
        assert [*ours.ids(text), 1] == theirs(text).input_ids, text


@pytest.fixture(scope="module")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return references.save_t5_tokenizer(tmp_path_factory.mktemp("t5") / "tokenizer.json")


@pytest.mark.parametrize(
    "text", ["", "a photo of a cat", " the  stone\n wall ", "Unseen 猫 (x:1.2)"]
)
def test_tokenizer_json_gives_the_tokens_of_transformers(tokenizer_json: Path, text: str) -> None:
    ours, theirs = load_t5_tokenizer(tokenizer_json), references.t5_tokenizer(tokenizer_json)
    wanted = theirs(text, padding="max_length", max_length=64, truncation=True).input_ids
    assert ours.row(ours.ids(text), 64) == tuple(wanted)
    assert wanted.count(1) == 1


def test_padding_in_the_file_is_put_aside(tokenizer_json: Path, tmp_path: Path) -> None:
    content = json.loads(tokenizer_json.read_text())
    content["truncation"] = {
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    content["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    plain, limited = load_t5_tokenizer(tokenizer_json), load_t5_tokenizer(tmp_path)
    for text in ("a", "a photo of the cat on an old stone wall"):
        assert limited.ids(text) == plain.ids(text)


@pytest.mark.parametrize("inner", ["", "tokenizer_2", "tokenizer_3"])
@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
def test_a_folder_is_searched(tokenizer_json: Path, tmp_path: Path, inner: str, name: str) -> None:
    source = tokenizer_json if name == "tokenizer.json" else PIECES
    (tmp_path / inner).mkdir(exist_ok=True)
    (tmp_path / inner / name).write_bytes(source.read_bytes())
    for path in (tmp_path, tmp_path / inner, tmp_path / inner / name):
        assert load_t5_tokenizer(path).ids("a cat") == load_t5_tokenizer(source).ids("a cat")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not found</html>",
        b"{",
        b"{}",
        b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
        b'{"model": {"type": "Unigram"}}',
        b'{"model": []}',
        b"[" * 100_000,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 791656\n",
        PIECES.read_bytes()[:500],
        bytes(range(256)),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(ModelError, match=r"is not T5's tokenizer; give tokenizer\.json"):
        load_t5_tokenizer(tmp_path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none is not there; give tokenizer\.json"):
        load_t5_tokenizer(tmp_path / "none")
    with pytest.raises(ModelError, match=r"neither tokenizer\.json nor spiece\.model"):
        load_t5_tokenizer(tmp_path)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 40))
def test_any_bytes_are_pieces_or_nothing(noise: bytes, start: int, length: int) -> None:
    read_sentencepieces(noise)
    whole = PIECES.read_bytes()
    pieces = read_sentencepieces(whole[:start] + noise[:length] + whole[start + length :])
    assert pieces is None or pieces.scores


WIDTH, LAYERS, HEADS = 64, 2, 2
ROWS = [[5, 6, 7, 1, 0, 0], [300, 9, 1, 0, 0, 0]]


def loaded(tensors: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> T5:
    return load_t5(tensors, what="T5", dtype=dtype, device="cpu")


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {each: tensors[each] for each in tensors if each != name}


def with_a_decoder(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"decoder.block.0.x": torch.ones(1), "logit_scale": torch.ones(())}


@pytest.mark.parametrize(
    "change",
    [
        dict,
        without("shared.weight"),
        without("encoder.embed_tokens.weight"),
        with_a_decoder,
    ],
)
def test_features_are_those_of_transformers(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> None:
    tensors = t5(WIDTH, LAYERS, heads=HEADS)
    with torch.no_grad():
        wanted = references.t5_model(tensors, LAYERS, HEADS)(torch.tensor(ROWS)).last_hidden_state
    features = loaded(change(tensors))(ROWS)
    assert features.shape == (2, 6, WIDTH)
    assert wanted.std() > 0.1
    assert (features - wanted).abs().max() < 1e-5


def test_heads_of_another_number_and_width_are_seen() -> None:
    tensors = t5(WIDTH, LAYERS, heads=6)  # six heads of 32 on 64 features, as XXL has 64 of 64
    with torch.no_grad():
        wanted = references.t5_model(tensors, LAYERS, 6)(torch.tensor(ROWS)).last_hidden_state
    assert (loaded(tensors)(ROWS) - wanted).abs().max() < 1e-5


def test_float16_keeps_what_would_overflow_in_float32() -> None:
    tensors = t5(WIDTH, LAYERS, heads=HEADS)
    for index in range(LAYERS):
        tensors[f"encoder.block.{index}.layer.1.DenseReluDense.wo.weight"] *= 1e5
    exact, rounded = loaded(tensors)(ROWS), loaded(tensors, torch.float16)(ROWS)
    assert rounded.dtype == torch.float16
    assert ((rounded - exact).norm() / exact.norm()) < 0.02


def test_float8_storage_is_read() -> None:
    tensors = {
        name: each.to(torch.float8_e4m3fn) for name, each in t5(WIDTH, LAYERS, heads=HEADS).items()
    }
    rounded = loaded(tensors)(ROWS)
    assert torch.equal(
        rounded, loaded({name: each.float() for name, each in tensors.items()})(ROWS)
    )
    exact = loaded(t5(WIDTH, LAYERS, heads=HEADS))(ROWS)
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.3


def test_a_tensor_of_the_right_precision_is_not_copied() -> None:
    tensors = t5(WIDTH, LAYERS, heads=HEADS)
    parameters = dict(loaded(tensors).tensors())
    assert parameters["shared.weight"].data_ptr() == tensors["shared.weight"].data_ptr()
    query = "encoder.block.0.layer.0.SelfAttention.q.weight"
    assert parameters[query].data_ptr() == tensors[query].data_ptr()


def test_a_factor_for_each_row_is_read() -> None:
    query = "encoder.block.0.layer.0.SelfAttention.q"
    plain = t5(WIDTH, LAYERS, heads=HEADS)
    rows = torch.linspace(0.5, 2, 64)[:, None]
    stored = plain | {
        f"{query}.weight": plain[f"{query}.weight"] / rows,
        f"{query}.weight_scale": rows,
    }
    assert (loaded(stored)(ROWS) - loaded(plain)(ROWS)).abs().max() < 1e-5


def test_factors_of_other_formats_are_named() -> None:
    name = "encoder.block.0.layer.0.SelfAttention.q.weight_scale"
    for factor in (torch.ones(4, 4), torch.ones(0), torch.ones(63)):
        with pytest.raises(ModelError, match=r"q\.weight has .* and its scale"):
            loaded(t5(WIDTH, LAYERS, heads=HEADS) | {name: factor})


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(ModelError, match="knows 384 tokens, but its tokenizer gave number 384"):
        loaded(t5(WIDTH, LAYERS, heads=HEADS))([[384, 1]])


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("shared.weight", torch.ones(3), r"shared.weight has shape \(3,\), not 2 axes"),
        (
            "encoder.block.0.layer.1.layer_norm.weight",
            torch.ones(9),
            r"has shape \(9,\) where \(64,\) is needed",
        ),
        ("encoder.block.1.layer.0.SelfAttention.k.weight", None, "lacks 1 of .*k.weight"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", None, "lacks the tensor .*q.weight"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", torch.ones(63, 64), "63 wide do not"),
        (
            "encoder.final_layer_norm.weight",
            torch.ones(64).int(),
            "stores encoder.final_layer_norm.weight as int32: quantised",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(name: str, tensor: Tensor | None, message: str) -> None:
    tensors = {each: value for each, value in t5().items() if each != "encoder.embed_tokens.weight"}
    loaded(tensors)
    changed = {each: value for each, value in tensors.items() if each != name}
    if tensor is not None:
        changed[name] = tensor
    with pytest.raises(ModelError, match=message):
        loaded(changed)


def test_tensors_that_belong_nowhere_are_named_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loaded({**t5(), "extra.weight": torch.ones(1)})
    assert len(caplog.messages) == 1
    assert "extra.weight" in caplog.text
