"""Ray where memory is short, and where its object store and the disk behind it are full.

Real ones: Ray's own monitor ends the workers, and Ray's own store refuses what travels.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from tests.doubles import DoubleModel, blurring_denoiser, photograph, spec
from tests.engine import test_ray
from tests.engine import test_workers as shared
from tests.engine.test_workers import (
    NAMES,
    ODD,
    SETTINGS,
    contents,
    first_time,
    litter,
    records,
    wherever_odd,
)
from tileup.contracts import Box, Model
from tileup.engine import on_ray, spread
from tileup.engine.engine import Team
from tileup.engine.jobs import find_jobs
from tileup.engine.request import Request
from tileup.errors import ExitCode, OutOfMemoryError
from tileup.settings.values import Settings

if find_spec("ray") is None:  # it is imported where it is needed: that takes seconds
    pytest.skip("Ray is not installed", allow_module_level=True)
pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

folder, expected = shared.folder, shared.expected

ROOM = 3 * 2**30
"""Bytes that may be taken besides what is in use, before Ray ends workers."""


def hoard() -> None:
    """Take memory until Ray ends the process."""
    hoarded: list[object] = []
    while len(hoarded) < 48:
        hoarded.append(np.ones(2**27, np.uint8))
        time.sleep(0.02)
    Path("survived").touch()


def greedy_once(settings: Settings) -> Model:
    return first_time(settings, hoard)


def greedy(settings: Settings) -> Model:
    return wherever_odd(hoard)


@pytest.fixture(scope="module")
def short_of_memory() -> Generator[str]:
    """A cluster that has little more memory than what is in use just now."""
    import psutil

    memory = psutil.virtual_memory()
    if memory.available < 3 * ROOM:
        pytest.skip("takes 6 GB of memory, and leaves others some")
    most = (memory.total - memory.available + ROOM) / memory.total
    monitor = {
        "RAY_memory_usage_threshold": f"{most:.3f}",
        "RAY_memory_monitor_refresh_ms": "50",
    }
    with test_ray.started(*test_ray.THREE, **monitor) as found:
        yield found


def test_an_actor_that_ray_ends_for_want_of_memory_costs_nothing(
    expected: dict[str, bytes], short_of_memory: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray ends others with it, which are not to blame."""
    outcomes = test_ray.made(greedy_once, team=Team(2, short_of_memory))
    assert [each.error for each in outcomes] == [None] * len(NAMES)
    assert "in/c.png is tried again with nothing beside it: its worker was ended" in caplog.text
    shared.assert_made_as_by_one(outcomes, expected)
    assert not Path("survived").exists()


def test_a_picture_that_takes_all_memory_is_given_up_alone(
    expected: dict[str, bytes], short_of_memory: str
) -> None:
    outcomes = test_ray.made(greedy, team=Team(2, short_of_memory))
    (failed,) = [each for each in outcomes if each.error is not None]
    assert failed.job.shown_input == "in/c.png"
    assert isinstance(failed.error, OutOfMemoryError)
    assert "given up after 2 tries" in str(failed.error)
    assert "ended by Ray for want of memory" in str(failed.error)
    assert not Path("survived").exists()
    there = contents("out")
    assert len(there) == len(expected) - 2, "all but that picture and its plan"
    assert there.items() <= expected.items()
    record = records("out")["c_2x.png"]
    assert (record.outcome, record.code) == ("failed", ExitCode.OUT_OF_MEMORY)
    assert {name for name, each in records("out").items() if each.outcome == "done"} == {
        f"{name}_2x.png" for name in NAMES if name != ODD
    }
    assert litter("out") == []
    again = shared.made(1)  # it says nothing about the picture, so that a rerun tries it
    assert [each.outcome for each in again].count("done") == 1
    assert contents("out") == expected


def shared_widely(settings: Settings) -> Model:
    """Loaded by the one that draws first, who waits for the other to be there."""
    spread.STARTING = 0
    draws = test_ray.is_first()
    if not draws:
        Path("ready").touch()
    calls: list[int] = []

    def denoise(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        calls.append(len(windows))
        begun = time.monotonic()
        while draws and len(calls) > 4 and not Path("ready").exists():
            assert time.monotonic() < begun + 120, "nobody came to help"
            time.sleep(0.01)
        if not draws:
            Path("helped").touch()
        elif len(calls) > 4:
            time.sleep(0.1)  # the other takes a window meanwhile
        return blurring_denoiser(x.contiguous(), sigma, windows)

    return DoubleModel(denoise, spec(window=256))


@pytest.mark.parametrize("disk", [False, True], ids=["no disk", "a disk"])
def test_where_rays_object_store_is_full(
    folder: Path, disk: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With a disk Ray puts there what finds no room, and the other helps; without one it refuses
    what travels, and the picture is drawn without help."""
    for each in Path("in").iterdir():
        each.unlink()
    pixels = photograph(400, 400, seed=1) * 255
    Image.fromarray(pixels.astype(np.uint8)).save("in/a.png")
    settings = replace(SETTINGS, tile=256, min_tile=64, overlap=64)
    request = Request(("in",), output="one")
    list(shared.run(find_jobs(request, settings), settings, shared_widely_alone))
    config = {"automatic_object_spilling_enabled": disk}
    config |= {} if disk else {"local_fs_capacity_threshold": 0.01}
    little = ("--num-cpus", "3", "--object-store-memory", str(75 * 2**20))
    with test_ray.started(*little, "--system-config", json.dumps(config)) as address:
        ray = on_ray._imported()
        ray.init(address=address, log_to_driver=False, configure_logging=False)
        try:
            held = filled(ray, 40 if disk else 1000)
            jobs = find_jobs(replace(request, output="out"), settings)
            (outcome,) = on_ray.run(jobs, settings, shared_widely, team=Team(2, address))
            del held
        finally:
            ray.shutdown()
    assert outcome.outcome == "done"
    assert contents("out") == contents("one")
    assert litter("out") == []
    refused = "worker 2 takes no part: Ray's object store is full, and it finds no disk"
    assert (refused in caplog.text, Path("helped").exists()) == (not disk, disk)
    assert Path("ready").exists()


def shared_widely_alone(settings: Settings) -> Model:
    return DoubleModel(blurring_denoiser, spec(window=256))


def filled(ray: object, most: int) -> list[object]:
    """What is held in a store, until it takes nothing more, or so many objects of 4 MB."""
    held: list[object] = []
    for size in (2**22, 2**20, 2**18, 2**17 + 2**10):
        try:
            while len(held) < most:
                held.append(ray.put(np.zeros(size, np.uint8)))  # type: ignore[attr-defined]
        except ray.exceptions.OutOfDiskError:  # type: ignore[attr-defined]
            continue
    return held
