"""Settings and the model they are for, resolved together: the model's family has defaults too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tileup.checkpoints.doubts import prediction_notes
from tileup.checkpoints.few_steps import few_steps_notes
from tileup.checkpoints.find import Identified, find_model, identified
from tileup.checkpoints.given import check_given
from tileup.contracts import ModelSpec, RawSettings
from tileup.plan.itinerary import window_size
from tileup.plan.modes import sampler_of
from tileup.plan.schedules import known_scheduler
from tileup.settings.layers import layered, notes_on, resolve, settings_of
from tileup.settings.values import Settings


@dataclass(frozen=True, slots=True)
class Resolved:
    """Complete settings, and the model they name."""

    settings: Settings
    model: Path
    """The checkpoint's file."""
    known: Identified
    """What its header says."""
    notes: tuple[str, ...] = ()
    """What the user may not have meant, in whole sentences."""

    @property
    def spec(self) -> ModelSpec:
        """What planning needs to know of the model."""
        return self.known.spec

    def check_files(self) -> None:
        """Refuse, before any work, files that the settings name and that cannot be used.

        Raises:
            ModelError: as `tileup.checkpoints.given.check_given`.
        """
        check_given(self.known, self.settings)


def resolve_with_model(
    preset: str | None = None,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: RawSettings | None = None,
    habits: Path | None = None,
) -> Resolved:
    """Settings from all layers, the defaults of the model's family among them.

    No torch and no tensors: the model is named by its header.

    Args:
        preset, config, environment, flags, habits: as `tileup.settings.layers.layered`.

    Raises:
        UsageError: as `tileup.settings.layers.resolve`, or a sampler or scheduler is unknown.
        ModelError: the model is missing, unreadable or of no known family.
    """
    named = resolve(None, preset, config, environment, flags, habits)
    model = find_model(named.model)
    known = identified(model, named.prediction)
    layers = layered(known.spec.family, preset, config, environment, flags, habits)
    settings = settings_of(layers)
    check_together(settings, known.spec)
    notes = (
        *notes_on(layers),
        *prediction_notes(known, settings),
        *few_steps_notes(known, settings),
    )
    return Resolved(settings, model, known, notes)


def check_together(settings: Settings, spec: ModelSpec) -> None:
    """Refuse, before any work, what only the planner knows to be wrong.

    Raises:
        UsageError: the sampler or the scheduler is unknown, or the overlap fits no window.
    """
    sampler_of(settings)
    known_scheduler(settings.scheduler)
    window_size(spec, settings)
