"""Pictures on their way: overlap, no state from one to the next, memory, and going without."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.doubles import DoubleModel, blurring_denoiser, gaussian_denoiser, photograph
from tileup.contracts import Box
from tileup.engine import making
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.outcomes import Finished, Outcome
from tileup.engine.values import Request
from tileup.errors import InputError, OutOfMemoryError
from tileup.settings import Settings

SETTINGS = Settings(tile=32, min_tile=16, overlap=8, steps=3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with `a.png` and a larger `b.jpg`."""
    monkeypatch.chdir(tmp_path)
    for name, seed, height in (("a.png", 0, 24), ("b.jpg", 1, 60)):
        pixels = (photograph(height, 40, seed=seed) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def made(
    *inputs: str, model: object = None, settings: Settings = SETTINGS, **options: object
) -> list[Outcome]:
    chosen = model or DoubleModel(blurring_denoiser)
    jobs = find_jobs(Request(inputs, output="out/"), settings)
    return list(run(jobs, settings, lambda: chosen, **options))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("overlap", [True, False])
def test_no_state_of_one_picture_reaches_the_next(folder: Path, overlap: bool) -> None:
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())
    assert [each.outcome for each in made("a.png", "b.jpg", "c.png", overlap=overlap)] == [
        "done"
    ] * 3
    assert (folder / "out/a_2x.png").read_bytes() == (folder / "out/c_2x.png").read_bytes()
    alone = folder / "out/a_2x.png"
    before = alone.read_bytes()
    alone.unlink()
    made("a.png")
    assert alone.read_bytes() == before


def test_reading_and_writing_go_on_while_a_picture_is_drawn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawing the second picture waits until the first is written and the third is read."""
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())
    read, written = threading.Event(), threading.Event()
    inner_read, inner_write = making.read, making.write

    def reading(job: object, *rest: object) -> object:
        result = inner_read(job, *rest)  # type: ignore[arg-type]
        if job.input.name == "c.png":  # type: ignore[attr-defined]
            read.set()
        return result

    def writing(given: object, *rest: object) -> object:
        result = inner_write(given, *rest)  # type: ignore[arg-type]
        written.set()
        return result

    calls: list[bool] = []

    def waiting(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        if begun and begun[-1] == "b.jpg":
            calls.append(read.wait(20) and written.wait(20))
        return gaussian_denoiser(x, sigma)

    begun: list[str] = []

    def told(event: object) -> None:
        job = getattr(event, "job", None)
        if job is not None:
            begun.append(job.input.name)

    monkeypatch.setattr(making, "read", reading)
    monkeypatch.setattr(making, "write", writing)
    made("a.png", "b.jpg", "c.png", model=DoubleModel(waiting), on_event=told)
    assert calls
    assert all(calls)


def test_every_outcome_is_told_once_and_in_order(folder: Path) -> None:
    (folder / "bad.png").write_text("no picture")
    told: list[Outcome] = []

    def hear(event: object) -> None:
        if isinstance(event, Finished):
            assert threading.current_thread() is threading.main_thread()
            told.append(event.outcome)

    outcomes = made("bad.png", "a.png", "b.jpg", "absent.png", on_event=hear)
    assert told == outcomes
    assert [each.outcome for each in told] == ["failed", "done", "done", "failed"]


def test_fail_fast(folder: Path) -> None:
    (folder / "bad.png").write_text("no picture")
    outcomes = made("a.png", "bad.png", "b.jpg", fail_fast=True)
    assert [each.outcome for each in outcomes] == ["done", "failed"]
    assert not list((folder / "out").glob(".*.lock"))


@dataclass
class Tight:
    """A network that runs out of memory when it is shown too much at once."""

    cells: int
    """Cells of all windows of a batch that it bears."""

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        if sum(box.area for box in windows) > self.cells:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gaussian_denoiser(x, sigma)


def test_less_memory_means_smaller_batches_then_smaller_windows(folder: Path) -> None:
    wide = replace(SETTINGS, window=128, scale=4)
    tight, smaller = DoubleModel(Tight(64 * 64)), DoubleModel(Tight(32 * 32))
    for model, word in ((tight, "one by one"), (smaller, "windows of 64 pixels")):
        outcome = made("b.jpg", model=model, settings=wide)[0]
        assert outcome.outcome == "done"
        assert any(word in warning for warning in outcome.warnings)
        (folder / "out/b_4x.jpg").unlink()
    outcome = made("b.jpg", model=DoubleModel(Tight(10)), settings=wide)[0]
    assert isinstance(outcome.error, OutOfMemoryError)
    assert "on every try" in str(outcome.error)


def test_failures_hold_on_to_no_pixels(folder: Path) -> None:
    (folder / "bad.png").write_text("no picture")
    error = made("bad.png")[0].error
    assert isinstance(error, InputError)
    while error is not None:
        assert error.__traceback__ is None
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


MEMORY = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from tests.doubles import DoubleModel, gaussian_denoiser
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.values import Request
from tileup.settings import Settings
settings = Settings(tile=64, min_tile=32, overlap=8, steps=2, min_denoise=0)
jobs = find_jobs(Request(("many",), output="out"), settings)
for number, outcome in enumerate(run(jobs, settings, lambda: DoubleModel(gaussian_denoiser)), 1):
    if number % 50 == 0:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
"""


@pytest.mark.slow
def test_memory_does_not_grow_over_two_hundred_pictures(folder: Path) -> None:
    (folder / "many").mkdir()
    for number in range(200):
        pixels = (photograph(150, 200, seed=number) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "many" / f"{number}.jpg")
        if number % 10 == 0:
            (folder / "many" / f"{number}-bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
        text=True,
    )
    marks = [int(line) for line in done.stdout.split()]
    assert len(marks) == 4
    # One enlarged picture is 1.4 MB in float32; fifty that were kept would be 70 MB.
    assert marks[-1] - marks[0] < 30, f"MB after each 50 pictures: {marks}"
