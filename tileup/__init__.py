"""Image upscaling with diffusion models and a denoising strength for every tile.

Nothing is imported until it is used: `import tileup` costs no numpy and no torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tileup.api import load_model, make_plan, upscale
    from tileup.errors import TileupError
    from tileup.plan.tiles import Tile, TilePlan
    from tileup.settings.values import Settings
    from tileup.upscaling import Upscaled

__version__ = "0.1.0"

# OpenMP reads this once, when torch is loaded, and every way to torch leads through this file.
# Threads that wait by spinning take the cores from whatever else is at work: beside one other busy
# process that costs several times the time. Those that sleep at once are woken for every layer:
# with two threads a quarter of the time. So they look a thousand times, some microseconds, and then
# sleep.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}

__all__ = [
    "Settings",
    "Tile",
    "TilePlan",
    "TileupError",
    "Upscaled",
    "__version__",
    "load_model",
    "make_plan",
    "upscale",
]

_HOMES = {
    "Settings": "tileup.settings.values",
    "Tile": "tileup.plan.tiles",
    "TilePlan": "tileup.plan.tiles",
    "TileupError": "tileup.errors",
    "Upscaled": "tileup.upscaling",
    "load_model": "tileup.api",
    "make_plan": "tileup.api",
    "upscale": "tileup.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
