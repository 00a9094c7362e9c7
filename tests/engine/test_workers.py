"""Several processes: the same bytes and records as one, whatever becomes of the workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.cli.forked import SERVER
from tests.doubles import DoubleModel, blurring_denoiser, photograph
from tileup.contracts import Box, Model
from tileup.engine import processes
from tileup.engine.engine import ENGINES, Team, engine_named
from tileup.engine.jobs import find_jobs
from tileup.engine.journal import NAME, Journal, Record
from tileup.engine.local import run
from tileup.engine.locks import OutputLock
from tileup.engine.outcomes import ByWorker, Event, Finished, Outcome
from tileup.engine.request import Request
from tileup.errors import ModelError, UsageError, WorkerLostError
from tileup.settings.values import Settings

SETTINGS = Settings(tile=32, min_tile=16, overlap=8, steps=2, batch=1)
TALL = 40
"""Height of the picture that things happen to; the others have 24 rows."""
NAMES = tuple("abcdef")
ODD = "c"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with six pictures in `in/`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for number, name in enumerate(NAMES):
        pixels = photograph(TALL if name == ODD else 24, 32, seed=number) * 255
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "in" / f"{name}.png")
    return tmp_path


# What workers load: they import this module, so that functions in it reach them.


def plain(settings: Settings) -> Model:
    return DoubleModel(blurring_denoiser)


def slow(settings: Settings) -> Model:
    def denoise(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        time.sleep(0.5)
        return blurring_denoiser(x, sigma, windows)

    return DoubleModel(denoise)


def wherever_odd(then: Callable[[], None]) -> Model:
    """Something happens each time that the picture is drawn that is taller than the others."""

    def denoise(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        if max(box.bottom for box in windows) > 24:
            then()
        return blurring_denoiser(x, sigma, windows)

    return DoubleModel(denoise)


def first_time(settings: Settings, then: Callable[[], None]) -> Model:
    """A model that does something when it is shown the tall picture, once in all processes."""

    def once() -> None:
        try:
            Path("happened").touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            then()

    return wherever_odd(once)


def die() -> None:
    time.sleep(0.3)  # what was told before is on its way
    os.kill(os.getpid(), signal.SIGKILL)


def lack_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def dies_once(settings: Settings) -> Model:
    return first_time(settings, die)


def short_once(settings: Settings) -> Model:
    return first_time(settings, lack_memory)


def poisoned(settings: Settings) -> Model:
    return wherever_odd(die)


def no_model(settings: Settings) -> Model:
    raise ModelError("no such model")


def deadly_model(settings: Settings) -> Model:
    die()
    raise AssertionError


def both(settings: Settings) -> Model:
    """Loads once two processes do: else one may be done with all before the other has started."""
    Path(f"threads-{os.getpid()}").write_text(str(settings.threads))
    begun = time.monotonic()
    while len([*Path().glob("threads-*")]) < 2:
        assert time.monotonic() - begun < 120, "the other process never came"
        time.sleep(0.01)
    return plain(settings)


def made(
    workers: int | None,
    load: Callable[[Settings], Model] = plain,
    output: str = "out",
    settings: Settings = SETTINGS,
    on_event: Callable[[Event], None] = lambda event: None,
    anew: bool = False,
    **more: object,
) -> list[Outcome]:
    """The outcomes of a run; `anew` starts its workers as runs do, and waits for their imports."""
    jobs = find_jobs(Request(("in",), output=output, plan_json="auto"), settings)
    engine = engine_named("local")
    with pytest.MonkeyPatch.context() as patched:
        if not anew:
            patched.setattr(multiprocessing, "get_context", lambda method: SERVER)
        return list(engine(jobs, settings, load, on_event, team=Team(workers), **more))  # type: ignore[arg-type]


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("[!.]*")}


def records(folder: str) -> dict[str, Record]:
    """What is on record, without the times."""

    def timeless(record: Record) -> Record:
        result = None if record.result is None else replace(record.result, changed=0)
        return replace(record, seconds=0, result=result)

    return {each.output: timeless(each) for each in Journal(Path(folder)).records()}


def assert_made_as_by_one(outcomes: Sequence[Outcome], expected: dict[str, bytes]) -> None:
    """All pictures are there, once, in order, and on record as one process makes and notes them."""
    assert [Path(each.job.shown_input).stem for each in outcomes] == [*NAMES]
    assert [each.outcome for each in outcomes] == ["done"] * len(NAMES)
    assert contents("out") == expected
    assert records("out") == records("one")
    assert len(Path("out", NAME).read_bytes().splitlines()) == len(NAMES), "none was made twice"
    assert litter("out") == []


def litter(folder: str) -> list[str]:
    return [path.name for path in Path(folder).rglob(".*") if path.name != NAME]


@pytest.fixture
def expected(folder: Path) -> dict[str, bytes]:
    """What one process makes."""
    assert {each.outcome for each in made(1, output="one")} == {"done"}
    found = contents("one")
    assert len(found) == 2 * len(NAMES)
    return found


def test_the_bytes_the_records_and_the_order_are_those_of_one_process(
    expected: dict[str, bytes],
) -> None:
    events: list[Event] = []
    outcomes = made(2, both, on_event=events.append, anew=True)
    assert_made_as_by_one(outcomes, expected)
    assert {each.worker for each in events if isinstance(each, ByWorker)} == {0, 1}
    assert Counter(type(each) for each in events)[Finished] == len(NAMES)
    assert {each.outcome for each in made(2)} == {"skipped"}


def test_a_worker_that_is_killed_costs_nothing(
    expected: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = made(2, dies_once)
    assert Path("happened").exists()
    assert_made_as_by_one(outcomes, expected)
    assert "in/c.png is tried again: its worker was killed by SIGKILL" in caplog.text


def test_a_picture_that_kills_its_worker_is_given_up_and_named(expected: dict[str, bytes]) -> None:
    outcomes = made(2, poisoned)
    failed = {each.job.shown_input: each for each in outcomes if each.error is not None}
    assert [*failed] == ["in/c.png"], "and none that was beside it"
    assert isinstance(failed["in/c.png"].error, WorkerLostError)
    assert "given up after 2 tries" in str(failed["in/c.png"].error)
    told = contents("out")
    assert {f"{name}_2x.png" for name in NAMES if name != ODD} == {
        name for name in told if name.endswith(".png")
    }
    assert told.items() <= expected.items()
    assert records("out")["c_2x.png"].outcome == "failed"
    assert litter("out") == []
    again = made(2)
    assert [each.outcome for each in again if each.job.input == Path("in/c.png")] == ["failed"]


def test_memory_that_does_not_suffice_beside_others_is_waited_for(
    expected: dict[str, bytes],
) -> None:
    """Smaller windows would make another picture."""
    events: list[Event] = []
    outcomes = made(2, short_once, on_event=events.append)
    assert Path("happened").exists()
    assert [each.outcome for each in outcomes] == ["done"] * len(NAMES)
    assert not any(each.warnings for each in outcomes)
    assert contents("out") == expected
    finished = [each.outcome.job.shown_input for each in events if isinstance(each, Finished)]
    assert finished[-1] == "in/c.png", "when nothing else is drawn"


def test_one_process_would_have_changed_it(expected: dict[str, bytes]) -> None:
    made(1, short_once)
    assert contents("out") != expected


def test_a_model_that_does_not_load_ends_the_run() -> None:
    with pytest.raises(ModelError, match="no such model"):
        made(2, no_model)
    assert contents("out") == {}
    assert litter(".") == []


def test_workers_that_die_of_the_model_end_the_run_and_blame_no_picture() -> None:
    with pytest.raises(WorkerLostError, match=r"3 workers in a row .* SIGKILL"):
        made(2, deadly_model)
    assert not Path("out", NAME).exists()
    assert litter(".") == []


def test_bad_pictures_stop_nothing_and_fail_fast_stops_all(expected: dict[str, bytes]) -> None:
    Path("in/b.png").write_text("no picture")
    outcomes = made(2)
    assert [each.outcome for each in outcomes] == ["done", "failed", *["done"] * 4]
    assert records("out")["b_2x.png"].outcome == "failed"
    fast = made(2, output="fast", fail_fast=True)
    assert [each.outcome for each in fast].count("failed") == 1
    assert len(fast) < len(NAMES)
    assert litter("fast") == []
    assert contents("fast").items() <= expected.items()
    assert {each.output for each in Journal(Path("fast")).records()} >= {
        name for name in contents("fast") if name.endswith(".png")
    }


def test_an_interruption_leaves_all_in_order(expected: dict[str, bytes]) -> None:
    def interrupted(event: Event) -> None:
        if isinstance(event, Finished):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(2, on_event=interrupted)
    there = contents("out")
    assert 0 < len(there) < len(expected)
    assert litter("out") == []
    pictures = {name for name in there if name.endswith(".png")}
    assert {each.output for each in Journal(Path("out")).records()} == pictures
    made(2)
    assert contents("out") == expected


def test_what_another_run_makes_is_waited_for(expected: dict[str, bytes]) -> None:
    lock = OutputLock(Path("out/a_2x.png"))
    assert lock.acquire()
    finished: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Finished):
            finished.append(event.outcome.job.shown_input)
            if len(finished) == len(NAMES) - 1:
                threading.Timer(0.3, lock.release).start()

    outcomes = made(2, on_event=hear)
    assert finished[-1] == "in/a.png"
    assert [each.outcome for each in outcomes] == ["done"] * len(NAMES)
    assert contents("out") == expected


def test_each_worker_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "cores", lambda: 8)
    assert [processes.threads_each(SETTINGS, count) for count in (1, 2, 3, 8, 9)] == [8, 4, 2, 1, 1]
    assert processes.threads_each(replace(SETTINGS, threads=5), 3) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processes.threads_each(SETTINGS, 2) is None
    made(2, both, settings=replace(SETTINGS, threads=1))
    found = [path.read_text() for path in Path().glob("threads-*")]
    assert found == ["1", "1"], "each process loads the model, and once"


def test_workers_take_turns_at_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    def load(settings: Settings) -> Model:
        found.append(settings.device)
        return plain(settings)

    def loaded(device: str, gpus: int) -> list[str]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        found.clear()
        for number in range(3):
            processes.LoadAt(load, processes.WorkerSlot(number, 1))(
                replace(SETTINGS, device=device)
            )
        return [*found]

    assert loaded("auto", 2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert loaded("cuda", 2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert loaded("cuda:1", 2) == ["cuda:1"] * 3
    assert loaded("auto", 1) == loaded("auto", 0) == ["auto"] * 3
    assert loaded("cpu", 2) == ["cpu"] * 3


def test_one_picture_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES[1:]:
        Path(f"in/{name}.png").unlink()

    def never(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(processes.Processes, "start", never)
    assert [each.outcome for each in made(4)] == ["done"]


def test_the_table_of_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_named("local") is run
    for name in ENGINES:
        assert callable(engine_named(name))
    with pytest.raises(UsageError, match="did you mean 'local'"):
        engine_named("lokal")
    with pytest.raises(UsageError, match="at least 1"):
        Team(0)
