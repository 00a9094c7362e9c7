"""Checkpoints with a VAE in bands: the same bytes, and what is killed goes on."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tests.checkpoints import test_model, whole
from tests.checkpoints.layouts.control import sd1_controlnet
from tests.doubles import DoubleModel, blurring_denoiser, photograph
from tileup.canvas import put_back
from tileup.checkpoints.load import load_model
from tileup.contracts import AroundModel, Box, Codec, Denoiser, Model, Scene, Step
from tileup.engine import memory
from tileup.engine.jobs import find_jobs
from tileup.engine.left_off import batches_of
from tileup.engine.local import run
from tileup.engine.models import Load
from tileup.engine.outcomes import Begun, Finished, Outcome
from tileup.engine.request import Request
from tileup.errors import OutputError
from tileup.images.kept import Kept, place_of, work_of
from tileup.images.reading import open_picture
from tileup.model_settings import resolve_with_model
from tileup.settings.values import Settings
from tileup.upscaling import upscale_picture

SMALL = {key: each for key, each in test_model.SMALL.items() if key != "color_fix"}
SMALL |= {"vae_tile": 64}


@pytest.fixture(scope="module")
def sd1(shelf: whole.Shelf) -> tuple[Model, Settings]:
    path = shelf.path("sd1")
    settings = resolve_with_model(flags={**SMALL, "model": str(path)}).settings
    return load_model(path, settings), settings


@pytest.mark.parametrize(
    "change",
    [
        {"min_denoise": 0.0},
        {"color_fix": "none", "sampler": "dpmpp_2m", "scale": 1.7},
        {"denoise_mode": "passes", "sampler": "euler_ancestral", "color_fix": "adain"},
        {"control": "tile.safetensors"},
    ],
    ids=str,
)
def test_in_bands_it_is_the_same_picture_to_the_bit(
    change: dict[str, object],
    sd1: tuple[Model, Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With kept tiles, tones of the source, a hint in a file, sides that no stride divides."""
    model, settings = sd1[0], replace(sd1[1], **change)
    if settings.control is not None:
        monkeypatch.chdir(tmp_path)
        whole.save(Path(settings.control), sd1_controlnet())
        model = load_model(Path(str(settings.model)), settings)
        monkeypatch.setattr("tileup.codec.spilled.memory_free", lambda _: 0)
    picture = open_picture(photograph(71, 37))
    monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 10**9)
    in_memory = upscale_picture(picture, model, settings).picture.pixels
    monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 1)
    monkeypatch.setattr("tileup.upscaling.pasted", None)
    in_bands = upscale_picture(picture, model, settings).picture.pixels
    np.testing.assert_array_equal(in_bands, in_memory)
    assert in_memory.std() > 0.05


