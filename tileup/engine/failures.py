"""What a user is told about an error that nobody foresaw."""

from __future__ import annotations

import errno
import sys

from tileup.errors import OutOfMemoryError, OutputError, TileupError, UnreachableError
from tileup.storage.patience import StoreError

_WRITING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG, errno.EROFS, errno.EIO}
)
"""System errors that mean that something cannot be written."""
_SIGNS = (
    *("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory"),
    # A library that finds no room when it is loaded, and a thread that finds none for its stack.
    *("failed to map segment", "can't start new thread"),
    "could not create a primitive",  # oneDNN, which finds no room for its code
)


def as_tileup_error(error: Exception) -> TileupError:
    """The same error as one that has an exit code and a sentence; the original is its cause."""
    if isinstance(error, TileupError):
        return error
    told: TileupError
    if isinstance(error, StoreError):
        told = UnreachableError(f"{error.filename} cannot be read ({error.strerror})")
    elif is_out_of_memory(error):
        told = OutOfMemoryError(
            "out of memory; try a smaller --batch, a smaller --window or a smaller --scale"
        )
    elif isinstance(error, OSError) and error.errno in _WRITING:
        place = error.filename or "the output"
        told = OutputError(f"{place} cannot be written: {error.strerror}")
    else:
        told = TileupError(
            f"unexpected {type(error).__name__}: {error} "
            f"(-vv shows where; please report it as a bug)"
        )
    told.__cause__ = error
    return told


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice, on any device."""
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    # Only a process that has torch can meet torch's errors, so it is not imported for this.
    torch = sys.modules.get("torch")
    known: object = getattr(torch, "OutOfMemoryError", None)
    if isinstance(known, type) and isinstance(error, known):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    kinds = RuntimeError | ImportError
    return isinstance(error, kinds) and any(sign in str(error).lower() for sign in _SIGNS)
