"""A torchvision that cannot be imported must not stop diffusers and transformers.

k-diffusion requires torchvision, whose builds do not match every build of torch: beside a CPU-only
torch its import fails, and then theirs do. They take a torchvision that is hidden for one that is
not installed, and need none for what tileup uses.
"""

from __future__ import annotations

import importlib
import sys


def shield_torchvision() -> bool:
    """Hide a torchvision that does not import; to be called before diffusers and transformers are.

    Returns:
        Whether it is hidden now.
    """
    if "torchvision" not in sys.modules:
        try:
            importlib.import_module("torchvision")
        except Exception:  # noqa: BLE001  A broken build fails with whatever its code runs into.
            for name in [each for each in sys.modules if each.split(".")[0] == "torchvision"]:
                del sys.modules[name]
            sys.modules["torchvision"] = None  # type: ignore[assignment]
    return sys.modules["torchvision"] is None
