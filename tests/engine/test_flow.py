"""Pictures on their way: overlap, no state from one to the next, memory, and going without."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tests.doubles import Counting, DoubleModel, blurring_denoiser, gaussian_denoiser, photograph
from tileup import upscaling
from tileup.codec.space_to_depth import PixelCodec
from tileup.contracts import Box, Model, Scene
from tileup.engine import file_to_file as making
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.models import Load
from tileup.engine.outcomes import Begun, Finished, Outcome
from tileup.engine.request import Job, Request
from tileup.enlarge import enlargers
from tileup.enlarge.lanczos import enlarge
from tileup.errors import InputError, NotFiniteError, OutOfMemoryError
from tileup.images.metadata import read_metadata
from tileup.images.picture import Picture
from tileup.settings.values import Settings

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
    *inputs: str,
    model: Model | None = None,
    settings: Settings = SETTINGS,
    load: Load | None = None,
    output: str = "out/",
    **options: object,
) -> list[Outcome]:
    chosen = model or DoubleModel(blurring_denoiser)
    jobs = find_jobs(Request(inputs, output=output), settings)
    return list(run(jobs, settings, load or (lambda _: chosen), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", [True, False])
def test_no_state_of_one_picture_reaches_the_next(folder: Path, overlap: bool) -> None:
    settings = replace(SETTINGS, name="{parent}-{stem}.{ext}")
    for below in ("x", "y"):
        (folder / below).mkdir()
        (folder / below / "a.png").write_bytes((folder / "a.png").read_bytes())
    outcomes = made("x/a.png", "b.jpg", "y/a.png", settings=settings, overlap=overlap)
    assert [each.outcome for each in outcomes] == ["done"] * 3
    assert (folder / "out/x-a.png").read_bytes() == (folder / "out/y-a.png").read_bytes()
    alone = folder / "out/x-a.png"
    before = alone.read_bytes()
    alone.unlink()
    made("x/a.png", settings=settings)
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


def test_a_picture_is_finished_while_the_next_is_drawn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tones wait until the network is shown the next one."""
    inner, drawing, waited = upscaling.pasted, threading.Event(), list[bool]()

    def pasted(*arguments: object) -> object:
        if not waited:
            waited.append(drawing.wait(20))
        return inner(*arguments)  # type: ignore[arg-type]

    def network(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        if begun[-1] == 2:
            drawing.set()
        return blurring_denoiser(x, sigma)

    begun: list[int] = []

    def told(event: object) -> None:
        if isinstance(event, Begun):
            begun.append(event.number)

    monkeypatch.setattr(upscaling, "pasted", pasted)
    outcomes = made("a.png", "b.jpg", model=DoubleModel(network), on_event=told)
    assert waited == [True]
    assert [each.outcome for each in outcomes] == ["done", "done"]
    together = [each.read_bytes() for each in sorted(folder.glob("out/*.*g"))]
    made("a.png", "b.jpg", overlap=False, output="alone/")
    assert together == [each.read_bytes() for each in sorted(folder.glob("alone/*.*g"))]
    assert len(together) == 2


@pytest.mark.parametrize("short", [1, 2])
def test_what_did_not_fit_beside_another_picture_is_finished_again_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, short: int
) -> None:
    """Once there is nothing beside it; where that does not suffice, it alone has failed."""
    inner, threads = upscaling.pasted, list[str]()

    def pasted(drawn: NDArray[np.float32], enlarged: Picture, *rest: object) -> object:
        if enlarged.height == 48:  # a.png
            threads.append(threading.current_thread().name)
            if len(threads) <= short:
                raise MemoryError
        return inner(drawn, enlarged, *rest)  # type: ignore[arg-type]

    steps: list[object] = []
    monkeypatch.setattr(upscaling, "pasted", pasted)
    outcomes = made("a.png", "b.jpg", on_event=steps.append)
    assert threads[0] != threading.main_thread().name
    assert {*threads[1:]} == {threading.main_thread().name}
    done = ["done", "done"] if short == 1 else ["failed", "done"]
    assert [each.outcome for each in outcomes] == done
    assert [each.outcome for each in steps if isinstance(each, Finished)] == outcomes
    assert not list((folder / "out").glob(".*.lock"))
    if short == 1:
        assert outcomes[0].warnings == ()
        monkeypatch.setattr(upscaling, "pasted", inner)
        made("a.png", output="alone/")
        assert (folder / "out/a_2x.png").read_bytes() == (folder / "alone/a_2x.png").read_bytes()
    else:
        assert isinstance(outcomes[0].error, OutOfMemoryError)
        assert not (folder / "out/a_2x.png").exists()


