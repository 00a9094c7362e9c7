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
    """Loads the model as it was on another machine, where this one can and nothing else is asked
    for. It survives `pickle` where `load` does."""

    load: Load
    dtype: str
    """What a network without a VAE computed in on that CPU."""
    runtime: str
    """What computed it there."""

    def __call__(self, settings: Settings) -> Model:
        """The model.

        Raises:
            ModelError: it cannot be loaded.
        """
        model = self.load(settings)
        wanted = replace(
            settings,
            dtype=self.dtype if settings.dtype == "auto" else settings.dtype,
            runtime=self.runtime if settings.runtime == "auto" else settings.runtime,
        )
        if wanted == settings or not _settles(model) or _way(model) == (self.dtype, self.runtime):
            return model
        try:
            return self.load(wanted)
        except UsageError as error:
            log.info(
                "%s computes in %s by %s, others in %s by %s, which differs by rounding: %s",
                *(platform.node(), *_way(model), self.dtype, self.runtime, error),
            )
            return model


def _settles(model: Model) -> bool:
    """Whether `auto` was timed for it: a network without a VAE, on a CPU."""
    return model.device == "cpu" and not model.spec.text


def _way(model: Model) -> tuple[str, str]:
    return str(model.dtype).removeprefix("torch."), model.runtime


def alike(load: Load, settings: Settings) -> Load:
    """A `Load` for many machines; it settles here what `auto` means on a CPU.

    Args:
        load: loads the model of the settings.
        settings: of the run.
    """
    if "auto" not in (settings.dtype, settings.runtime) or settings.device not in ("auto", "cpu"):
        return load
    # Imported here because only this needs to know the family, and loading brings torch.
    from tileup.checkpoints.find import find_model, identify

    try:
        if identify(find_model(settings.model), settings.prediction).text:
            return load
        model = load(replace(settings, device="cpu"))
    except TileupError:  # the workers will tell
        return load
    log.info("on CPUs the network computes in %s by %s, as here", *_way(model))
    return LoadAlike(load, *_way(model))
