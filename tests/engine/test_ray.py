"""Ray's actors: the bytes of one process, whatever becomes of them. The cluster is a real one."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from torch import Tensor

from tests.doubles import DoubleModel, blurring_denoiser, wait_until
from tests.engine import test_workers as shared
from tests.engine.test_workers import (
    NAMES,
    ODD,
    SETTINGS,
    assert_made_as_by_one,
    both,
    contents,
    die,
    dies_once,
    litter,
    plain,
    poisoned,
    records,
)
from tileup.cli.main import main
from tileup.contracts import Box, Model
from tileup.engine import on_ray, spread
from tileup.engine.engine import Team
from tileup.engine.jobs import find_jobs
from tileup.engine.journal import NAME
from tileup.engine.outcomes import ByWorker, Event, Outcome
from tileup.engine.pool import WorkerPool
from tileup.engine.preflight import Here, differences, versions
from tileup.engine.ray_assistants import Helpers, RayAssistant
from tileup.engine.ray_ends import how_it_went
from tileup.engine.request import Request
from tileup.engine.resume import contents_of
from tileup.errors import ExitCode, MissingExtraError, TileupError, UsageError, WorkerLostError
from tileup.settings.values import Settings

# Read when Ray is imported. A token in the home folder would lock the cluster of these tests.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
if find_spec("ray") is None:  # it is imported where it is needed: that takes seconds
    pytest.skip("Ray is not installed", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of sockets and versions

folder, expected = shared.folder, shared.expected


THREE = ("--num-cpus", "3", "--object-store-memory", str(on_ray._STORE))


@contextlib.contextmanager
def started(*flags: str, **environment: str) -> Generator[str]:
    """The address of a cluster of one node, started as its owner would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    quiet = ["--include-dashboard", "false", "--disable-usage-stats", "--port", str(port)]
    with subprocess.Popen(
        [*command, *quiet, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"RAY_worker_niceness": "0"} | environment,
    ) as running:
        assert running.stdout is not None
        said = ""
        while "Ray runtime started" not in said:
            line = running.stdout.readline()
            assert line, said
            said += line
        yield f"127.0.0.1:{port}"
        running.terminate()
        running.communicate()


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    """A cluster with three cores for all tests."""
    with started(*THREE) as found:
        yield found


