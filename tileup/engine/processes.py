"""Workers that are processes on this machine, started anew and not forked: GPUs outlive no fork."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Generator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from tileup.contracts import Model
from tileup.engine.messages import FromWorker, Lost, Stop, ToWorker, WorkerIdle
from tileup.engine.models import Load
from tileup.engine.signals import ENDING
from tileup.engine.worker import Bench, Inbox, forward_words, work
from tileup.settings.values import Settings

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """Where a worker computes."""

    number: int
    """Which worker it is, from 0: with several GPUs, they take turns."""
    threads: int | None
    """Threads on a CPU; None: as many as torch takes by itself."""


@dataclass(frozen=True, slots=True)
class LoadAt:
    """Loads the model for one worker. It survives `pickle` where `load` does."""

    load: Load
    slot: WorkerSlot

    def __call__(self, settings: Settings) -> Model:
        """The model, with the threads and the device of this worker.

        Raises:
            ModelError: it cannot be loaded.
        """
        device = _device(settings.device, self.slot.number)
        return self.load(replace(settings, threads=self.slot.threads, device=device))


def _device(device: str, number: int) -> str:
    """The device of a worker: where it may choose among several GPUs, one of them."""
    if device not in ("auto", "cuda"):
        return device
    # Imported here because this is where torch comes in.
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{number % count}" if count > 1 else device


def threads_each(settings: Settings, workers: int) -> int | None:
    """Threads for each of several workers on this machine: as asked for, or its share of cores."""
    if settings.threads is not None or "OMP_NUM_THREADS" in os.environ:
        return settings.threads
    return max(1, cores() // workers)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Processes:
    """Workers of the local engine."""

    def __init__(self, count: int, settings: Settings, load: Load, overlap: bool) -> None:
        """Args:
        count: how many.
        settings: of all pictures.
        load: loads the model; it survives `pickle`.
        overlap: whether a worker reads and writes beside drawing.
        """
        self.count = count
        self._settings = settings
        self._load = load
        self._overlap = overlap
        self._heard: queue.Queue[tuple[int, FromWorker]] = queue.Queue()
        self._processes: dict[int, SpawnProcess] = {}
        self._connections: dict[int, Connection] = {}

    def start(self, worker: int) -> None:
        """Start a process. What it says is heard by a thread of its own."""
        ours, theirs = multiprocessing.Pipe()
        load = LoadAt(self._load, WorkerSlot(worker, threads_each(self._settings, self.count)))
        level = logging.getLogger("tileup").getEffectiveLevel()
        process = multiprocessing.get_context("spawn").Process(
            target=serve,
            args=(theirs, self._settings, load, self._overlap, level),
            name=f"tileup-worker-{worker}",
            daemon=True,
        )
        with deaf():
            process.start()
        theirs.close()  # so that its end is heard
        self._processes[worker], self._connections[worker] = process, ours
        threading.Thread(
            target=self._listen, args=(worker, process, ours), name=process.name, daemon=True
        ).start()

    def _listen(self, worker: int, process: SpawnProcess, connection: Connection) -> None:
        try:
            while True:
                self._heard.put((worker, connection.recv()))
        except (EOFError, OSError):
            pass
        except Exception as error:  # of a process that is out of its mind
            log.debug("a worker cannot be understood", exc_info=error)
            process.kill()
        process.join()
        connection.close()
        self._heard.put((worker, Lost(how_it_ended(process.exitcode))))

    def give(self, worker: int, message: ToWorker) -> None:
        """Send a process something."""
        with contextlib.suppress(OSError, ValueError):
            self._connections[worker].send(message)

    def hear(self, seconds: float) -> tuple[int, FromWorker] | None:
        """The next that any process says."""
        try:
            return self._heard.get(timeout=seconds) if seconds > 0 else self._heard.get_nowait()
        except queue.Empty:
            return None

    def end(self, worker: int) -> None:
        """Kill a process."""
        self._processes[worker].kill()

    def close(self) -> None:
        """Kill all processes."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join()


def how_it_ended(code: int | None) -> str:
    """The end of a process in words, by its exit code."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    hint = ", as the system does where memory is short" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


@contextlib.contextmanager
def deaf() -> Generator[None]:
    """Processes started here never hear what ends a run: the run does, and tells them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(
    connection: Connection, settings: Settings, load: Load, overlap: bool, level: int
) -> None:
    """What a process does until it is told to stop, or the run has gone.

    Args:
        connection: to the run.
        settings: of all pictures.
        load: loads the model.
        overlap: whether reading and writing go on beside drawing.
        level: from which on words are sent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it cannot be blocked before the start
    if "fork" in multiprocessing.get_all_start_methods():
        # Libraries make locks as they are imported. Those of "spawn" have names, and are left
        # behind, with a warning at the end of the run, by a process that is killed.
        multiprocessing.set_start_method("fork", force=True)
    sending, inbox = threading.Lock(), Inbox()

    def tell(message: FromWorker) -> None:
        try:
            with sending:
                connection.send(message)
        except OSError:
            os._exit(1)  # the run has gone, and its locks with it: write nothing more

    forward_words(tell, level)
    bench = Bench(settings, inbox, tell)

    def listen() -> None:
        try:
            while True:
                message: ToWorker = connection.recv()
                if isinstance(message, Stop):  # what is being written still waits for an answer
                    threading.Thread(target=leave).start()
                else:
                    inbox.put(message)
        except (EOFError, OSError):
            os._exit(1)

    def leave() -> None:
        bench.finish()
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    tell(WorkerIdle())
    work(bench, inbox, tell, settings, load, overlap)
