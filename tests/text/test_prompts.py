"""The prompt of one picture: the setting, or the text file beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tileup.errors import InputError
from tileup.settings.values import Settings
from tileup.text.prompts import LONGEST, prompt_of

ASKED = Settings(prompt=" a house ", prompt_file=True)


def test_the_setting_counts_without_a_file(tmp_path: Path) -> None:
    assert prompt_of(tmp_path / "a.png", ASKED) == "a house"
    assert prompt_of(None, ASKED) == "a house"


def test_a_file_counts_only_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    assert prompt_of(tmp_path / "a.png", ASKED) == "a cat"
    assert prompt_of(tmp_path / "a.png", Settings(prompt="a house")) == "a house"
    assert prompt_of(tmp_path / "b.png", ASKED) == "a house"


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        ("a.b.png", "a.b.txt"),
        ("plain", "plain.txt"),
        ("Grün 1.JPG", "Grün 1.txt"),
        (".png", ".png.txt"),
    ],
)
def test_only_the_last_extension_is_replaced(tmp_path: Path, picture: str, text: str) -> None:
    (tmp_path / text).write_text("a cat", encoding="utf-8")
    assert prompt_of(tmp_path / picture, ASKED) == "a cat"


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        (b"", ""),
        (b" \r\n\t ", ""),
        (b"\xef\xbb\xbfa cat", "a cat"),
        (b"\xef\xbb\xbf", ""),
        (b"\xef\xbb\xbf" + b"x" * LONGEST, "x" * LONGEST),
        ("Katze, grün 😀\n".encode(), "Katze, grün 😀"),
        (b"a (cat:1.2) [dog]\r\nb", "a (cat:1.2) [dog]\nb"),
        (b"x" * LONGEST + b"y" * 100_000, "x" * LONGEST),
        (("😀" * (LONGEST + 1)).encode(), "😀" * LONGEST),
    ],
)
def test_odd_files(tmp_path: Path, content: bytes, prompt: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert prompt_of(tmp_path / "a.png", ASKED) == prompt


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\0\0",
        b"a\0b",
        "a cat".encode("utf-16"),
        b"gr\xfcn",
        b"\xef",
        b"\xef\xbb",
        b"\xef\xbb\xbf\xef",
        b"a cat\xef\xbb",
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.txt is no .*text"):
        prompt_of(tmp_path / "a.png", ASKED)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(InputError, match="no file"):
        prompt_of(tmp_path / "a.png", ASKED)
    os.mkfifo(tmp_path / "b.txt")  # would wait for ever where it was opened
    with pytest.raises(InputError, match="no file"):
        prompt_of(tmp_path / "b.png", ASKED)
    (tmp_path / "c.txt").symlink_to(tmp_path / "gone")
    assert prompt_of(tmp_path / "c.png", ASKED) == "a house"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@example(content=b"\xef")  # the beginning of a mark, once read as an empty prompt
@given(content=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode()))
def test_any_content_is_a_prompt_or_an_input_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        with pytest.raises(InputError):
            prompt_of(tmp_path / "a.png", ASKED)
    else:
        newlines = text.replace("\r\n", "\n").replace("\r", "\n")
        assert prompt_of(tmp_path / "a.png", ASKED) == newlines.strip()
