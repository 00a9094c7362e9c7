"""The work of `tileup presets` and `tileup devices`."""

from __future__ import annotations

import os
import platform

from tileup.cli.tables import print_table
from tileup.settings.yaml_files import preset_names, read_preset
from tileup.wording import counted


def list_presets() -> None:
    """Print every preset with what it is for."""
    rows = [(name, read_preset(name)[0]) for name in preset_names()]
    print_table(("preset", "what it is for"), rows, numbers=False)


def list_devices() -> None:
    """Print every device that `--device` takes on this machine."""
    print_table(("device", "what it is", "memory"), _devices(), numbers=False)


def _devices() -> list[tuple[str, str, str]]:
    import torch

    found = [("cpu", f"{platform.machine()}, {counted(os.cpu_count() or 1, 'core')}", _memory())]
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        found.append((f"cuda:{number}", name, f"{_gigabytes(free)} free of {_gigabytes(total)}"))
    if torch.backends.mps.is_available():
        found.append(("mps", "Apple GPU", "shared with the CPU"))
    return found


def _memory() -> str:
    try:
        return _gigabytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return "unknown"


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