@pytest.fixture
def cluster(address: str) -> Generator[ModuleType]:
    """Ray, joined to that cluster."""
    ray = on_ray._imported()
    ray.init(address=address, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


TWO = Team(2)


def made(
    load: object = plain, output: str = "out", team: Team = TWO, **more: object
) -> list[Outcome]:
    jobs = find_jobs(Request(("in",), output=output, plan_json="auto"), SETTINGS)
    return list(on_ray.run(jobs, SETTINGS, load, team=team, **more))  # type: ignore[arg-type]


def test_the_bytes_the_records_and_the_order_are_those_of_one_process(
    expected: dict[str, bytes], address: str
) -> None:
    events: list[Event] = []
    outcomes = made(both, team=Team(2, address), on_event=events.append)
    assert_made_as_by_one(outcomes, expected)
    assert {each.worker for each in events if isinstance(each, ByWorker)} == {0, 1}


def test_an_actor_that_is_killed_costs_nothing(
    expected: dict[str, bytes],
    address: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcomes = made(dies_once, team=Team(2, address))
    assert Path("happened").exists()
    assert_made_as_by_one(outcomes, expected)
    assert "in/c.png is tried again: its worker was killed" in caplog.text
    assert capfd.readouterr().out == "", "Ray would tell of it where --json is printed"


def test_a_picture_that_kills_its_actor_is_given_up_and_named(
    expected: dict[str, bytes], address: str
) -> None:
    outcomes = made(poisoned, team=Team(2, address))
    failed = {each.job.shown_input: each for each in outcomes if each.error is not None}
    assert [*failed] == ["in/c.png"], "and none that was beside it"
    assert isinstance(failed["in/c.png"].error, WorkerLostError)
    told = contents("out")
    assert {f"{name}_2x.png" for name in NAMES if name != ODD} == {
        name for name in told if name.endswith(".png")
    }
    assert told.items() <= expected.items()
    assert records("out")["c_2x.png"].outcome == "failed"
    assert litter("out") == []


def is_first() -> bool:
    """Whether nobody else has asked in this folder."""
    try:
        Path("first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def shared_and_deadly_once(settings: Settings) -> Model:
    """Loaded by the one that draws first; kills the first that helps it, in its first batch."""
    spread.STARTING = 0
    draws = is_first()
    calls: list[int] = []

    def denoise(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        calls.append(len(windows))
        begun = time.monotonic()
        while draws and len(calls) > 4 and not Path("happened").exists():
            assert time.monotonic() < begun + 120, "nobody came to help"
            time.sleep(0.01)
        if not draws and not Path("happened").exists():
            Path("happened").touch()
            die()
        return blurring_denoiser(x.contiguous(), sigma, windows)

    return DoubleModel(denoise)


def test_one_picture_is_shared_by_actors_and_one_that_is_killed_costs_nothing(
    folder: Path, expected: dict[str, bytes], address: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in NAMES:
        if name != ODD:
            Path(f"in/{name}.png").unlink()
    with caplog.at_level(logging.INFO, "tileup"):
        (outcome,) = made(shared_and_deadly_once, team=Team(2, address))
    assert outcome.outcome == "done"
    assert contents("out") == {name: each for name, each in expected.items() if name[0] == ODD}
    assert Path("happened").exists()
    assert "spread over 2" in caplog.text
    assert "worker 2 was killed" in caplog.text


def test_where_rays_object_store_is_full_pictures_are_drawn_without_help(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ray's own error, raised where it raises it: when what travels is put there."""
    ray = on_ray._imported()
    asked = threading.Event()

    def full(request: object) -> None:
        asked.set()
        raise ray.exceptions.ObjectStoreFullError

    evaluate = SimpleNamespace(remote=full)
    actor = SimpleNamespace(start=SimpleNamespace(remote=lambda *_: None), evaluate=evaluate)
    kind = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda load: actor))
    store = SimpleNamespace(
        exceptions=ray.exceptions,
        remote=lambda _: kind,
        get=lambda _: None,
        kill=lambda *_, **__: 0,
    )
    helper = RayAssistant(store, Helpers(1, 1, 0), here(), SETTINGS, plain)  # type: ignore[arg-type]
    pool = WorkerPool([helper])
    pool.start()
    pieces = [SimpleNamespace(pack=str, batch=number) for number in range(9)]

    def mine(piece: SimpleNamespace) -> int:
        assert asked.wait(30)
        return piece.batch

    assert [*pool.in_order(pieces, mine)] == [*range(9)]  # type: ignore[arg-type]
    words = "worker 2 takes no part: Ray's object store is full"
    wait_until(lambda: words in caplog.text)  # by its thread
    pool.close()


def test_the_command_with_two_workers(folder: Path) -> None:
    """A cluster of its own, the shipped model, and another process; against this one."""
    quick = ("--preset", "smoke", "--window", "80", "--overlap", "16", "-q")
    command = ("upscale", "in", *quick, "--no-metadata")
    assert main([*command, "-o", "one"]) == 0
    environment = {name: each for name, each in os.environ.items() if not name.startswith("RAY_")}
    ray = [sys.executable, "-m", "tileup", *command, "-o", "out", "--engine", "ray"]
    done = subprocess.run(
        [*ray, "--workers", "2"], capture_output=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert len(contents("out")) == len(NAMES)
    assert contents("out") == contents("one")


def here(**change: object) -> Here:
    Path("model").write_text("weights")
    Path("out").mkdir(exist_ok=True)
    files = {"model": contents_of(Path("model"))}
    whole = Here(versions(), Path.cwd(), files, (Path("out"),), Path("in/a.png"))
    return replace(whole, **change)  # type: ignore[arg-type]


def test_what_is_the_same_on_a_node_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path.cwd())
    assert differences(here()) == []
    Path("out/probe").touch()
    assert differences(here(probe="probe")) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"versions": {**versions(), "Ray": "2.1"}},
            "Ray is .*, and 2.1 where the run was started",
        ),
        ({"versions": {**versions(), "Python": "3.1"}}, "Python is .*, and 3.1 where"),
        ({"versions": {**versions(), "tileup": "9"}}, "tileup is .*, and 9 where"),
        ({"folder": Path("/not/there")}, "the working folder /not/there is not there"),
        ({"files": {"model": "0f"}}, "model is another file"),
        ({"files": {"gone": "0f"}}, "gone is not there"),
        ({"source": Path("in/none.png")}, "the input in/none.png cannot be read"),
        ({"homes": (Path("model"),)}, "the output folder model cannot be written to"),
        ({"probe": "none"}, "the output folder out is another one"),
    ],
)
def test_what_differs_on_a_node_is_named(
    change: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path.cwd())
    (found,) = differences(here(**change))
    assert re.search(words, found)


def test_nodes_that_cannot_draw_are_named_before_anything_is_drawn(cluster: ModuleType) -> None:
    host = cluster.nodes()[0]["NodeManagerHostname"]
    with pytest.raises(TileupError, match=rf"of 1 node these .*\n  {host} \(\w+\): model is ano"):
        on_ray._check_nodes(cluster, here(files={"model": "0f"}))
    on_ray._check_nodes(cluster, here())


