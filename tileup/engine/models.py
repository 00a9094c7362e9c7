"""The model of a run: loaded once, and again only where it has to be loaded in another way."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tileup.contracts import Model, ModelSpec
from tileup.engine.failures import is_out_of_memory
from tileup.enlarge.enlargers import SHARED
from tileup.settings.values import Settings
from tileup.storage.urls import is_url

Load = Callable[[Settings], Model]
"""Loads the model that settings name, with their `device`, `dtype` and `low_memory`; called when
the first input has turned out to be a picture."""


def loaded(model: Path | None, settings: Settings) -> Model:
    """The model of a run, for a `Load` that survives `pickle`.

    Args:
        model: the checkpoint; None: the one that the settings name.
        settings: of the run.

    Raises:
        ModelError: it cannot be loaded, or what enlarges before it cannot.
        UsageError: the device is not there.
    """
    # Imported here because this is where torch comes in.
    from tileup.checkpoints.load import load_model

    SHARED.of(settings)  # a file that is no upscaler ends the run, as one that is no model does
    if settings.model is not None and is_url(settings.model):
        model = None  # which has its copy on another machine elsewhere
    return load_model(settings.model if model is None else model, settings)


class Models:
    """Holds one model at a time."""

    def __init__(self, load: Load, on_loading: Callable[[], None] = lambda: None) -> None:
        """Args:
        load: loads the model.
        on_loading: told before it is loaded.
        """
        self._load = load
        self._on_loading = on_loading
        self._model: Model | None = None
        self._way: tuple[str, str, bool] | None = None
        self._batches: dict[tuple[object, ...], int] = {}
        self.seconds = 0.0
        """How long the last one took to load."""

    @property
    def spec(self) -> ModelSpec | None:
        """What planning needs to know; None before the first model is loaded."""
        return None if self._model is None else self._model.spec

    @property
    def precision(self) -> str | None:
        """What the loaded network computes in, such as float16; None before one is loaded."""
        return None if self._model is None else str(self._model.dtype).removeprefix("torch.")

    def of(self, settings: Settings) -> Model:
        """The model as settings want it loaded; the one before is given up first.

        So what a picture was made with depends on its settings alone, and not on what became of
        the pictures before it.

        Raises:
            ModelError: it cannot be loaded.
        """
        way = settings.dtype, settings.runtime, settings.low_memory
        if self._model is None or self._way != way:
            if self._model is not None:
                self._model = None
                free_memory()
            self._on_loading()
            start = time.monotonic()
            self._model, self._way = self._load(settings), way
            self._batches.clear()
            self.seconds = time.monotonic() - start
        return self._model

    def with_batch(self, settings: Settings) -> Settings:
        """Settings with as many windows at once as fit, if they leave that open.

        What fits is measured once for each kind of window, and on an NVIDIA GPU alone.
        """
        model = self.of(settings)
        if settings.batch != "auto" or not model.device.startswith("cuda"):
            return settings
        # Imported here because this is where torch comes in.
        from tileup.denoise.fitting import CudaMemory, measured_batch

        kind = settings.window, settings.cfg == 1
        if kind not in self._batches:
            try:
                self._batches[kind] = measured_batch(model, settings, CudaMemory(model.device))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._batches[kind] = 1
        return replace(settings, batch=self._batches[kind])


def free_memory() -> None:
    """Give back what nobody holds any more, on the GPU too."""
    gc.collect()
    # Only a process that has torch can have filled a GPU, so it is not imported for this.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
