"""A file becomes a model on a device."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tileup.checkpoints.find import Identified, find_model, identified
from tileup.checkpoints.given import refuse_parts, refuse_runtime
from tileup.contracts import Model
from tileup.devices import PRECISIONS, pick_device, pick_dtype, use_threads
from tileup.errors import ModelError
from tileup.families.bundled import load_bundled
from tileup.families.bundled_header import is_ranged
from tileup.families.runtimes import INT8, TORCH, pick_runtime
from tileup.settings.values import Settings

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def load_model(model: str | Path | None = None, settings: Settings | None = None) -> Model:
    """Load a checkpoint.

    Args:
        model: a file or a model's name; None is the bundled one.
        settings: device, precision and the parts that come from other files.

    Raises:
        ModelError: the file is missing, unreadable, damaged or of an unknown family.
        UsageError: the device is not there.
    """
    settings = settings or Settings()
    path = find_model(None if model is None else str(model))
    known = identified(path, settings.prediction)
    device = pick_device(settings.device)
    use_threads(settings.threads)
    if known.found is None:
        refuse_parts(settings, path)
        if settings.compile:
            log.warning("--compile: the bundled network is left as it is, which is as fast")
        return load_bundled(path, known.spec, device, *way_of_bundled(known, settings, device))
    refuse_runtime(settings, path)
    from tileup.checkpoints.assemble import assemble

    return assemble(
        known, settings, device, pick_dtype(settings.dtype, device, known.spec.precision)
    )


def way_of_bundled(known: Identified, settings: Settings, device: str) -> tuple[torch.dtype, str]:
    """What a checkpoint like the bundled one computes in, and what computes it.

    Raises:
        ModelError: it does not say how its maps are rounded, and shall be.
        UsageError: that cannot be on this device.
    """
    ranged = is_ranged(known.checkpoint)
    if settings.runtime == INT8 and not ranged:
        name = known.checkpoint.path.name
        raise ModelError(f"--runtime int8: {name} does not say how its maps are rounded")
    asked = settings.dtype if settings.runtime in ("auto", TORCH) else "float32"
    dtype = pick_dtype(asked, device, known.spec.precision)
    rounded = ranged and settings.dtype == "auto"
    runtime = pick_runtime(settings.runtime, device, dtype, rounded=rounded)
    way = f"{str(dtype).removeprefix('torch.')} by {runtime}"
    log.info("the network computes in %s", "integers of 8 bits" if runtime == INT8 else way)
    return PRECISIONS["float32"] if runtime == INT8 else dtype, runtime
