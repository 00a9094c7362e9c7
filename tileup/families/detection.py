"""Which family a network is of, told by names and shapes of its tensors alone."""

from __future__ import annotations

from tileup.errors import UnknownCheckpointError
from tileup.families.family import Detected, Detector
from tileup.families.foreign import PREFIXES, Kind, foreign_network, kind_of
from tileup.families.table import FAMILIES
from tileup.families.view import RelativeError, View
from tileup.tensors.checkpoint import Checkpoint
from tileup.tensors.formats import marks_of
from tileup.wording import counted

CONTROL = "controlnet_"
"""What names begin with that only ControlNets have, in diffusers' words; the rest of a ControlNet
is named as the network is that it acts on."""
_UNTOLD = Kind("unknown", "a file that nothing is known of")


class NoNetworkError(UnknownCheckpointError):
    """The file is known, but goes with a model and is none."""

    def __init__(self, message: str, kind: Kind = _UNTOLD) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[NoNetworkError], tuple[str, Kind]]:
        return NoNetworkError, (str(self), self.kind)  # the default would lose the kind


def detect(checkpoint: Checkpoint) -> Detected:
    """The diffusion network of a checkpoint.

    Raises:
        ModelError: a tensor that decides is missing or has an impossible shape.
        UnknownCheckpointError: there is no such network, or of no family that tileup can load.
    """
    tensors, path = checkpoint.tensors, checkpoint.path
    if foreign := foreign_network(tensors):
        raise _unsupported(checkpoint, f"of the family {foreign}")
    found = _found(checkpoint)
    if found is not None:
        marks_of(checkpoint)
        return found
    if kind := kind_of(tensors):
        raise NoNetworkError(
            f"{path} is {kind.title}, not a whole diffusion model; {kind.advice}", kind
        )
    names = ["bundled", *(family.name for family in FAMILIES)]
    raise UnknownCheckpointError(
        f"{path} is not a checkpoint that tileup can load: among its"
        f" {counted(len(tensors), 'tensor')}, the first named"
        f" {min(tensors, default='-')[:200]!r}, are not those of any known family"
        f" ({', '.join(names)})."
        f" One shard of several is not enough: give their index."
    )


def _found(checkpoint: Checkpoint) -> Detected | None:
    """The network of the first family whose sign is there behind a usual prefix."""
    looks: dict[str, Detector] = {}
    for family in FAMILIES:
        looks |= family.signs
    for key, look in looks.items():
        for prefix in PREFIXES:
            view = View(checkpoint, prefix)
            try:
                if key not in view or any(view.names(CONTROL)):
                    continue
                if (found := look(view)) is not None:
                    return found
            except RelativeError as error:
                raise _unsupported(checkpoint, str(error)) from error
    return None


def _unsupported(checkpoint: Checkpoint, what: str) -> UnknownCheckpointError:
    titles = ", ".join(family.title for family in FAMILIES)
    return UnknownCheckpointError(
        f"{checkpoint.path} is a model {what}, which tileup cannot load; it loads {titles}"
    )
