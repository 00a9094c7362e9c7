"""Processes on this machine that evaluate windows for the one that draws the picture."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from tileup.engine.desk import attempt
from tileup.engine.failures import as_tileup_error
from tileup.engine.messages import LogLine, WorkerIdle
from tileup.engine.models import Load, Models
from tileup.engine.pool import PoolWorkerLostError
from tileup.engine.processes import LoadAt, WorkerSlot, deaf, how_it_ended, threads_each
from tileup.engine.spread import PendingBatch, Spread, answered
from tileup.engine.worker import forward_words
from tileup.settings.values import Settings

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from torch import Tensor


def spread_here(workers: int, settings: Settings, load: Load) -> Spread:
    """Several processes on this machine for one picture; this one is the first of them.

    Args:
        workers: how many, 2 or more.
        settings: of the run.
        load: loads the model; it survives `pickle`.
    """
    threads = threads_each(settings, workers)
    doers = [
        Assistant(settings, LoadAt(load, WorkerSlot(number, threads)))
        for number in range(1, workers)
    ]
    return Spread(doers, threads)


class Assistant:
    """A process that evaluates batches of windows; satisfies `tileup.engine.pool.PoolWorker`."""

    def __init__(self, settings: Settings, load: LoadAt) -> None:
        """Args:
        settings: of the run.
        load: loads the model there.
        """
        self._settings = settings
        self._load = load
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._ended = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process; returns when its model is loaded.

        Raises:
            PoolWorkerLostError: it ended before.
            TileupError: the model cannot be loaded.
        """
        ours, theirs = multiprocessing.Pipe()
        level = logging.getLogger("tileup").getEffectiveLevel()
        process = multiprocessing.get_context("spawn").Process(
            target=assist,
            args=(theirs, self._settings, self._load, level),
            name=f"tileup-worker-{self._load.slot.number}",
            daemon=True,
        )
        with self._lock:
            if self._ended:
                raise PoolWorkerLostError("ended")
            with deaf():
                process.start()
            self._process, self._connection = process, ours
        theirs.close()  # so that its end is heard
        self._told()

    def do(self, piece: PendingBatch) -> Tensor:
        """x0 of a batch, in memory of this process, on the device of the batch.

        Raises:
            PoolWorkerLostError: the process has ended.
            Exception: what happened there.
        """
        import torch

        assert self._connection is not None
        with contextlib.suppress(OSError):  # its end is heard below
            self._connection.send(piece.pack(piece.batch))
        return torch.from_numpy(self._told()).to(piece.batch.x)

    def _told(self) -> Any:  # noqa: ANN401
        """What the process says next, beside words for the log."""
        assert self._connection is not None
        assert self._process is not None
        try:
            while isinstance(said := self._connection.recv(), LogLine):
                logging.getLogger(said.logger).log(said.level, "%s", said.text)
        except (EOFError, OSError) as error:
            self._process.join()
            raise PoolWorkerLostError(how_it_ended(self._process.exitcode)) from error
        if isinstance(said, Exception):
            raise said
        return said

    def end(self) -> None:
        """Kill the process."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()
                self._process.join()


def assist(connection: Connection, settings: Settings, load: LoadAt, level: int) -> None:
    """What a process does until the run has gone.

    Args:
        connection: to the run.
        settings: with which the model is loaded at first.
        load: loads the model.
        level: from which on words are sent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it cannot be blocked before the start
    if "fork" in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("fork", force=True)  # as `tileup.engine.processes.serve`
    forward_words(connection.send, level)
    models = Models(load)
    try:
        loaded = attempt(partial(models.of, settings))
        if isinstance(loaded, Exception):
            connection.send(as_tileup_error(loaded))
            return
        connection.send(WorkerIdle())
        while True:
            connection.send(answered(connection.recv(), models.of))
    except (EOFError, OSError):
        os._exit(1)  # the run has gone
