"""CLIP's tokens: held against CLIP's own tokenizer, and against that of transformers."""

from __future__ import annotations

import gzip
import importlib.util
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.references import clip_tokenizer
from tileup.errors import MissingExtraError, ModelError
from tileup.text import vocabulary
from tileup.text.chunks import Group, chunks_of
from tileup.text.recipes import CLIP_G
from tileup.text.tokens import CHUNK, CLIP_END, CLIP_START, clip_ids, clip_row
from tileup.text.vocabulary import FILE, SIZE, merges_file, read_vocabulary


@cache
def original() -> Callable[[str], list[int]]:
    """CLIP's own tokenizer, from its module alone: the package does not import everywhere."""
    path = merges_file().with_name("simple_tokenizer.py")
    spec = importlib.util.spec_from_file_location("original_simple_tokenizer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer().encode


TEXTS = [
    "a photo of a cat",
    "A  Photo\tof\na CAT ",
    "it's they'll I'VE we'd 'm",
    "naïve café, Straße, Ελληνικά, русский, हिन्दी, 日本語, العربية",
    "😀👩‍👩‍👧🏽 emoji 🚀",
    "1234567890 3.14 v2",
    "supercalifragilisticexpialidocious" * 20,
    "(masterpiece:1.2), [[dull]], {a|b}, <lora:x:1>, \\(escaped\\)",
    "&lt;b&gt; &amp;amp; x",
    "schÃ¶n",  # what ftfy repairs
    "\ufb01lm \uff46\uff55\uff4c\uff4c \u2460 \u00b2",
    "!!!???...---",
    "",
    "   ",
]


def test_known_tokens() -> None:
    assert clip_ids("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert clip_row([320], 0) == (49406, 320, 49407, *[0] * 74)


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_clip_itself(text: str) -> None:
    assert clip_ids(text) == original()(text)


# What prompts hold that was pasted from elsewhere: curly quotes, text decoded wrongly, entities of
# HTML, blanks of many kinds, wide and joined letters, accents of their own, flags and emoji, bits
# of other programs' syntax.
ODD = [
    "don\u2019t \u201cquote\u201d \u2014 \u2026",
    "sch\u00c3\u00b6n \u00e2\u201a\u00ac5",
    "&nbsp;&lt;b&gt; &#128512; &amp;amp;lt;",
    "\u200bzero\u200dwidth \ufeffmark",
    "a\x00b \x85 \x1c \u2028 \u00a0 \u180e c",
    "cafe\u0301 e\u0301clair x\u0301\u0323",
    "\u0130stanbul \u00df \u1e9e \u0391\u03a3 \u017f \u212a",
    "\uff11\uff12\uff13 \u0663\u0664 \u00bd \u00b2\u00b3\u00b9 \u2460 \u337f",
    "\U0001d4d0\U0001d4d1 \U0001d7d9 \U00010400",
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \U0001f600\U0001f600",
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab \u0e44\u0e17\u0e22",
    "foo_bar a/b\\c #tag @me 1girl,solo,:d ^_^",
    "'S 'T DON'T ''s it`s",
    "<start_of_text> <|startoftext|>",
    "!" * 90,
]


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_are_cleaned_as_by_clip_itself(text: str) -> None:
    found = clip_ids(text)
    assert found == original()(text)
    assert found


@pytest.mark.parametrize("text", [*TEXTS[:8], "a <|endoftext|> b", "<|startoftext|>x"])
def test_tokens_are_those_of_transformers(text: str) -> None:
    reference = clip_tokenizer("<|endoftext|>")
    assert [CLIP_START, *clip_ids(text), CLIP_END] == reference(text).input_ids


def known(character: str) -> bool:
    """Unicode's tables in the libraries differ in age; categories of old characters do not."""
    return unicodedata.ucd_3_2_0.category(character) == unicodedata.category(character)


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs", "Cn", "Co")).filter(known),
        max_size=40,
    )
)
def test_any_text_has_the_tokens_of_clip_itself(text: str) -> None:
    assert clip_ids(text) == original()(text)


def test_halves_of_characters_are_no_error() -> None:
    assert clip_ids("cat \udcff dog") == clip_ids("cat ? dog")  # a byte of a command line


def test_the_vocabulary_is_that_of_clip_itself() -> None:
    tokens, merges = read_vocabulary(merges_file())
    tokenizer = original().__self__  # type: ignore[attr-defined]
    assert tokens == tokenizer.encoder
    assert {pair: rank for rank, pair in enumerate(merges)} == tokenizer.bpe_ranks
    assert len(tokens) == SIZE


@pytest.mark.parametrize(
    ("count", "rows"), [(0, 1), (1, 1), (74, 1), (75, 1), (76, 2), (150, 2), (151, 3)]
)
def test_chunks_hold_all_tokens_in_order(count: int, rows: int) -> None:
    ids = list(range(1000, 1000 + count))
    use = replace(CLIP_G, padding=7)
    chunks = [line.ids for line in chunks_of([Group(tuple(ids), 1.0)], use, "a1111")]
    assert len(chunks) == rows
    assert {len(row) for row in chunks} == {CHUNK + 2}
    assert all(row[0] == CLIP_START and row.count(CLIP_END) == 1 for row in chunks)
    ends = [row.index(CLIP_END) for row in chunks]
    assert [each for row, end in zip(chunks, ends, strict=True) for each in row[1:end]] == ids
    assert all(set(row[end + 1 :]) <= {7} for row, end in zip(chunks, ends, strict=True))


def test_a_missing_vocabulary_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> list[object]:
        raise PackageNotFoundError(name)

    for files in (none, lambda name: None, lambda name: []):
        monkeypatch.setattr(vocabulary, "files", files)
        with pytest.raises(MissingExtraError, match=r"pip install .*clip-anytorch"):
            merges_file()


def test_a_damaged_vocabulary_is_refused(tmp_path: Path) -> None:
    whole = merges_file().read_bytes()
    shorter = b"\n".join(gzip.decompress(whole).split(b"\n")[:1000])
    for content in (b"", b"<html>", whole[:5000], gzip.compress(shorter), gzip.compress(b"\xff")):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(ModelError, match="damaged"):
            read_vocabulary(tmp_path / FILE)


def test_neither_clip_nor_torch_is_imported() -> None:
    program = (
        "import sys; from tileup.text.tokens import clip_ids; import tileup.text.prompts;"
        "print(clip_ids('cat'), {'clip', 'torch', 'torchvision', 'diffusers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[2368] set()"
