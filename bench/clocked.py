"""One run of the command line whose parts are clocked; `bench.scale` starts it.

    python bench/clocked.py RESULT.json ARGUMENTS OF tileup…

It runs whatever tileup Python finds, so that two of them can be compared. CPU seconds of the whole
process, of its networks, of sampling and of encoding, and the most memory it held, go to a file.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Clocks:
    """CPU seconds of the parts, by name, each of the thread that it runs in: what is read ahead or
    written meanwhile is none of a network's. `bench.scale` gives a network one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.running: set[tuple[int, str]] = set()

    def wrap(self, part: str, owner: object, name: str) -> None:
        """Clock a function of a module or class from now on, where there is one of this name."""
        inner: Callable[..., Any] | None = getattr(owner, name, None)
        if inner is None:
            return

        @functools.wraps(inner)
        def clocked(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401
            now = threading.get_ident(), part
            if now in self.running:  # by what it calls it is clocked once
                return inner(*arguments, **more)
            self.running.add(now)
            start = time.thread_time()
            try:
                return inner(*arguments, **more)
            finally:
                spent = time.thread_time() - start
                self.seconds[part] = self.seconds.get(part, 0.0) + spent
                self.running.discard(now)

        setattr(owner, name, clocked)


def main(result: Path, arguments: list[str]) -> int:
    clocks = Clocks()
    families = importlib.import_module("tileup.families.bundled")
    networks = importlib.import_module("tileup.families.residual_unet")
    clocks.wrap("network", networks.ResidualUNet, "forward")
    clocks.wrap("network", families, "toned")
    if hasattr(networks, "Remembering"):
        clocks.wrap("network", networks.Remembering, "__call__")
    for name, kind in (("in_ncnn", "InNcnn"), ("in_int8", "InInt8")):
        if importlib.util.find_spec(f"tileup.families.{name}") is not None:
            other = getattr(importlib.import_module(f"tileup.families.{name}"), kind)
            clocks.wrap("network", other, "__call__")
    story = importlib.import_module("tileup.upscaling")
    for name in ("sample_canvas", "drawn_by_rows", "draw_by_rows"):
        clocks.wrap("sampling", story, name)
    # Row by row this is done amid the steps; as a whole, before and after them.
    if importlib.util.find_spec("tileup.canvas") is not None:
        canvas = importlib.import_module("tileup.canvas")
        for name in ("decoded", "put_back"):
            clocks.wrap("pixels", canvas, name)
        clocks.wrap("pixels", importlib.import_module("tileup.enlarge.lanczos").Gradual, "rows")
        # So does what makes latents of pixels, and what keeps rows that are finished.
        codec = importlib.import_module("tileup.codec.space_to_depth").PixelCodec
        for name in ("encode", "put_cells"):
            clocks.wrap("pixels", codec, name)
        clocks.wrap("pixels", canvas.RowsInMemory, "add")
        kept = importlib.import_module("tileup.images.kept")
        for name in ("Kept", "HeldRows"):
            clocks.wrap("pixels", getattr(kept, name, None), "add")
    writing = importlib.import_module("tileup.images.writing")
    clocks.wrap("encoding", writing, "_encoded")
    clocks.wrap(
        "encoding", writing, "write_whole"
    )  # a large picture is encoded while it is written
    code: int = importlib.import_module("tileup.cli.main").main(arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {**clocks.seconds, "all": used.ru_utime + used.ru_stime, "memory": 1024 * used.ru_maxrss}
    result.write_text(json.dumps(told), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
