"""Checkpoints by URL: copied once, checked, and fetched anew when they have changed."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.storage.conftest import Gate, Web
from tileup.checkpoints.find import find_model
from tileup.errors import ModelError
from tileup.storage import copies
from tileup.storage.copies import given_file, local_copy
from tileup.storage.remote import Remote, put_whole
from tileup.storage.stores import store_of


@pytest.fixture(autouse=True)
def another_process(folder: Path) -> Generator[None]:
    """Nothing is remembered of what other processes have asked."""
    forget()
    yield
    forget()


def forget() -> None:
    copies._copy.cache_clear()


def test_a_checkpoint_is_fetched_once(bucket: Remote, gate: Gate) -> None:
    source = bucket / "m.safetensors"
    put_whole(source, b"one")
    first = find_model(source.url)
    assert (first.name, first.read_bytes()) == ("m.safetensors", b"one")
    gate.asked.clear()
    assert find_model(source.url) == first
    assert gate.asked == []
    forget()
    assert find_model(source.url) == first
    assert gate.count("GET") == 0
    put_whole(source, b"two")
    forget()
    second = find_model(source.url)
    assert second.read_bytes() == b"two"
    assert not first.exists(), "the cache holds no old ones"


def test_a_folder_and_an_index_come_with_their_files(bucket: Remote) -> None:
    files = {"unet/config.json": b"{}", "unet/a.safetensors": b"a", "model_index.json": b"{}"}
    for name, data in files.items():
        put_whole(bucket / "sd" / name, data)
    copy = local_copy((bucket / "sd").url)
    assert {name: (copy / name).read_bytes() for name in files} == files
    put_whole(bucket / "photos" / "a.png", b"a")
    with pytest.raises(ModelError, match="photos cannot be read: a folder without a checkpoint"):
        find_model((bucket / "photos").url)
    index = {"weight_map": {"x": "m-1.safetensors", "y": "../m-2.safetensors"}}
    put_whole(bucket / "m.safetensors.index.json", json.dumps(index).encode())
    put_whole(bucket / "m-1.safetensors", b"1")
    copy = local_copy((bucket / "m.safetensors.index.json").url)
    assert [each.name for each in sorted(copy.parent.iterdir())] == [
        "m-1.safetensors",
        "m.safetensors.index.json",
    ]


def test_what_comes_broken_is_no_checkpoint(
    bucket: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = bucket / "m.safetensors"
    put_whole(source, b"one")
    store = store_of(source.url)
    right, told = store.md5(source.url), ["0" * 32]
    assert right == "f97c5d29941bfb1b2fdab0874906ab82"
    monkeypatch.setattr(type(store), "md5", lambda *_: told[0])
    with pytest.raises(ModelError, match=f"{source} cannot be read: what came has another hash"):
        find_model(source.url)
    assert [each for each in Path("cache").rglob("*") if each.is_file()] == []
    told[0] = right
    assert find_model(source.url).read_bytes() == b"one"


def test_without_its_store_the_last_copy_is_taken(
    bucket: Remote, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    source = bucket / "m.safetensors"
    put_whole(source, b"one")
    copy = find_model(source.url)
    forget()
    gate.fail(7, "HEAD")
    assert find_model(source.url) == copy
    assert "503 Service Unavailable, on each of 7 tries" in caplog.text
    assert f"going on with the copy of {copy}" in caplog.text
    forget()
    source.unlink()
    with pytest.raises(ModelError, match=f"{source} cannot be read: not there"):
        find_model(source.url)


def test_which_copy_came_last_is_not_told_by_times(bucket: Remote, gate: Gate) -> None:
    source = bucket / "m.safetensors"
    put_whole(source, b"one")
    copy = find_model(source.url)
    other = copy.parent.with_name("0123456789abcdef") / copy.name
    other.parent.mkdir()
    other.write_bytes(b"zero")  # which another process reads
    os.utime(copy, (1, 1))
    forget()
    gate.fail(7, "HEAD")
    assert find_model(source.url) == copy


def test_a_checkpoint_of_the_web(web: Web, folder: Path) -> None:
    (folder / "m.safetensors").write_bytes(b"one")
    web.answers["/resolve/m.safetensors"] = (302, {"Location": "/m.safetensors"})
    url = f"{web.url}/resolve/m.safetensors?token=5ec12e7"
    copy = given_file(url)
    assert copy.read_bytes() == b"one"
    assert copy.name == "m.safetensors"
    web.asked.clear()
    forget()
    assert given_file(url) == copy
    assert [each.partition(" ")[0] for each in web.asked] == ["HEAD", "HEAD"], "and its redirect"
    with pytest.raises(ModelError, match=f"^{web.url}/gone cannot be read: not there$"):
        given_file(f"{web.url}/gone?token=5ec12e7")
