"""Nodes of several kinds compute alike: what `auto` means is settled where a run is started."""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tileup.engine.models import Load
from tileup.errors import TileupError, UsageError
from tileup.settings.values import Settings

if TYPE_CHECKING:
    from tileup.contracts import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadAlike:
    """Loads a checkpoint like the bundled one as another machine does on its CPU, where this one
    can. It survives `pickle` where `load` does."""

    load: Load
    dtype: str
    """What is computed in there, where that is left open; `auto`: what the runtime has."""
    runtime: str
    """What computes there, where that is left open."""

    def __call__(self, settings: Settings) -> Model:
        """The model.

        Raises:
            ModelError: it cannot be loaded.
            UsageError: its device is not there.
        """
        # Imported here because this is where torch comes in.
        from tileup.devices import pick_device

        if pick_device(settings.device) != "cpu":
            return self.load(settings)
        try:
            return self.load(self._settled(settings))
        except UsageError as error:
            log.info(
                "%s does not compute in %s, as others do, which differs by rounding: %s",
                *(platform.node(), self.way, error),
            )
            return self.load(settings)

    @property
    def way(self) -> str:
        """In words."""
        return self.runtime if self.dtype == "auto" else f"{self.dtype} by {self.runtime}"

    def _settled(self, settings: Settings) -> Settings:
        """Settings that leave nothing open, but what is asked for in another precision."""
        if settings.dtype not in ("auto", self.dtype):  # drawn again, as there were no numbers
            return replace(settings, runtime="torch") if settings.runtime == "auto" else settings
        return replace(settings, dtype=self.dtype, runtime=self.runtime)


def alike(load: Load, settings: Settings) -> Load:
    """A `Load` for many machines; what `auto` means on a CPU is settled here.

    Args:
        load: loads the model of the settings.
        settings: of the run.
    """
    if "auto" not in (settings.dtype, settings.runtime) or settings.device not in ("auto", "cpu"):
        return load
    from tileup.checkpoints.find import find_model, identified

    try:
        known = identified(find_model(settings.model), settings.prediction)
        if known.spec.text:
            return load
        # Imported here because this is where torch comes in.
        from tileup.checkpoints.load import way_of_bundled

        dtype, runtime = way_of_bundled(known, settings, "cpu")
    except TileupError:  # the workers will tell
        return load
    # Integers go with no precision that is asked for.
    precision = "auto" if runtime == "int8" else str(dtype).removeprefix("torch.")
    settled = LoadAlike(load, precision, runtime)
    log.info("on CPUs the network computes in %s", settled.way)
    return settled