def test_what_did_not_fit_beside_another_picture_is_read_again_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, threads = making.read, list[str]()

    def reading(job: object, *rest: object) -> object:
        if job.input.name == "b.jpg":  # type: ignore[attr-defined]
            threads.append(threading.current_thread().name)
            if len(threads) == 1:
                raise MemoryError
        return inner(job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(making, "read", reading)
    outcomes = made("a.png", "b.jpg")
    assert len(threads) == 2
    assert threads[0] != threading.main_thread().name == threads[1]
    assert [each.outcome for each in outcomes] == ["done", "done"]
    assert not list((folder / "out").glob(".*.lock"))


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


def test_many_windows_at_once_become_fewer_before_they_come_one_by_one(folder: Path) -> None:
    model = DoubleModel(Tight(2 * 32 * 32))
    many = replace(SETTINGS, window=64, scale=4, batch=8, min_denoise=0.5)
    outcome = made("b.jpg", model=model, settings=many)[0]
    assert [each for each in outcome.warnings if "at once" in each] == [
        "memory did not suffice for several windows at once: went on with 2 at once"
    ]
    assert max(model.counting.batches) == 2
    told = read_metadata(folder / "out/b_4x.jpg")
    assert json.loads(told["tileup"])["batch"] == 2


@dataclass
class Loads:
    """Loads a model in the way that settings ask for, and remembers how."""

    cells: int = 10**9
    """Cells of windows that it bears while all of it is on the device."""
    offloaded: int = 10**9
    """Cells that it bears where only the part at work is on the device."""
    ways: list[tuple[str, bool]] = field(default_factory=list)
    alive: int = 0

    def __call__(self, settings: Settings) -> DoubleModel:
        assert gc.collect() >= 0
        assert self.alive == 0, "the model before is gone before the next is loaded"
        self.ways.append((settings.dtype, settings.low_memory))
        used = "float16" if settings.dtype == "auto" else settings.dtype
        bears = self.offloaded if settings.low_memory else self.cells
        model = HalfModel(Tight(bears))
        model.dtype = getattr(torch, used)
        self.alive += 1
        weakref.finalize(model, self.gone)
        return model

    def gone(self) -> None:
        self.alive -= 1


class HalfModel(DoubleModel):
    """A model that says what it computes in, and overflows in half precision on white pictures."""

    def denoiser(self, scene: Scene) -> Counting:
        if self.dtype is torch.float16 and scene.pixels.min() > 0.99:
            self.inner = overflowing
        return super().denoiser(scene)


def overflowing(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
    """One value beyond what half precision holds."""
    x0 = gaussian_denoiser(x, sigma)
    x0[..., 1, 1] = torch.inf
    return x0


def test_the_last_step_is_everything_offloaded(folder: Path) -> None:
    wide = replace(SETTINGS, window=128, scale=4)
    load = Loads(cells=10, offloaded=64 * 64)
    outcomes = made("b.jpg", "a.png", settings=wide, load=load)
    assert [each.outcome for each in outcomes] == ["done"] * 2
    assert load.ways == [("auto", False), ("auto", True)] * 2, "each picture begins anew"
    assert any("only the part of the model" in each for each in outcomes[0].warnings)
    loads = Loads()
    made("b.jpg", settings=wide, load=loads, output="roomy/")
    assert loads.ways == [("auto", False)]
    # Offloading alone changes no picture, so windows are as large as asked again.
    assert decoded(folder / "out/b_4x.jpg") == decoded(folder / "roomy/b_4x.jpg")


def test_offloading_with_the_smallest_windows_comes_at_the_very_end(folder: Path) -> None:
    wide = replace(SETTINGS, window=128, scale=4)
    outcome = made("b.jpg", settings=wide, load=Loads(cells=10, offloaded=32 * 32))[0]
    assert outcome.outcome == "done"
    assert "windows of 64 pixels" in outcome.warnings[-1]
    told = read_metadata(folder / "out/b_4x.jpg")
    assert json.loads(told["tileup"])["window"] == 64, "what was done, not what was asked for"
    refused = made("a.png", settings=wide, load=Loads(cells=10, offloaded=10))[0]
    assert isinstance(refused.error, OutOfMemoryError)


@dataclass(eq=False)
class Heavy:
    """A model that enlarges, in whose presence nothing else has room."""

    calls: list[int] = field(default_factory=list)

    def __call__(self, picture: Picture, width: int, height: int) -> Picture:
        self.calls.append(width)
        return enlarge(picture, width, height)


def test_the_upscaler_is_dropped_before_anything_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "esrgan.pth").write_bytes(b"weights")
    calls: list[int] = []
    present = weakref.WeakSet[Heavy]()

    def loaded(path: Path, device: str) -> Heavy:
        heavy = Heavy(calls)
        present.add(heavy)
        return heavy

    def cramped(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        if present:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gaussian_denoiser(x, sigma)

    monkeypatch.setattr(enlargers, "_loaded", loaded)
    settings = replace(SETTINGS, upscaler="esrgan.pth")
    outcome = made("a.png", model=DoubleModel(cramped), settings=settings)[0]
    assert outcome.outcome == "done"
    assert outcome.warnings == (), "nothing was done in another way"
    assert calls == [80], "the picture is enlarged once, however often it is drawn"


def test_smaller_windows_are_planned_anew_and_enlarged_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "esrgan.pth").write_bytes(b"weights")
    calls: list[int] = []
    monkeypatch.setattr(enlargers, "_loaded", lambda path, device: Heavy(calls))
    settings = replace(SETTINGS, window=128, scale=4, upscaler="esrgan.pth")
    outcome = made("b.jpg", model=DoubleModel(Tight(32 * 32)), settings=settings)[0]
    assert any("windows of 64 pixels" in warning for warning in outcome.warnings)
    assert calls == [160]


def test_what_found_no_room_beside_another_picture_is_read_once_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading ahead runs out of memory; when the picture has its turn there is room."""
    inner = making.read
    tries: list[str] = []

    def reading(job: Job, *rest: object) -> object:
        assert job.input is not None
        tries.append(job.input.name)
        if tries.count("b.jpg") == 1 and job.input.name == "b.jpg":
            raise MemoryError
        return inner(job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(making, "read", reading)
    assert [each.outcome for each in made("a.png", "b.jpg")] == ["done", "done"]
    assert tries == ["a.png", "b.jpg", "b.jpg"]
    (folder / "out/b_2x.jpg").unlink()
    tries.clear()
    assert [each.outcome for each in made("b.jpg", "a.png")] == ["failed", "skipped"], "read once"


def decoded(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_values_that_are_no_numbers_are_tried_again_in_float32(folder: Path) -> None:
    Image.new("RGB", (40, 30), "white").save(folder / "white.png")
    load = Loads()
    outcomes = made("a.png", "white.png", "b.jpg", load=load)
    assert [each.outcome for each in outcomes] == ["done"] * 3
    assert [any("went on in float32" in w for w in each.warnings) for each in outcomes] == [
        False,
        True,
        False,
    ]
    assert load.ways == [("auto", False), ("float32", False), ("auto", False)]
    whole = Loads()
    made("white.png", settings=replace(SETTINGS, dtype="float32"), load=whole, output="f/")
    assert whole.ways == [("float32", False)]
    assert decoded(folder / "out/white_2x.png") == decoded(folder / "f/white_2x.png")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_values_that_stay_no_numbers_are_a_failure(folder: Path, dtype: str) -> None:
    loads: list[str] = []

    def load(settings: Settings) -> DoubleModel:
        loads.append(settings.dtype)
        model = HalfModel(overflowing)
        model.dtype = getattr(torch, "float32" if settings.dtype == "float32" else dtype)
        return model

    outcome = made("a.png", load=load)[0]
    assert isinstance(outcome.error, NotFiniteError)
    assert loads == (["auto"] if dtype == "float32" else ["auto", "float32"])
    assert not (folder / "out/a_2x.png").exists()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_decoder_that_overflows_gives_no_black_or_white_tile(folder: Path, value: float) -> None:
    class Overflow(PixelCodec):
        def decode(self, latents: Tensor) -> Tensor:
            pixels = super().decode(latents)
            pixels[..., 3:9, 3:9] = value
            return pixels

    class Decoding(DoubleModel):
        @property
        def codec(self) -> PixelCodec:
            return Overflow(self.spec.stride)

    outcome = made("a.png", model=Decoding(gaussian_denoiser))[0]
    assert isinstance(outcome.error, NotFiniteError)


@pytest.mark.gpu
def test_memory_of_a_gpu_that_does_not_suffice(folder: Path) -> None:
    """A real network under a cap on the memory of a real device."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from tileup.checkpoints.load import load_model

    save = (photograph(256, 256, seed=3) * 255).astype(np.uint8)
    Image.fromarray(save).save(folder / "large.png")
    settings = Settings(steps=2, batch=64, device="cuda", denoise_mode="passes", window=256)
    roomy = made("large.png", settings=settings, load=lambda s: load_model(None, s))
    peak = torch.cuda.max_memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.5 * peak / total)
        tight = made(
            "large.png", settings=settings, load=lambda s: load_model(None, s), output="t/"
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert [each.outcome for each in (*roomy, *tight)] == ["done"] * 2
    assert any("memory did not suffice" in each for each in tight[0].warnings)


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
from tests.doubles import Counting, DoubleModel, gaussian_denoiser
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.request import Job, Request
from tileup.enlarge import enlargers
from tileup.enlarge.lanczos import enlarge
from tileup.settings.values import Settings
settings = Settings(tile=64, min_tile=32, overlap=8, steps=2, min_denoise=0)
jobs = find_jobs(Request(("many",), output="out"), settings)
for number, outcome in enumerate(run(jobs, settings, lambda _: DoubleModel(gaussian_denoiser)), 1):
    if number % 15 == 0:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
"""


@pytest.mark.slow
def test_memory_does_not_grow_over_sixty_pictures(folder: Path) -> None:
    (folder / "many").mkdir()
    for number in range(60):
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
    # One enlarged picture is 1.4 MB in float32; the last forty-five, kept, would be 63 MB.
    assert marks[-1] - marks[0] < 15, f"MB after each 15 pictures: {marks}"