def wrong_model(settings: Settings) -> Model:
    raise AssertionError("no picture is drawn by a worker that is left out")


def test_a_worker_that_cannot_draw_is_left_out(
    cluster: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(on_ray, "versions", lambda: {"tileup": "another"})
    with pytest.raises(WorkerLostError, match="3 workers in a row"):
        made(wrong_model)
    assert "is left out: tileup is" in caplog.text
    assert not Path("out", NAME).exists()


def test_how_many_workers_there_are(cluster: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    def size(workers: int | None = None, most: int = 99, **settings: object) -> tuple[object, ...]:
        chosen, team = replace(SETTINGS, **settings), Team(workers)  # type: ignore[arg-type]
        found = on_ray._size(cluster, chosen, team, most, False)
        return found.workers, found.threads, found.cpus, found.gpus

    assert size() == (1, 3, 3, 0)
    assert size(2) == (2, 1, 1, 0)
    assert size(3, most=2) == (2, 1, 1, 0)
    assert size(1, threads=2) == (1, 2, 2, 0)
    assert not caplog.records
    assert size(2, threads=2) == (2, 2, 2, 0)
    assert "room for 1 of 2 workers" in caplog.text
    with pytest.raises(TileupError, match="no room for a worker of 1 core and 1 GPUs"):
        size(device="cuda")
    with pytest.raises(TileupError, match="no room for a worker of 4 cores"):
        size(threads=4)


@pytest.mark.parametrize(
    ("nodes", "threads", "share", "workers", "cpus"),
    [
        ([(8, 4)], None, None, 8, 0.5),
        ([(8, 3)], None, None, 8, 0.375),
        ([(8, 64)], None, None, 8, 1),
        ([(8, 4), (1, 16)], None, None, 9, 0.5),
        ([(8, 4)], 1, None, 4, 1),
        ([(8, 4), (2, 8)], 2, None, 4, 2),
        ([(2, 4)], None, 0.25, 8, 0.5),
        ([(4, 0)], None, None, 4, 0),
    ],
)
def test_gpus_with_few_cores_beside_them_are_all_used(
    nodes: list[tuple[int, int]],
    threads: int | None,
    share: float | None,
    workers: int,
    cpus: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ray starts an actor only where all that is set aside for it is free."""
    resources = [{"Alive": True, "Resources": {"GPU": gpu, "CPU": cpu}} for gpu, cpu in nodes]
    ray = SimpleNamespace(nodes=lambda: resources)
    found = on_ray._size(
        ray,  # type: ignore[arg-type]
        replace(SETTINGS, threads=threads),
        Team(gpus_per_worker=share),
        999,
        True,
    )
    assert (found.workers, found.cpus, found.threads) == (workers, cpus, threads or 1)
    each = share or 1
    fit = sum(min(gpu // each, cpu // found.cpus if found.cpus else gpu) for gpu, cpu in nodes)
    assert fit >= workers, "all of them can be there at once"
    total = sum(gpu / each for gpu, _ in nodes)
    assert ("stay idle" in caplog.text) == (workers < total)


@pytest.mark.parametrize(("share", "good"), [(0.5, True), (2, True), (0, False), (1.5, False)])
def test_gpus_for_each_worker(share: float, good: bool) -> None:
    if good:
        assert Team(gpus_per_worker=share).gpus_per_worker == share
    else:
        with pytest.raises(UsageError, match="gpus-per-worker"):
            Team(gpus_per_worker=share)


def test_what_ray_cannot_do_is_refused() -> None:
    with pytest.raises(UsageError, match="not supported"):
        made(team=Team(1, "ray://head:10001"))
    jobs = find_jobs(Request(("in",), output="out"), SETTINGS)
    with pytest.raises(UsageError, match="--device cuda"):
        list(on_ray.run(jobs, replace(SETTINGS, device="cuda:1"), plain))


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tileup\[ray\]'") as caught:
        made()
    assert caught.value.exit_code == ExitCode.MISSING_EXTRA
    assert not Path("out").exists()


def test_the_end_of_an_actor_in_words() -> None:
    node = "The actor died because its node has died. Node Id: 5d Reason: it was terminated"
    memory = "2 worker(s) were killed due to the node running low on memory. Memory on the node"
    crash = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    assert [how_it_went(each) for each in (node, memory, crash)] == [
        "lost with its node",
        "ended by Ray for want of memory on its node",
        "killed",
    ]


def test_rays_own_words_are_for_those_who_want_them(caplog: pytest.LogCaptureFixture) -> None:
    on_ray._imported()
    with caplog.at_level(logging.DEBUG, "tileup"):
        logging.getLogger("ray").warning("something about tokens")
    assert ("tileup.engine.on_ray", logging.DEBUG, "ray: something about tokens") in (
        caplog.record_tuples
    )
