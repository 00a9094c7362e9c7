"""One picture drawn by several: the bytes of one process, whoever joins and whoever is lost."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bench.spread import Latents
from tests.doubles import Counting, DoubleModel, blurring_denoiser, photograph
from tileup.checkpoints.load import load_model
from tileup.contracts import Box, Denoiser, Model, Scene, Step, Wish
from tileup.denoise.window_requests import request_of
from tileup.engine import assistants, local
from tileup.engine.engine import Team
from tileup.engine.jobs import find_jobs
from tileup.engine.outcomes import Event, Outcome
from tileup.engine.pool import PoolWorkerLostError
from tileup.engine.request import Request
from tileup.engine.spread import PendingBatch, Spread, answered, is_spread
from tileup.images.reading import open_picture
from tileup.settings.values import Settings
from tileup.tiling.batches import NetworkBatch
from tileup.upscaling import upscale_picture

SMALL = Settings(tile=32, min_tile=16, overlap=8, steps=2, batch=2, device="cpu")


@dataclass
class Seeing(DoubleModel):
    """A model whose network is shown everything that there is, cropped with its windows."""

    def denoiser(self, scene: Scene) -> Counting:
        def denoise(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
            assert scene.strength is not None
            seen = 0.3 * torch.cat([scene.source[..., *box.index] for box in windows])
            seen = seen + 0.1 * torch.cat([scene.strength[..., *box.index] for box in windows])
            if scene.pixels is not None and scene.wish.prompt == "pixels":
                boxes = [box.scaled(self.spec.stride) for box in windows]
                seen = seen + torch.cat([scene.pixels[..., *box.index] for box in boxes]).mean()
            if scene.masked is not None:
                seen = seen + torch.cat([scene.masked[..., *box.index] for box in windows])
            seen = seen + scene.control_until + scene.size[0] + scene.wish.cfg
            return self.inner(x.contiguous(), sigma, windows) + seen

        self.counting = Counting(denoise)
        return self.counting


def seeing(settings: Settings) -> Model:
    return Seeing(blurring_denoiser)


class Beside:
    """Evaluates what would travel to another process, in a thread of this one."""

    def __init__(self, load: Callable[[Settings], Model] = seeing) -> None:
        self.load = load
        self.did = 0
        self.busy = threading.Event()

    def start(self) -> None:
        """Nothing is to be started."""

    def do(self, piece: PendingBatch) -> Tensor:
        self.busy.set()
        request = pickle.loads(pickle.dumps(piece.pack(piece.batch)))
        found = pickle.loads(pickle.dumps(answered(request, self.load)))
        if isinstance(found, Exception):
            raise found
        self.did += 1
        return torch.from_numpy(found).to(piece.batch.x)

    def end(self) -> None:
        """Nothing is to be ended."""


def waiting(inner: Denoiser, doer: Beside, started: Callable[[], bool]) -> Denoiser:
    """A denoiser that lets the other have a turn first, once it takes part."""

    def denoise(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        if started():
            doer.busy.wait(30)
        return inner(x, sigma, windows)

    return denoise


def both(
    height: int, width: int, settings: Settings, by_rows: bool
) -> tuple[np.ndarray, np.ndarray, Beside]:
    """Pixels of one, and of one with another beside it."""
    picture = open_picture(photograph(height, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.plan.by_rows.SMALLEST", 1 if by_rows else 10**9)
        alone = upscale_picture(picture, seeing(settings), settings).picture.pixels
        doer = Beside()
        spread = Spread([doer], starting=0)
        told: list[Step] = []
        model = Seeing(waiting(blurring_denoiser, doer, lambda: len(told) > 0))
        shown = spread.over(model, settings)
        steps = spread.watching(told.append)
        shared = upscale_picture(picture, shown, settings, steps).picture.pixels
        spread.close()
    assert told[-1].calls == told[-1].total_calls
    return alone, shared, doer


@pytest.mark.parametrize(
    ("height", "width"), [(64, 90), (61, 77), (7, 150), (150, 9)], ids=lambda side: str(side)
)
@pytest.mark.parametrize("by_rows", [True, False])
def test_the_pixels_are_those_of_one_process(height: int, width: int, by_rows: bool) -> None:
    alone, shared, doer = both(height, width, SMALL, by_rows)
    np.testing.assert_array_equal(shared, alone)
    assert doer.did


@pytest.mark.parametrize(
    "change",
    [
        {"denoise_mode": "sigma"},
        {"denoise_mode": "passes"},
        {"denoise_mode": "blend"},
        {"sampler": "dpmpp_2m"},
        {"windows": "spot"},
        {"batch": 1},
    ],
    ids=str,
)
def test_the_same_in_every_mode(change: dict[str, object]) -> None:
    chosen = replace(SMALL, min_denoise=0.1, max_denoise=0.9, **change)  # type: ignore[arg-type]
    alone, shared, doer = both(61, 77, chosen, by_rows=False)
    np.testing.assert_array_equal(shared, alone)
    assert doer.did


def test_all_that_a_network_is_shown_travels() -> None:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    scene = Scene(
        random(1, 12, 40, 50),
        random(1, 3, 80, 100),
        (79, 99),
        Wish(prompt="pixels", cfg=2.0),
        0.25,
        random(1, 1, 40, 50),
        random(1, 12, 40, 50),
    )
    windows = [Box(0, 0, 16, 16), Box(24, 34, 40, 50), Box(3, 11, 19, 27)]
    batch = NetworkBatch(random(3, 12, 16, 16), random(3), windows)
    expected = Seeing(blurring_denoiser).denoiser(scene)(batch.x, batch.sigma, windows)
    controlled = replace(SMALL, control="tile.safetensors")
    request = pickle.loads(pickle.dumps(request_of(batch, scene, 2, controlled)))
    np.testing.assert_array_equal(request.evaluated(seeing(SMALL)), expected.numpy())
    assert request_of(batch, scene, 2, SMALL).pixels is None, "nobody would look at them"


def test_as_much_is_moved_as_the_documents_count() -> None:
    latents = Latents("any", 4, window=128)
    side = latents.window // latents.stride
    scene = Scene(torch.zeros(1, 4, 40, 50), None, (320, 400), strength=torch.zeros(1, 1, 40, 50))
    batch = NetworkBatch(torch.zeros(1, 4, side, side), torch.ones(1), [Box(0, 0, side, side)])
    request = request_of(batch, scene, latents.stride, SMALL)
    assert request.strength is not None
    there = request.x.nbytes + request.source.nbytes + request.strength.nbytes
    assert there + request.x.nbytes == latents.moved


def test_the_shipped_model_gives_a_request_what_it_gives_the_canvas() -> None:
    """Both of its networks: strengths are from 0 to 1."""
    model = load_model(None, replace(SMALL, dtype="float32"))
    generator = torch.Generator().manual_seed(3)
    source = 2 * torch.rand(1, model.spec.channels, 60, 70, generator=generator) - 1
    strength = torch.linspace(0, 1, 70).expand(1, 1, 60, 70)
    scene = Scene(source, None, (120, 140), strength=strength)
    windows = [Box(0, 0, 32, 32), Box(28, 38, 60, 70), Box(7, 20, 39, 52)]
    x = source[..., :32, :32] + torch.randn(3, model.spec.channels, 32, 32, generator=generator)
    batch = NetworkBatch(x, torch.tensor([1.0, 1.0, 0.3]), windows)
    expected = model.denoiser(scene)(batch.x, batch.sigma, windows)
    found = request_of(batch, scene, model.spec.stride, SMALL).evaluated(model)
    np.testing.assert_array_equal(found, expected.numpy())


def test_it_begins_when_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("tileup.engine.spread.time.monotonic", lambda: now[0])
    spread = Spread([], starting=10)
    started: list[float] = []
    monkeypatch.setattr(spread._pool, "start", lambda: started.append(now[0]))
    spread.over(seeing(SMALL), SMALL, loading=5)
    watch = spread.watching(lambda step: None)

    def draw(total: int, seconds_each: float, begun: float, known: int = 0) -> None:
        for calls in range(1, total + 1):
            if calls > known:
                spread._done_here(lambda batch: batch.x, batch)
            now[0] = begun + seconds_each * max(0, calls - known)
            watch(Step(1, 1, calls, total))

    batch = NetworkBatch(torch.zeros(1), torch.zeros(1), ())
    draw(29, 1.0, 0)
    assert not started, "29 s are not worth a start of 15 s"
    spread.over(seeing(SMALL), SMALL, loading=5)
    draw(100, 1.0, 100, known=60)
    assert started == [103], "two seconds after the first window that is evaluated"


def test_memory_that_does_not_suffice_beside_others_suffices_alone() -> None:
    """Smaller windows would make another picture."""
    doer = Beside()
    ended: list[bool] = []
    doer.end = lambda: ended.append(True)  # type: ignore[method-assign]

    def short(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        if doer.busy.is_set() and not ended:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return blurring_denoiser(x.contiguous(), sigma, windows)

    picture = open_picture(photograph(61, 77))
    alone = upscale_picture(picture, seeing(SMALL), SMALL).picture.pixels
    spread = Spread([doer], starting=0)
    told: list[Step] = []
    denoise = waiting(short, doer, lambda: bool(told))
    shown = spread.over(Seeing(denoise), SMALL)
    found = upscale_picture(picture, shown, SMALL, spread.watching(told.append)).picture.pixels
    np.testing.assert_array_equal(found, alone)
    assert ended


def jobs_of(sizes: Sequence[tuple[int, int]], settings: Settings) -> list:  # type: ignore[type-arg]
    for number, (height, width) in enumerate(sizes):
        pixels = photograph(height, width, seed=number) * 255
        Image.fromarray(pixels.astype(np.uint8)).save(f"in/{number}.png")
    return list(find_jobs(Request(("in",), output="out", overwrite=True), settings))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    return tmp_path


def test_which_runs_are_spread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of([(8, 8), (8, 9)], SMALL)
    asked = [is_spread(jobs[:count], workers, SMALL) for workers in (1, 2, 3) for count in (1, 2)]
    assert asked == [False, False, True, False, True, False]
    monkeypatch.setattr("tileup.engine.spread.LARGE", 200)
    assert is_spread(jobs, 3, SMALL)
    assert not is_spread(jobs, 2, SMALL), "each has one to draw"
    assert not is_spread([], 2, SMALL)


def deadly_once(settings: Settings) -> Model:
    """Kills the first process that is not the run's own, in its first batch."""

    def denoise(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        if str(os.getpid()) == Path("run").read_text():
            while Path("started").exists() and not Path("happened").exists():
                time.sleep(0.01)  # until the other one has had its turn
        elif not Path("happened").exists():
            Path("happened").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            Path("again").touch()
        return blurring_denoiser(x.contiguous(), sigma, windows)

    return Seeing(denoise)


def test_a_process_that_is_killed_costs_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Real ones, the run with two workers and one picture."""
    jobs = jobs_of([(64, 90)], SMALL)
    Path("run").write_text(str(os.getpid()))
    monkeypatch.setattr("tileup.engine.spread.STARTING", 0)

    def made(workers: int, load: Callable[[Settings], Model]) -> list[Outcome]:
        def hear(event: Event) -> None:
            if isinstance(event, Step) and workers > 1 and "spread over 2" in caplog.text:
                Path("started").touch()

        return list(local.run(jobs, SMALL, load, hear, team=Team(workers)))

    with caplog.at_level(logging.INFO, "tileup"):
        assert [each.outcome for each in made(2, deadly_once)] == ["done"]
    shared = Path("out/0_2x.png").read_bytes()
    assert "worker 2 was killed by SIGKILL" in caplog.text
    assert "spread over 2" in caplog.text
    assert [each.outcome for each in made(1, seeing)] == ["done"]
    assert Path("out/0_2x.png").read_bytes() == shared


def test_an_assistant_that_was_ended_is_not_started() -> None:
    spread = assistants.spread_here(2, replace(SMALL, threads=1), seeing)
    (doer,) = spread._doers
    spread.close()
    with pytest.raises(PoolWorkerLostError):
        doer.start()
