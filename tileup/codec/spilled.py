"""Room for large tensors: on a device, in main memory, or in a file; their values are the same."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import tempfile
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from tileup.devices import memory_free
from tileup.errors import OutputError
from tileup.resources import lies_in_memory, memory_left

log = logging.getLogger(__name__)

IN_MEMORY = 2**30
"""Bytes up to which a tensor lies in memory, where it is not known how much is free."""
OF_FREE = 4
"""Up to this part of what is free it lies in memory otherwise: another one follows, and work."""
MAIN = torch.device("cpu")


def spilled(
    shape: tuple[int, ...], dtype: torch.dtype, what: str, device: torch.device = MAIN
) -> tuple[Tensor, mmap.mmap | None]:
    """A tensor that is yet to be filled, on a device that has room for it, else in main memory.

    Args:
        shape: of the tensor.
        dtype: of its values.
        what: it is, for messages.
        device: where it should rather lie.

    Returns:
        The tensor, and the file in which it lies, if it lies in none of these.

    Raises:
        OutputError: it has no room in the folder for temporary files.
    """
    size = prod(shape) * dtype.itemsize
    place = next((each for each in (device, MAIN) if _has_room(each, size)), None)
    if place is not None:
        return torch.empty(shape, dtype=dtype, device=place), None
    file = in_file(size, what)
    return torch.frombuffer(file, dtype=dtype).view(shape), file


def _has_room(place: torch.device, size: int) -> bool:
    """Whether so many bytes, and what follows them, find room in a device's memory."""
    free = memory_free(str(place))
    return size <= (IN_MEMORY if free is None else free // OF_FREE)


def in_file(size: int, what: str) -> mmap.mmap:
    """So many bytes of a file that nobody else sees, and that is gone with this process.

    Raises:
        OutputError: the disk has no room for them.
    """
    folder = _folder()
    try:
        free = memory_left() if lies_in_memory(folder) else None
        if free is not None and size > free // _OF_MEMORY:
            raise OSError(errno.ENOSPC, "that folder lies in memory")
        with tempfile.TemporaryFile(prefix="tileup-", dir=folder) as file:
            # A hole for which there is no room later would end the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            log.info("%s lies in a file in %s: %.1f GB", what, folder, size / 1e9)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise OutputError(
            f"{what} of {size / 1e9:.1f} GB cannot be kept in {folder} "
            f"({error.strerror or error}); name a folder with more room in TMPDIR"
        ) from error


_OF_MEMORY = 2
"""Up to this part of what is free may lie in a folder that is memory."""
_ON_DISK = Path("/var/tmp")
"""Where systems have temporary files that need not go with the memory."""


def _folder() -> Path:
    """Where temporary files go; on a disk where the usual folder lies in memory and nobody asked
    for it."""
    usual = Path(tempfile.gettempdir())
    others = not os.environ.get("TMPDIR") and lies_in_memory(usual) and os.access(_ON_DISK, os.W_OK)
    return _ON_DISK if others else usual
