"""Workers that are Ray's actors, on this machine or on a cluster: one model in each.

Paths travel, and no pixels: inputs, models and outputs lie on disks that all nodes see under the
same names. Ray itself is imported when a run begins.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tileup.engine.actor import Actor, Errand
from tileup.engine.crew import share_out
from tileup.engine.engine import Team
from tileup.engine.messages import FromWorker, Lost, ToWorker
from tileup.engine.models import Load
from tileup.engine.outcomes import OnEvent, Outcome
from tileup.engine.preflight import Here, differences, files_of, homes, probes, versions
from tileup.engine.processes import LoadAt, WorkerSlot, cores
from tileup.engine.ray_assistants import Helpers
from tileup.engine.ray_ends import FOR_WANT_OF_MEMORY, WITH_ITS_NODE, how_it_went
from tileup.engine.request import Job
from tileup.engine.signals import ENDING
from tileup.engine.spread import can_be_shared, is_spread
from tileup.engine.uniform import alike
from tileup.errors import MissingExtraError, TileupError, UsageError
from tileup.settings.values import Settings
from tileup.wording import counted

log = logging.getLogger(__name__)

_STORE = 200 * 2**20
"""Bytes of shared memory for Ray's objects on a machine of our own: only words go there, and
containers have little."""
_PATIENCE = 120.0
"""Seconds that a node has to answer before anything is drawn."""
_GONE_AFTER = 60.0
"""Seconds after which waiting for a place in the cluster is said."""


def run(
    jobs: Sequence[Job],
    settings: Settings,
    load: Load,
    on_event: OnEvent = lambda event: None,
    *,
    team: Team = Team(),  # noqa: B008  A frozen value.
    fail_fast: bool = False,
) -> Iterator[Outcome]:
    """Make pictures; arguments and errors as `tileup.engine.engine.Engine`.

    Raises:
        MissingExtraError: Ray is not installed.
        TileupError: there is no such cluster, or some of its nodes cannot draw.
    """
    ray = _imported()
    to_make = [job for job in jobs if not job.finished]
    if any(job.input is None or job.output is None for job in to_make):
        raise UsageError("--engine ray reads and writes files; use --engine local for streams")
    if settings.device.startswith("cuda:"):
        raise UsageError("Ray chooses among the GPUs; give --device cuda")
    # Workers without a picture of their own help with those of others, where that may pay.
    most = sys.maxsize if can_be_shared(to_make, settings) else len(to_make)
    with _cluster(ray, settings, team, most) as size:
        errand = _errand(to_make, settings, load, not fail_fast)
        if is_spread(to_make, size.workers, settings):
            errand = replace(errand, helpers=Helpers(size.workers - 1, size.cpus, size.gpus))
            size = replace(size, workers=1)
        if size.shared:
            with probes(to_make) as probe:
                _check_nodes(ray, replace(errand.here, probe=probe))
            errand = replace(errand, load=alike(load, settings))
        yield from share_out(jobs, settings, Actors(ray, size, errand), on_event, fail_fast)


def _imported() -> ModuleType:
    """Ray, told to be quiet.

    Raises:
        MissingExtraError: it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            "--engine ray needs Ray, which is not installed: pip install 'tileup[ray]'"
        ) from error
    for name in ("ray", "ray._private"):  # it clears those of the first, and what it says then
        logging.getLogger(name).handlers[:] = [_Aside()]
    logging.getLogger("ray._private").propagate = False
    return ray


_ENVIRONMENT = {
    # Under `uv run` Ray would send the working folder to each worker, and build an environment.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of actors that are lost: handled here
    # On a machine of our own: 15 by default, which starves workers beside anything else at work.
    "RAY_worker_niceness": "0",
}


