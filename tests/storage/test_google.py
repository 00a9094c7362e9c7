"""Google's store, as far as an emulator of it goes: what is asked of gcsfs does what is meant."""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Generator
from http.server import ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.storage.conftest import Served, contents, upload
from tests.storage.test_run_in_store import became, make
from tileup.engine.verify import verify
from tileup.errors import OutputError
from tileup.storage import patience, stores
from tileup.storage.remote import Remote, place, put_whole, takes_turns


class Emulator(Served):
    """Knows no conditions by itself, so those of uploads are kept here."""

    def __init__(self) -> None:
        from gcp_storage_emulator.handlers.buckets import create_bucket
        from gcp_storage_emulator.server import RequestHandler
        from gcp_storage_emulator.storage import Storage

        self.conditional = True
        there, turn, emulator = set[str](), threading.Lock(), self

        class Handler(RequestHandler):
            def do_POST(self) -> None:  # noqa: N802
                data = self.rfile.read(int(self.headers["Content-Length"]))
                self.rfile = BytesIO(data)
                found = re.search(rb'\{[^\r\n]*"name"[^\r\n]*\}', data)
                name = json.loads(found[0])["name"] if found else ""
                new = "ifGenerationMatch" in parse_qs(urlsplit(self.path).query)
                with turn:
                    if new and emulator.conditional and name in there:
                        self.send_response(412)
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    there.add(name)
                    super().do_POST()

            def do_DELETE(self) -> None:  # noqa: N802
                there.discard(self.path.rpartition("/")[2].replace("%2F", "/"))
                super().do_DELETE()

            def log_message(self, *_: object) -> None:
                pass

        storage = Storage(use_memory_fs=True)
        create_bucket("pictures", storage)

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A client that leaves before it has read an error is no error."""

        super().__init__(Server(("127.0.0.1", 0), functools.partial(Handler, storage)))


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Generator[Emulator]:
    found = Emulator()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", found.url)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks for kinds of buckets
    monkeypatch.setattr(stores, "_known", {})
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.001)
    yield found
    found.close()


def test_pictures_in_googles_store(folder: Path, emulator: Emulator) -> None:
    bucket = place("gs://pictures")
    assert isinstance(bucket, Remote)
    upload(folder / "in", bucket / "in")
    make("in", "out", recursive=True)
    for outcome in ("done", "skipped"):
        assert became(make(bucket / "in", bucket / "out", recursive=True)) == 3 * [outcome]
        assert contents(bucket / "out") == contents(folder / "out")
    assert [each.sound for each in verify(bucket / "out")] == 3 * [True]
    with pytest.raises(OSError, match="there already"):
        put_whole(bucket / "out" / "a_2x.png", b"", only_new=True)
    with pytest.raises(OutputError, match="cannot write to gs://nowhere: not there"):
        make("in", "gs://nowhere")


def test_without_conditional_writes_it_is_said(
    folder: Path, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.conditional = False
    assert became(make("in", "gs://pictures/out")) == 2 * ["done"]
    assert "gs://pictures/out: this store has no conditional writes" in caplog.text
    place = Remote("gs://pictures/out")
    assert not takes_turns(place)