class Watched(AroundModel):
    """Counts windows, and kills the process after some of them, or some bands of the decoded
    picture."""

    windows = 0
    last_window = last_band = most_at_once = 10**9

    @property
    def codec(self) -> Codec:
        return self  # pyright: ignore[reportReturnType]

    def denoiser(self, scene: Scene) -> Denoiser:
        network = self.model.denoiser(scene)

        def watched(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
            if len(windows) > self.most_at_once:
                raise torch.OutOfMemoryError("CUDA out of memory")
            type(self).windows += len(windows)
            if self.windows > self.last_window:
                os.kill(os.getpid(), signal.SIGKILL)
            return network(x, sigma, windows)

        return watched

    def encode(self, pixels: Tensor) -> Tensor:
        return self.model.codec.encode(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        return self.model.codec.decode(latents)

    def encode_rows(self, rows: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
        assert self.windows < self.last_window, "what is kept was encoded"
        return self.model.codec.encode_rows(rows, height, width)

    def decode_rows(self, latents: Tensor) -> Iterator[Tensor]:
        for number, band in enumerate(self.model.codec.decode_rows(latents)):
            if number == self.last_band:
                wait_for_rows(place_of(Path("out.png")))
                os.kill(os.getpid(), signal.SIGKILL)
            yield band


def wait_for_rows(path: Path) -> None:
    """Until another thread has finished some, and counted them."""
    end = time.monotonic() + 20
    while not json.loads(path.read_bytes()[:4096].strip(b" \0") or b"{}").get("rows"):
        assert time.monotonic() < end
        time.sleep(0.001)


def made(output: str, model: Model | Load, settings: Settings) -> list[Step]:
    """A run, and its steps."""
    told: list[Step] = []
    load = model if callable(model) else lambda _: model

    def watch(event: object) -> None:
        if isinstance(event, Step):
            told.append(event)

    jobs = find_jobs(Request(("in.png",), output=output), settings)
    (outcome,) = run(jobs, settings, load, watch)
    assert outcome.outcome == "done"
    assert outcome.resumed == (not told or told[-1].known > 0)
    return told


def counted(output: str, model: Model | Load, settings: Settings) -> int:
    """Windows that a run evaluates."""
    Watched.windows = 0
    told = made(output, model if callable(model) else Watched(model), settings)
    assert told[-1].calls == told[-1].total_calls
    assert told[-1].calls - told[-1].known == Watched.windows
    return Watched.windows


def killed(output: str, model: Model | Load, settings: Settings, **when: int) -> None:
    """A run in a process of its own that is killed, for real."""
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)  # the threads of its parent are not there
            Watched.windows = 0
            for name, number in when.items():
                setattr(Watched, name, number)
            made(output, model if callable(model) else Watched(model), settings)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """The working folder, with a high picture; every picture counts as large. One thread, as the
    process that is killed has: with more the roundings differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tileup.images.writing.BANDED", 1)
    monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 1)
    monkeypatch.setattr("tileup.images.kept._EVERY", 0)
    Image.fromarray((photograph(60, 40) * 255).astype(np.uint8)).save("in.png")
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_killed_while_it_decodes_it_samples_nothing_again(
    sd1: tuple[Model, Settings], large: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tileup")
    model, settings = sd1
    made("whole.png", model, settings)
    killed("out.png", model, settings, last_band=1)
    rows, work = place_of(Path("out.png")), work_of(Path("out.png"))
    assert 0 < json.loads(rows.read_bytes()[:4096])["rows"] < 120
    assert work.exists()
    caplog.clear()
    assert counted("out.png", model, settings) == 0
    assert "going on below row" in caplog.text
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert not rows.exists()
    assert not work.exists()


@pytest.fixture
def two(sd1: tuple[Model, Settings], large: Path) -> tuple[Model, Settings]:
    """A model and settings that draw `in.png` and `next.png` soon."""
    for name in ("in.png", "next.png"):
        Image.fromarray((photograph(40, 24, seed=len(name)) * 255).astype(np.uint8)).save(name)
    return sd1[0], replace(sd1[1], steps=2, min_denoise=0.5, max_denoise=0.5)


def test_bands_are_finished_while_others_are_decoded_and_the_next_is_drawn(
    two: tuple[Model, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first band waits until the model is shown the next picture."""
    model, settings = two
    jobs = find_jobs(Request(("in.png", "next.png"), output="alone/"), settings)
    assert [each.outcome for each in run(jobs, settings, lambda _: model, overlap=False)] == [
        "done",
        "done",
    ]
    inner, drawing, waited = put_back, threading.Event(), list[bool]()

    def waiting(*arguments: object) -> object:
        if not waited:
            waited.append(drawing.wait(20))
            assert threading.current_thread() is not threading.main_thread()
        return inner(*arguments)  # type: ignore[arg-type]

    def watch(event: object) -> None:
        if isinstance(event, Begun):
            begun.append(event.number)
        elif isinstance(event, Step) and begun[-1] == 2:
            drawing.set()

    begun: list[int] = []
    monkeypatch.setattr("tileup.canvas.put_back", waiting)
    jobs = find_jobs(Request(("in.png", "next.png"), output="out/"), settings)
    outcomes = list(run(jobs, settings, lambda _: model, watch))
    assert waited == [True]
    assert [each.outcome for each in outcomes] == ["done", "done"]
    for name in ("in_2x.png", "next_2x.png"):
        assert Path("out", name).read_bytes() == Path("alone", name).read_bytes()


def test_a_picture_that_is_being_finished_is_written_before_an_interruption_ends_the_run(
    two: tuple[Model, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one, that is being drawn, is dropped."""
    model, settings = two
    inner, interrupted = put_back, threading.Event()

    def waiting(*arguments: object) -> object:
        assert interrupted.wait(20)
        return inner(*arguments)  # type: ignore[arg-type]

    def watch(event: object) -> None:
        if isinstance(event, Begun):
            begun.append(event.number)
        elif isinstance(event, Finished):
            told.append(event.outcome)
        elif isinstance(event, Step) and begun[-1] == 2 and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    begun: list[int] = []
    told: list[Outcome] = []
    monkeypatch.setattr("tileup.canvas.put_back", waiting)
    jobs = find_jobs(Request(("in.png", "next.png"), output="out/"), settings)
    with pytest.raises(KeyboardInterrupt):
        list(run(jobs, settings, lambda _: model, watch))
    assert [(each.job.input, each.outcome) for each in told] == [(Path("in.png"), "done")]
    with Image.open("out/in_2x.png") as image:
        assert image.size == (48, 80)
    assert not list(Path("out").glob(".*.lock"))
    assert not place_of(Path("out/in_2x.png")).exists()
    assert not Path("out/next_2x.png").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), MemoryError()])
def test_what_fails_while_bands_are_finished_is_told_of_their_picture(
    error: Exception, two: tuple[Model, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk fails the picture; memory that was short beside another is there in its turn."""
    model, settings = two
    inner, threads = Kept.add, list[threading.Thread]()

    def add(kept: Kept, pixels: NDArray[np.float32]) -> None:
        if kept.path == place_of(Path("out/in_2x.png")):
            threads.append(threading.current_thread())
            if threading.current_thread() is not threading.main_thread():
                raise error
        inner(kept, pixels)

    monkeypatch.setattr(Kept, "add", add)
    jobs = find_jobs(Request(("in.png", "next.png"), output="out/"), settings)
    outcomes = list(run(jobs, settings, lambda _: model))
    full = isinstance(error, OSError)
    assert [each.outcome for each in outcomes] == ["failed" if full else "done", "done"]
    assert isinstance(outcomes[0].error, OutputError) == full
    assert Path("out/in_2x.png").exists() != full
    assert (threading.main_thread() in threads) != full
    assert not list(Path("out").glob(".*.lock"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
@pytest.mark.parametrize(
    "change",
    [
        {"sampler": "dpmpp_3m_sde", "batch": 2},
        {"sampler": "heun", "denoise_mode": "passes"},
    ],
    ids=str,
)
def test_killed_while_it_samples_it_goes_on_to_the_same_bytes(
    change: dict[str, object], sd1: tuple[Model, Settings], large: Path
) -> None:
    """In any mode with any sampler."""
    model, settings = sd1[0], replace(sd1[1], **change)
    whole = counted("whole.png", model, settings)
    killed("out.png", model, settings, last_window=whole * 2 // 3)
    assert not Path("out.png").exists()
    left = whole - whole * 2 // 3
    assert left <= counted("out.png", model, settings) < left + model.spec.batch
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert [each.name for each in large.iterdir() if each.name.startswith(".")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_killed_where_memory_did_not_suffice_it_goes_on_with_as_few_windows(
    sd1: tuple[Model, Settings], large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with as many as before, which would write over what is kept."""
    model, settings = sd1[0], replace(sd1[1], batch=4)
    monkeypatch.setattr(Watched, "most_at_once", 1)
    whole = counted("whole.png", model, settings)
    killed("out.png", model, settings, last_window=whole * 2 // 3)
    assert counted("out.png", model, settings) == whole - whole * 2 // 3
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
@pytest.mark.parametrize("fits", [2, 8])
def test_killed_with_a_measured_batch_it_goes_on_with_as_many_windows(
    fits: int, sd1: tuple[Model, Settings], large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as it had, whatever fits when that is measured anew."""
    on_a_gpu = DoubleModel(blurring_denoiser, device="cuda:0")
    model, settings = sd1[0], replace(sd1[1], batch="auto")
    assert batches_of(model, settings) == [settings]
    assert batches_of(on_a_gpu, replace(settings, batch=3)) == [replace(settings, batch=3)]
    monkeypatch.setattr(memory, "batches_of", lambda _, asked: batches_of(on_a_gpu, asked))
    measured = [4]
    monkeypatch.setattr(
        memory.Models, "with_batch", lambda _, asked: replace(asked, batch=measured[0])
    )
    whole = counted("whole.png", model, settings)
    killed("out.png", model, settings, last_window=whole * 2 // 3)
    measured[0] = fits
    left = whole - whole * 2 // 3
    assert left <= counted("out.png", model, settings) < left + 4
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()


class Narrow(AroundModel):
    """Half precision, which does not suffice."""

    windows = 0
    dtype = torch.float16  # pyright: ignore[reportAssignmentType]

    def denoiser(self, scene: Scene) -> Denoiser:
        def overflowing(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
            type(self).windows += len(windows)
            return x * float("nan")

        return overflowing


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_killed_in_float32_it_goes_on_there(
    sd1: tuple[Model, Settings], large: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And not in half precision, which would write over what is kept."""
    model, settings = sd1[0], replace(sd1[1], dtype="float16")

    def load(given: Settings) -> Model:
        return Narrow(model) if given.dtype == "float16" else Watched(model)

    Narrow.windows = 0
    whole = counted("whole.png", load, settings)
    assert Narrow.windows > 0
    killed("out.png", load, settings, last_window=whole * 2 // 3)
    Narrow.windows = 0
    left = whole - whole * 2 // 3
    assert left <= counted("out.png", load, settings) < left + model.spec.batch
    assert Narrow.windows == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_killed_while_it_samples_it_begins_anew_with_other_settings(
    sd1: tuple[Model, Settings], large: Path
) -> None:
    model, settings = sd1
    killed("out.png", model, settings, last_window=4)
    other = replace(settings, max_denoise=0.7)
    Watched.windows = 0
    told = made("out.png", Watched(model), other)
    assert Watched.windows == told[-1].total_calls


@pytest.mark.parametrize("name", ["small", "pixels"])
def test_what_is_soon_done_is_not_kept(
    name: str, sd1: tuple[Model, Settings], large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small pictures, and models whose latents are pixels."""
    if name == "small":
        monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 120 * 80 + 1)
    monkeypatch.setattr("tileup.engine.work_log.WorkLog.add", None)
    model = sd1[0] if name == "small" else DoubleModel(blurring_denoiser)
    made("out.png", model, replace(sd1[1], color_fix="none"))