class _Aside(logging.Handler):
    """What Ray says, for those who ask for everything: it would break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        log.debug("ray: %s", record.getMessage())


@dataclass(frozen=True, slots=True)
class Size:
    """How many workers, and what each of them has."""

    workers: int
    threads: int
    cpus: float
    """Cores that Ray sets aside for each, or a part of one."""
    gpus: float
    """GPUs that Ray sets aside for each."""
    shared: bool
    """Whether the cluster is not ours alone."""


@contextlib.contextmanager
def _cluster(ray: ModuleType, settings: Settings, team: Team, most: int) -> Generator[Size]:
    """A cluster to draw on: the one of an address, or one of our own on this machine."""
    address = team.address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise UsageError(
            "Ray's client (ray://) is not supported; run tileup on a node of the cluster"
        )
    ours = not ray.is_initialized()
    before = {each: signal.getsignal(each) for each in ENDING}
    try:
        if ours:
            _start(ray, address, settings, team, most)
        # What Ray prints goes to standard output, where --json is.
        ray._private.worker._worker_logs_enabled = False
        for number, handler in before.items() if _is_main() else ():
            signal.signal(number, handler)  # Ray puts its own there
        yield _size(ray, settings, team, most, shared=address != "local")
    finally:
        if ours and ray.is_initialized():
            ray.shutdown()
        for number, handler in before.items() if _is_main() else ():
            signal.signal(number, handler)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _start(ray: ModuleType, address: str, settings: Settings, team: Team, most: int) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False}
    try:
        if address == "local":
            workers = max(1, min(team.workers or 1, most))
            cpus = max(cores(), workers * (settings.threads or 1))
            ray.init(
                address="local",
                num_cpus=cpus,
                object_store_memory=_STORE,
                include_dashboard=False,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except Exception as error:
        raise TileupError(
            f"no Ray cluster at {address}: {' '.join(str(error).split())} "
            f"(here are Ray {ray.__version__} and Python {platform.python_version()}; a cluster "
            f"that asks for a token wants RAY_AUTH_MODE=token)"
        ) from error


def _size(ray: ModuleType, settings: Settings, team: Team, most: int, shared: bool) -> Size:
    """How many workers fit: as many as asked for, else one for each GPU, else one for each node.

    Raises:
        TileupError: none fits.
    """
    nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    gpus = _gpus_each(settings, team, sum(each.get("GPU", 0) for each in nodes))
    if gpus:
        threads = settings.threads or 1
        cpus, room = _cores_beside(nodes, gpus, settings.threads)
    else:
        hosts = [int(each["CPU"]) for each in nodes if each.get("CPU", 0) >= 1]
        each = -(-(team.workers or len(hosts)) // max(1, len(hosts)))
        threads = settings.threads or max(1, min(hosts, default=1) // each)
        cpus = threads
        room = sum(host // cpus for host in hosts)
        room = len(hosts) if team.workers is None and room else room
    if not room:
        raise TileupError(
            f"the Ray cluster has no room for a worker of {counted(threads, 'core')} and "
            f"{gpus:g} GPUs"
        )
    workers = team.workers or room
    if workers > room:
        log.warning(
            "the cluster has room for %d of %d workers: others begin when it grows", room, workers
        )
    return Size(max(1, min(workers, most)), threads, cpus, gpus, shared)


def _cores_beside(
    nodes: Sequence[Mapping[str, float]], gpus: float, threads: int | None
) -> tuple[float, int]:
    """Cores for each worker with GPUs, and how many workers there is room for.

    Args:
        nodes: what each has.
        gpus: of each worker.
        threads: as they were asked for; None: one, or less where a node has more GPUs than cores.
    """
    fit = [(int(each.get("GPU", 0) / gpus + 1e-9), each.get("CPU", 0)) for each in nodes]
    room = sum(count for count, _ in fit)
    if threads is None:
        shares = [cores / count for count, cores in fit if count]
        return min([1, *(math.floor(share * 10_000) / 10_000 for share in shares)]), room
    there = sum(min(count, int(cores // threads)) for count, cores in fit)
    if 0 < there < room:
        log.warning(
            "GPUs for %d workers and cores for %d: some stay idle with --threads %d",
            *(room, there, threads),
        )
    return threads, there


def _gpus_each(settings: Settings, team: Team, there: float) -> float:
    if settings.device not in ("auto", "cuda"):
        return 0
    if team.gpus_per_worker is not None:
        return team.gpus_per_worker
    # Without asking for one, a worker would be shown none, even where there are some.
    return 1 if settings.device == "cuda" or there else 0


def _check_nodes(ray: ModuleType, here: Here) -> None:
    """Ask each node whether it can draw.

    Raises:
        TileupError: names each node that cannot, and why.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [each for each in ray.nodes() if each["Alive"]]
    nodes = [each for each in nodes if {"CPU", "GPU"} & each["Resources"].keys()]
    ask = ray.remote(differences)
    asked = {
        ask.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(each["NodeID"], soft=False),
        ).remote(here): f"{each['NodeManagerHostname']} ({each['NodeID'][:8]})"
        for each in nodes
    }
    answered, _ = ray.wait([*asked], num_returns=len(asked), timeout=_PATIENCE)
    wrong = [
        f"{name}: {what}"
        for ref, name in asked.items()
        for what in (_answer(ray, ref) if ref in answered else ["gives no answer"])
    ]
    if wrong:
        raise TileupError(
            f"of {counted(len(nodes), 'node')} these cannot draw:\n  " + "\n  ".join(wrong)
        )


