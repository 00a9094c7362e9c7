"""Actors of Ray that evaluate windows for the one that draws the picture.

They are started by that one, wherever the cluster has room. What they are shown and what they
answer lies in Ray's object store on its way.
"""

from __future__ import annotations

import contextlib
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tileup.engine.desk import attempt
from tileup.engine.failures import as_tileup_error
from tileup.engine.models import Load, Models
from tileup.engine.pool import PoolWorkerLostError
from tileup.engine.preflight import Here, differences
from tileup.engine.ray_ends import how_it_went
from tileup.engine.spread import PendingBatch, Spread, answered
from tileup.errors import OutOfMemoryError, TileupError
from tileup.settings.values import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from tileup.denoise.window_requests import WindowRequest


@dataclass(frozen=True, slots=True)
class Helpers:
    """How many help, and what Ray sets aside for each."""

    count: int
    cpus: float
    gpus: float


def spread_on_ray(helpers: Helpers, here: Here, settings: Settings, load: Load) -> Spread:
    """Actors that help the one that this is called in.

    Args:
        helpers: how many.
        here: how it must be where they are.
        settings: of the run.
        load: loads the model, with the threads of each.
    """
    import ray

    actors = [RayAssistant(ray, helpers, here, settings, load) for _ in range(helpers.count)]
    return Spread(actors)


class AssistingActor:
    """What runs in Ray: it holds a model, and evaluates batches of windows."""

    def __init__(self, load: Load) -> None:
        """Args:
        load: loads the model.
        """
        self._models = Models(load)

    def start(self, here: Here, settings: Settings) -> TileupError | None:
        """Load the model; why this node takes no part, if it does not.

        Args:
            here: how it must be on this node.
            settings: of the run.
        """
        if wrong := differences(here):
            return TileupError(f"{platform.node()} is left out: {'; '.join(wrong)}")
        loaded = attempt(partial(self._models.of, settings))
        return as_tileup_error(loaded) if isinstance(loaded, Exception) else None

    def evaluate(self, request: WindowRequest) -> Any:  # noqa: ANN401
        """x0 of a batch as an array, or why there is none."""
        return answered(request, self._models.of)


class RayAssistant:
    """An actor, as the one sees it whom it helps; satisfies `tileup.engine.pool.PoolWorker`."""

    def __init__(
        self, ray: ModuleType, helpers: Helpers, here: Here, settings: Settings, load: Load
    ) -> None:
        """Args:
        ray: joined to a cluster.
        helpers: what Ray sets aside for it.
        here: how it must be where it is.
        settings: of the run.
        load: loads the model.
        """
        self._ray = ray
        self._kind = ray.remote(AssistingActor).options(
            num_cpus=helpers.cpus, num_gpus=helpers.gpus, max_restarts=0
        )
        self._here, self._settings, self._load = here, settings, load
        self._actor: Any = None
        self._ended = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the actor; returns when the cluster has had room for it and its model is loaded.

        Raises:
            PoolWorkerLostError: it ended before.
            TileupError: the model cannot be loaded, or its node differs.
        """
        with self._lock:
            if self._ended:
                raise PoolWorkerLostError("ended")
            self._actor = self._kind.remote(self._load)
        error = self._heard(lambda: self._actor.start.remote(self._here, self._settings))
        if error is not None:
            raise error

    def do(self, piece: PendingBatch) -> Tensor:
        """x0 of a batch, in memory of this process, on the device of the batch.

        Raises:
            PoolWorkerLostError: the actor is lost.
            OutOfMemoryError: Ray has ended it, as memory is short on its node.
            TileupError: Ray's object store is full.
            Exception: what happened there.
        """
        import torch

        request = piece.pack(piece.batch)
        found = self._heard(lambda: self._actor.evaluate.remote(request))
        if isinstance(found, Exception):
            raise found
        return torch.tensor(found).to(piece.batch.x)  # a copy: the store's own is not to be written

    def _heard(self, told: Callable[[], Any]) -> Any:  # noqa: ANN401
        """What the actor answers to what it is told."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(told())
        except errors.RayActorError as error:
            raise PoolWorkerLostError(how_it_went(str(error))) from error
        except errors.OutOfMemoryError as error:
            raise OutOfMemoryError(f"it was {how_it_went(str(error))}") from error
        except (errors.ObjectStoreFullError, errors.OutOfDiskError) as error:
            raise TileupError("Ray's object store is full, and it finds no disk") from error

    def end(self) -> None:
        """Kill the actor."""
        with self._lock:
            self._ended = True
            if self._actor is not None:
                with contextlib.suppress(Exception):
                    self._ray.kill(self._actor, no_restart=True)
