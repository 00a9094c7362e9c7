"""A server that speaks S3, and one that serves files, both on this machine."""

from __future__ import annotations

import functools
import logging
import threading
import uuid
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.doubles import photograph
from tileup.storage import patience
from tileup.storage.remote import Remote, place, put_whole

BUCKET = "pictures"
SECRET = "wJalrXUtnFEMIK7MDENG"


@dataclass
class Gate:
    """Passes requests on to the server, but for those that shall fail, and remembers them."""

    app: Callable[..., Iterable[bytes]]
    asked: list[str] = field(default_factory=list)
    """Method and path of each request."""
    faults: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, part of a path and status of requests that fail, each once."""
    lost: list[tuple[str, str]] = field(default_factory=list)
    """Method and part of a path of requests that are done, and whose answer is an error."""

    def __call__(
        self, environ: dict[str, str], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append(f"{method} {path}")
        for fault in self.faults:
            if fault[0] == method and fault[1] in path:
                self.faults.remove(fault)
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # type: ignore[attr-defined]
                return _failed(fault[2], start_response)
        for loss in self.lost:
            if loss[0] == method and loss[1] in path:
                self.lost.remove(loss)
                b"".join(self.app(environ, lambda *_: lambda _: None))
                return _failed(500, start_response)
        return self.app(environ, start_response)

    def fail(self, times: int, method: str, path: str = "", status: int = 503) -> None:
        """Have the next requests of a kind fail."""
        self.faults += times * [(method, path, status)]

    def count(self, method: str, path: str = "") -> int:
        """How many requests of a kind came."""
        return sum(each.startswith(f"{method} ") and path in each for each in self.asked)


def _failed(status: int, start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response(f"{status} No", [("Content-Length", "0")])
    return [b""]


@pytest.fixture(scope="session")
def server() -> Generator[Gate]:
    """A server that speaks S3, with an empty bucket, and the environment that leads to it."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    gate = Gate(DomainDispatcherApplication(create_backend_app))
    served = make_server("127.0.0.1", 0, gate, threaded=True)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{served.port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        from tileup.storage.stores import store_of

        store_of(f"s3://{BUCKET}")._files.call_s3("create_bucket", Bucket=BUCKET)  # type: ignore[attr-defined]
        yield gate
    served.shutdown()


@pytest.fixture
def gate(server: Gate, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The server that speaks S3; who asks it again does so at once."""
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.001)
    server.faults.clear()
    server.lost.clear()
    server.asked.clear()
    return server


@pytest.fixture
def bucket(gate: Gate) -> Remote:
    """An empty folder in a store."""
    found = place(f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}")
    assert isinstance(found, Remote)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with three pictures in `in/`, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number, name in enumerate(("a", "b", "deep/c")):
        path = tmp_path / "in" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (photograph(16, 24, seed=number) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path


def upload(folder: Path, target: Remote) -> None:
    """Put the files of a folder into a store."""
    for file in folder.rglob("*"):
        if file.is_file():
            put_whole(target / file.relative_to(folder).as_posix(), file.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, also of one in a store, by their names in it; no hidden ones."""
    from tileup.storage.remote import files_below

    files = files_below(folder, deep=True) if isinstance(folder, Remote) else folder.rglob("*")
    named = ((each.relative_to(folder).as_posix(), each) for each in files)
    shown = [(name, each) for name, each in named if not f"/{name}".count("/.")]
    return {name: each.read_bytes() for name, each in sorted(shown) if each.is_file()}


class Served:
    """A server on this machine, in a thread of its own."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Web(Served):
    """A web server with the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}
        """Status and headers by path, in place of a file."""
        self.cut: list[str] = []
        """Paths of files of which half is sent before the connection ends, each once."""
        web = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(super().do_GET)

            def do_HEAD(self) -> None:
                self._answer(super().do_HEAD)

            def _answer(self, otherwise: Callable[[], None]) -> None:
                web.asked.append(f"{self.command} {self.path}")
                path = self.path.partition("?")[0]
                if self.command == "GET" and path in web.cut:
                    web.cut.remove(path)
                    data = (folder / path[1:]).read_bytes()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data[: len(data) // 2])
                    return
                if path not in web.answers:
                    otherwise()
                    return
                status, headers = web.answers[path]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        handler = functools.partial(Handler, directory=str(folder))
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), handler))


@pytest.fixture
def web(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Web]:
    """A web server with the working folder."""
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.001)
    server = Web(folder)
    yield server
    server.close()