def _answer(ray: ModuleType, ref: Any) -> list[str]:  # noqa: ANN401
    try:
        return list(ray.get(ref))
    except ray.exceptions.OutOfMemoryError as error:
        return [f"the process that was asked was {how_it_went(str(error))}"]
    except ray.exceptions.RayError as error:
        return [f"cannot run tileup: {str(error).strip().splitlines()[-1]}"]


def _errand(jobs: Sequence[Job], settings: Settings, load: Load, overlap: bool) -> Errand:
    here = Here(
        versions=versions(),
        folder=Path.cwd(),
        files=files_of(settings),
        homes=homes(jobs),
        source=next((job.input for job in jobs if job.input and job.input.exists()), None),
    )
    level = logging.getLogger("tileup").getEffectiveLevel()
    return Errand(here, settings, load, overlap, level)


class Actors:
    """Workers of the Ray engine."""

    def __init__(self, ray: ModuleType, size: Size, errand: Errand) -> None:
        """Args:
        ray: joined to a cluster.
        size: how many, and what each of them has.
        errand: what they do.
        """
        load = LoadAt(errand.load, WorkerSlot(0, size.threads))
        self.errand = replace(errand, load=load)
        self.count = size.workers
        self._ray = ray
        self._kind = ray.remote(Actor).options(
            num_cpus=size.cpus,
            num_gpus=size.gpus,
            max_restarts=0,  # it is started anew from here, where it is known what it had
            max_concurrency=3,  # it is heard, told something, and told to stop
        )
        self._actors: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self._turn = 0
        self._heard = time.monotonic()

    def start(self, worker: int) -> None:
        """Start an actor, where the cluster has room for it."""
        actor = self._kind.remote(self.errand)
        self._actors[worker] = actor
        self._streams[worker] = actor.serve.options(num_returns="streaming").remote()

    def give(self, worker: int, message: ToWorker) -> None:
        """Tell an actor something."""
        self._actors[worker].put.remote(message)

    def hear(self, seconds: float) -> tuple[int, FromWorker] | None:
        """The next that any actor says; each has its turn."""
        if not self._streams:
            time.sleep(seconds)
            return None
        order = sorted(self._streams, key=lambda worker: (worker - self._turn) % self.count)
        by_stream = {self._streams[worker]: worker for worker in order}
        ready, _ = self._ray.wait([*by_stream], num_returns=1, timeout=seconds, fetch_local=False)
        if not ready:
            self._complain()
            return None
        self._heard = time.monotonic()
        worker = by_stream[ready[0]]
        self._turn = worker + 1
        return worker, self._next(worker)

    def _next(self, worker: int) -> FromWorker:
        try:
            message: FromWorker = self._ray.get(next(self._streams[worker]))
        except StopIteration:
            return self._lost(worker, "ended")
        except (
            self._ray.exceptions.RayActorError,
            self._ray.exceptions.OutOfMemoryError,
        ) as error:
            return self._lost(worker, how_it_went(str(error)))
        except self._ray.exceptions.RayError as error:
            log.debug("an actor cannot be heard", exc_info=error)
            return self._lost(worker, f"lost ({type(error).__name__})")
        return message

    def _lost(self, worker: int, how: str) -> Lost:
        self.end(worker)  # one that is only out of reach must not go on writing
        del self._streams[worker]
        return Lost(how, node=how == WITH_ITS_NODE, memory=how == FOR_WANT_OF_MEMORY)

    def _complain(self) -> None:
        """Say that nothing comes, where that is because nobody is at work."""
        if time.monotonic() > self._heard + _GONE_AFTER:
            self._heard = time.monotonic()
            log.warning("nothing has come from the cluster for a minute: %s", self._room())

    def _room(self) -> str:
        there = self._ray.available_resources()
        return f"{there.get('CPU', 0):g} cores and {there.get('GPU', 0):g} GPUs are free"

    def end(self, worker: int) -> None:
        """Kill an actor."""
        with contextlib.suppress(Exception):
            self._ray.kill(self._actors[worker], no_restart=True)

    def close(self) -> None:
        """Kill all actors that are left."""
        for worker in self._streams:
            self.end(worker)
