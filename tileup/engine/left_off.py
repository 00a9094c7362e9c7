"""Where a run was stopped that had to draw a picture in another way than was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tileup.contracts import AroundModel, Model, OnStep, Step
from tileup.engine.file_to_file import Drawable
from tileup.engine.keeping import kept_work
from tileup.images.kept import work_of
from tileup.settings.values import Settings
from tileup.storage.remote import Remote

if TYPE_CHECKING:
    import torch

Try = tuple[Settings, str]
"""Settings with which a picture is drawn, and what is said about that."""


@dataclass(frozen=True, slots=True)
class InFloat32(AroundModel):
    """What a model is when it is loaded in float32; satisfies `Model` as far as keys of kept work
    go."""

    @property
    def dtype(self) -> torch.dtype:
        # Imported here because this is where torch comes in.
        import torch

        return torch.float32


def left_off(given: Drawable, model: Model, tries: Sequence[Try]) -> int | None:
    """The try at which a run was stopped whose work is kept; None: there is none.

    Args:
        given: the picture.
        model: with which it was drawn.
        tries: what is tried, one after the other.
    """
    output = given.job.output
    if output is None or isinstance(output, Remote) or not work_of(output).exists():
        return None
    low_memory = tries[0][0].low_memory
    for number, (chosen, _) in enumerate(tries):
        if chosen.low_memory != low_memory:  # another way to load the model
            break
        work = kept_work(given, model, chosen)
        if work is not None and work.known:
            return number
    return None


def batches_of(model: Model, settings: Settings) -> list[Settings]:
    """Settings with all the numbers of windows at once that a run may have chosen for itself: what
    fits is measured anew each time, on an NVIDIA GPU."""
    if settings.batch != "auto" or not model.device.startswith("cuda"):
        return [settings]
    # Imported here because this is where torch comes in.
    from tileup.denoise.fitting import MOST

    return [replace(settings, batch=2**power) for power in range(MOST.bit_length())]


class Resumed:
    """Passes steps on, and finds out whether an earlier run had a part in the picture.

    Args:
        on_step: told of each step.
    """

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._told = self._known = False

    def __call__(self, step: Step) -> None:
        self._told, self._known = True, self._known or step.known > 0
        self._on_step(step)

    def resumed(self, calls: int) -> bool:
        """Whether it did, of a picture that takes so many windows."""
        return self._known or (calls > 0 and not self._told)
