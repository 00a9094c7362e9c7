"""What the machine has: the shipped files, beside the package or inside a wheel, and memory."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from tileup.errors import CanvasMemoryError

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """Path of the shipped folder `name`: `configs` or `models`. It need not exist."""
    inside = _PACKAGE / "_data" / name
    return inside if inside.exists() else _PACKAGE.parent / name


@contextlib.contextmanager
def room_for_canvas(width: int, height: int) -> Generator[None]:
    """What is done inside holds a canvas, and nothing else of size, in the computer's memory.

    Args:
        width, height: of the output, pixels.

    Raises:
        CanvasMemoryError: there was no room; says what can help.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise CanvasMemoryError(
            f"out of memory: {width}x{height} pixels do not fit, however little of them is drawn "
            f"at once; try a smaller --scale or --max-pixels, or close other programs"
        ) from error


def memory_left() -> int | None:
    """Bytes of memory that processes can still have; None where the system does not say.

    What the system would free for them counts as free; a limit on a container counts where it is
    lower.
    """
    found = _available()
    limit, used = (_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if found is not None and limit is not None and used is not None:
        found = min(found, max(0, limit - used + (_reclaimable() or 0)))
    return found


def memory_there() -> int | None:
    """Bytes of memory that there are, whoever has them; None where the system does not say.

    The same in each run on a machine. A limit on a container counts where it is lower.
    """
    found, limit = _kilobytes("/proc/meminfo", "MemTotal:"), _number("/sys/fs/cgroup/memory.max")
    return min((each for each in (found, limit) if each is not None), default=None)


def lies_in_memory(folder: Path) -> bool:
    """Whether files of a folder, that there is or will be, take memory and no disk, as the system
    says; False where it does not."""
    folder = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    with contextlib.suppress(OSError, ValueError, IndexError):
        device = folder.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split()
            if fields[2] == number:
                return fields[fields.index("-") + 1] in ("tmpfs", "ramfs")
    return False


_MOUNTS = Path("/proc/self/mountinfo")


def _available() -> int | None:
    return _kilobytes("/proc/meminfo", "MemAvailable:")


def _reclaimable() -> int | None:
    """Bytes of files in a container's memory, which it gives up when others are wanted."""
    return _entry("/sys/fs/cgroup/memory.stat", "inactive_file")


def _kilobytes(path: str, name: str) -> int | None:
    found = _entry(path, name)
    return None if found is None else 1024 * found


def _entry(path: str, name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if line.split()[:1] == [name]:
                return int(line.split()[1])
    return None


def _number(path: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(path).read_text(encoding="utf-8"))
    return None
