"""Tokenizers that files of text encoders carry, against joining written down anew."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import regex

from tests.text.test_families import RECIPES
from tests.text.test_llm import USE
from tileup.errors import ModelError
from tileup.text.carried_tokenizers import carried_tokenizer
from tileup.text.encoder import load_text
from tileup.text.llm_tokens import LlmTokenizer, tokenizer_of
from tileup.text.t5_tokens import load_t5_tokenizer

MISTRAL = replace(USE, model="mistral", title="Mistral")
TEXTS = (
    "a photo of the cat",
    "two  blanks\n\nand lines ",
    " the theatre, then: naïve café 猫",
    "<s>marks [INST]the cat[/INST]",
    "",
)
MARKS = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
    *("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<pad>"),
)
JOINED = (
    b"th",
    b"the",
    b" t",
    b" the",
    b"ca",
    b"at",
    b"cat",
    b" c",
    b" cat",
    b"\n\n",
    b"\xc3\xa9",
    b"of",
)
"""In the order in which they are joined."""
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = 10
"""Numbers that are kept for marks."""


def tekken() -> bytes:
    """A small tekken.json, with tokens beyond those that count, as Mistral's has them."""
    tokens = [*(bytes([byte]) for byte in range(256)), *JOINED]
    beyond = [b"zzzz"]
    return json.dumps(
        {
            "config": {
                "pattern": PATTERN,
                "default_vocab_size": SPECIAL + len(tokens),
                "default_num_special_tokens": SPECIAL,
                "version": "v7",
            },
            "vocab": [
                {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
                for rank, token in enumerate(tokens + beyond)
            ],
            "special_tokens": [
                {"rank": rank, "token_str": mark, "is_control": True}
                for rank, mark in enumerate(MARKS)
            ],
        }
    ).encode()


def divided(text: str, marks: Iterable[str]) -> list[str]:
    """A text cut around marks, which stay whole."""
    return [each for each in regex.split(f"({'|'.join(map(regex.escape, marks))})", text) if each]


def in_bytes(text: str) -> list[int]:
    """Of neighbours those are joined whose bytes together come first, until none are known."""
    rank = {bytes([byte]): byte for byte in range(256)}
    rank |= {token: 256 + number for number, token in enumerate(JOINED)}
    ids: list[int] = []
    for part in divided(text, MARKS):
        if part in MARKS:
            ids.append(MARKS.index(part))
            continue
        for word in regex.findall(PATTERN, part):
            parts = [bytes([byte]) for byte in word.encode()]
            while known := [a + b for a, b in itertools.pairwise(parts) if a + b in rank]:
                best = min(known, key=rank.__getitem__)
                at = [a + b for a, b in itertools.pairwise(parts)].index(best)
                parts[at : at + 2] = [best]
            ids += [SPECIAL + rank[each] for each in parts]
    return ids


@pytest.mark.parametrize("text", TEXTS)
def test_mistrals_joins_bytes_in_order(text: str) -> None:
    tokenizer = tokenizer_of(MISTRAL, tekken())
    assert tokenizer.ids(text) == in_bytes(text)
    assert len(tokenizer.ids(text)) < max(1, len(text.encode()))
    assert [tokenizer.id(mark) for mark in MARKS] == [*range(len(MARKS))]


Pieces = Sequence[tuple[str, float, int]]
"""Texts, scores and kinds."""
LETTERS = "abcdefghijklmnopqrstuvwxyz,.:▁\n"
GEMMAS: Pieces = (
    *(("<pad>", 0.0, 3), ("<bos>", 0.0, 3), ("<unk>", 0.0, 2), ("▁▁", 0.0, 4), ("\n\n", 0.0, 4)),
    *((f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)),
    *(
        (text, -float(number), 1)
        for number, text in enumerate(("th", "the", "▁t", "at", "▁the", "cat", "▁c", "▁cat", "he"))
    ),
    *((letter, -100.0 - number, 1) for number, letter in enumerate(LETTERS)),
)


def message(*fields: tuple[int, int | float | bytes]) -> bytes:
    """A message of protobuf: numbers, float32, or bytes."""
    made = b""
    for field, value in fields:
        if isinstance(value, float):
            made += bytes([field << 3 | 5]) + struct.pack("<f", value)
            continue
        kind, number = (0, value) if isinstance(value, int) else (2, len(value))
        made += varint(field << 3 | kind) + varint(number)
        made += value if isinstance(value, bytes) else b""
    return made


def varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + varint(number >> 7)


def spiece(pieces: Pieces, kind: int = 2, blank_before: int = 0, one_blank: int = 0) -> bytes:
    """A small model of SentencePiece."""
    each = [(1, message((1, text.encode()), (2, score), (3, own))) for text, score, own in pieces]
    normal = message((1, b"identity"), (3, blank_before), (4, one_blank))
    return message(*each, (2, message((3, kind), (35, 1))), (3, normal))


def in_pieces(text: str) -> list[int]:
    """Of neighbours those are joined whose piece has the highest score; letters that are no piece
    are their bytes; marks and user's pieces stay whole."""
    number = {each[0]: index for index, each in enumerate(GEMMAS)}
    score = {text: value for text, value, kind in GEMMAS if kind == 1}
    whole = [text for text, _, kind in GEMMAS if kind in (3, 4)]
    ids: list[int] = []
    text = text.replace(" ", "▁")
    for part in divided(text, whole):
        if part in whole:
            ids.append(number[part])
            continue
        parts = [*part]
        while known := [a + b for a, b in itertools.pairwise(parts) if a + b in score]:
            best = max(known, key=score.__getitem__)
            at = [a + b for a, b in itertools.pairwise(parts)].index(best)
            parts[at : at + 2] = [best]
        for each in parts:
            of_bytes = [number[f"<0x{byte:02X}>"] for byte in each.encode()]
            ids += [number[each]] if each in number else of_bytes
    return ids


@pytest.mark.parametrize("text", TEXTS)
def test_gemmas_joins_the_pair_with_the_highest_score(text: str) -> None:
    tokenizer = tokenizer_of(replace(USE, model="gemma2"), spiece(GEMMAS))
    assert tokenizer.ids(text) == in_pieces(text)
    assert tokenizer.id("<bos>") == 1
    assert not text or tokenizer.ids(f"<bos>{text}")[0] == 1


def test_t5s_own_file_may_carry_its_tokenizer() -> None:
    content = (Path(__file__).parent / "data" / "spiece.model").read_bytes()
    path = Path(__file__).parent / "data" / "spiece.model"
    for text in TEXTS:
        assert load_t5_tokenizer(content).ids(text) == load_t5_tokenizer(path).ids(text)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Small ones in the place of those that come with tileup, as tokens of one text by part."""
    file = tmp_path / "t5.gz"
    pieces = (Path(__file__).parent / "data" / "spiece.model").read_bytes()
    file.write_bytes(gzip.compress(pieces))
    monkeypatch.setattr("tileup.text.t5_tokens.SHIPPED", file)
    small = carried_tokenizer(spiece(GEMMAS), "a test")
    monkeypatch.setattr("tileup.text.llm_tokens.qwen_tokenizer", lambda thinking: small)
    return {"t5": load_t5_tokenizer(pieces).ids(TEXTS[0]), "llm": LlmTokenizer(small).ids(TEXTS[0])}


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00\x01"])
@pytest.mark.parametrize("in_folder", [False, True])
@pytest.mark.parametrize(("family", "part"), [("flux-dev", "t5"), ("z-image", "llm")])
def test_one_that_cannot_be_read_gives_way_to_the_shipped_one(
    family: str,
    part: str,
    in_folder: bool,
    content: bytes,
    shipped: dict[str, object],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """Of a file or a folder that the model came with; what the user named is refused."""
    recipe = RECIPES[family]
    parts = dict.fromkeys(recipe.parts, dict)
    (tmp_path / "tokenizer.json").write_bytes(content)
    given = tmp_path if in_folder else content
    found = load_text(recipe, parts, tokenizer=given, asked=False)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "the one that comes with tileup takes its place" in record.message
    rows = found._rows
    tokenizer = rows._t5_tokenizer if part == "t5" else rows._llm_tokenizer
    assert tokenizer.ids(TEXTS[0]) == shipped[part]
    with pytest.raises(ModelError, match="tokenizer"):
        load_text(recipe, parts, tokenizer=given)


def test_where_none_is_shipped_one_that_cannot_be_read_is_refused() -> None:
    recipe = RECIPES["lumina2"]
    assert recipe.tokenized
    with pytest.raises(ModelError, match="carries no tokenizer"):
        load_text(recipe, dict.fromkeys(recipe.parts, dict), tokenizer=b"", asked=False)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"{}", b'{"config": 1}', b"[]", b"\x00\x01"),
        *(spiece(GEMMAS, kind=1), spiece(GEMMAS, 2, 1), spiece(GEMMAS, 2, 0, 1)),
    ],
)
def test_what_is_no_tokenizer_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="of Mistral carries no tokenizer that tileup reads; give"):
        tokenizer_of(MISTRAL, content)


def test_they_are_tokenizers_like_others() -> None:
    assert isinstance(tokenizer_of(MISTRAL, tekken()), LlmTokenizer)
    with pytest.raises(ModelError, match="has no <nothing>"):
        tokenizer_of(MISTRAL, tekken()).id("<nothing>")
