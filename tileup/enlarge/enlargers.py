"""What enlarges before diffusion: Lanczos, or a model that is kept until somebody drops it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from tileup.enlarge.lanczos import enlarge
from tileup.errors import ModelError
from tileup.images.picture import Picture
from tileup.settings.values import LANCZOS, Settings
from tileup.storage.copies import given_file


class Enlarge(Protocol):
    """Brings a picture to a size; see `tileup.enlarge.lanczos.enlarge`."""

    def __call__(self, picture: Picture, width: int, height: int) -> Picture: ...


class Enlargers:
    """Holds at most one model that enlarges, loaded once for all pictures; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[object, Enlarge] | None = None

    def of(self, settings: Settings) -> Enlarge:
        """What the settings name; the model before is given up first where it is another.

        Raises:
            ModelError, MissingExtraError: as `tileup.enlarge.esrgan.load_enlarger`.
            UsageError: the device is not there.
        """
        if settings.upscaler == LANCZOS:
            return enlarge
        path = given_file(settings.upscaler)
        way = path, settings.device, *version_of(path)
        with self._lock:
            if self._held is None or self._held[0] != way:
                self._held = None
                self._held = way, _loaded(path, settings.device)
            return self._held[1]

    def drop(self) -> None:
        """Let go of the model, so that its memory is free once the picture at work is enlarged."""
        with self._lock:
            self._held = None


SHARED = Enlargers()
"""That of the process: who is short of memory drops what it holds."""


def version_of(path: Path) -> tuple[int, int]:
    """When a file was last changed, and its size.

    Raises:
        ModelError: it is not there.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(
            f"upscaler {path} cannot be read: {error.strerror}; give lanczos or a model's file"
        ) from error
    return status.st_mtime_ns, status.st_size


def _loaded(path: Path, device: str) -> Enlarge:
    # Imported here because this is where torch comes in.
    from tileup.devices import pick_device
    from tileup.enlarge.esrgan import load_enlarger

    return load_enlarger(path, pick_device(device))
