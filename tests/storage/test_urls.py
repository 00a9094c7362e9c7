"""URLs as paths: what is told of them, and that paths follow from them as on a disk."""

from __future__ import annotations

import errno
import os
import pickle
import random
import time
from pathlib import Path

import aiohttp
import pytest
from botocore.exceptions import (
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tileup.errors import UsageError
from tileup.settings.values import Settings
from tileup.storage import patience
from tileup.storage.patience import StoreError, complaint, patiently
from tileup.storage.remote import Remote, place
from tileup.storage.urls import told_url, told_values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s3://b/a ?#1.png", "s3://b/a ?#1.png"),
        ("https://h/a.png?X-Amz-Signature=1/2#x", "https://h/a.png"),
        ("HTTPS://me:word@h:8443/a.png", "https://h:8443/a.png"),
        ("s3://key:word@b/a.png", "s3://b/a.png"),
        ("photos/a.png?b", "photos/a.png?b"),
        ("C:/a.png", "C:/a.png"),
    ],
)
def test_what_is_told_of_a_url(text: str, told: str) -> None:
    assert told_url(text) == told


def test_settings_are_told_without_signatures() -> None:
    told = told_values(Settings(model="https://h/m?s=1", lora=("https://h/l?s=1",)).changed())
    assert told == {"model": "https://h/m", "lora": ["https://h/l"]}


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1).filter(
    lambda name: name not in (".", "..")
)


@settings(max_examples=40)
@given(st.lists(NAMES, min_size=2, max_size=4), NAMES)
def test_paths_of_a_store_are_put_together_as_those_of_a_disk(parts: list[str], name: str) -> None:
    root, disk = place("s3://bucket"), Path("/bucket")
    there, here = root.joinpath(*parts), disk.joinpath(*parts)
    assert isinstance(there, Remote)
    assert str(there) == there.url == f"s3:/{here}"
    assert (there.name, there.stem, there.suffix) == (here.name, here.stem, here.suffix)
    assert str(there.parent / name) == f"s3:/{here.parent / name}"
    assert str(there.with_name(name)) == f"s3:/{here.with_name(name)}"
    assert there.relative_to(root).as_posix() == here.relative_to(disk).as_posix()
    assert there.is_relative_to(there.parent)
    assert not there.is_relative_to(here.parent)
    assert place(str(there)) == there == pickle.loads(pickle.dumps(there))


def test_a_signature_goes_to_workers_and_nowhere_else() -> None:
    path = place("https://h/in/a.png?sign=5/7")
    assert isinstance(path, Remote)
    assert pickle.loads(pickle.dumps(path)).url == "https://h/in/a.png?sign=5/7"
    assert (str(path), path.name) == ("https://h/in/a.png", "a.png")
    assert path != place("https://h/in/a.png?sign=5/8")
    assert "sign" not in repr(path)


def test_a_url_is_no_file_of_this_machine() -> None:
    """Whatever would take it for one is told so, and makes no file called `s3:`."""
    with pytest.raises(TypeError, match="s3://b/a is no file of this machine"):
        os.fspath(place("s3://b/a"))
    assert place("file:///tmp/a%20b.png") == Path("/tmp/a b.png")
    with pytest.raises(UsageError, match="sftp://h/a: of URLs, tileup takes"):
        place("sftp://me:word@h/a")


class AnswerError(Exception):
    """As libraries tell what a server has answered."""

    def __init__(self, status: int) -> None:
        super().__init__(f"https://h/a?sign=5: {status}")
        self.status = status


@pytest.mark.parametrize(
    ("status", "passing"),
    [
        *((each, False) for each in (400, 401, 403, 404, 412, 501)),
        *((each, True) for each in (408, 409, 429, 500, 502, 503, 504)),
    ],
)
def test_what_passes_and_what_does_not(status: int, passing: bool) -> None:
    found = complaint(AnswerError(status))
    assert found is not None
    assert found.passing is passing
    assert "sign" not in found.words
    with pytest.raises(FileNotFoundError) as caught:
        raise FileNotFoundError("https://h/a?sign=5") from AnswerError(status)
    assert complaint(caught.value) == found, "the first cause counts"


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectionResetError(104, "reset"), True),
        (TimeoutError(), True),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.ClientPayloadError("cut"), True),
        (EndpointConnectionError(endpoint_url="https://h?sign=5"), True),
        (ReadTimeoutError(endpoint_url="https://h?sign=5"), True),
        (NoCredentialsError(), False),
        (FileNotFoundError("https://h?sign=5"), False),
        (ParamValidationError(report="sign=5"), False),
    ],
)
def test_errors_of_libraries_without_an_answer(error: Exception, passing: bool) -> None:
    found = complaint(error)
    assert found is not None
    assert found.passing is passing
    assert "sign" not in found.words
    assert complaint(OSError(errno.ENOSPC, "no space")) is None, "of this machine's disk"


def test_it_is_tried_again_later_and_later_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)

    def fail() -> None:
        raise AnswerError(503)

    with pytest.raises(StoreError, match="503 Service Unavailable, on each of 7 tries") as caught:
        patiently(fail, "s3://b/a")
    assert waits == [0.5, 1, 2, 4, 8, 16]
    assert caught.value.filename == "s3://b/a"
    assert caught.value.__context__ is None, "which would hold the address"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    answers = [503, 500]

    def fail_twice() -> str:
        if answers:
            raise AnswerError(answers.pop())
        return "done"

    assert patiently(fail_twice, "s3://b/a") == "done"
    with pytest.raises(ZeroDivisionError):  # no store's fault, so it is not tried again
        patiently(lambda: 1 / 0, "s3://b/a")
    assert len(waits) == 8
    assert patience.TRIES == 7
