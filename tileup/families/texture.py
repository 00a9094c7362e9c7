"""How much texture a strength stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TextureRange:
    """Strengths between which the amount of texture grows from 0 to 1, in a straight line."""

    start: float
    """Up to this strength there is none."""
    full: float
    """From this strength on there is all."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.full <= 1:
            raise ValueError(f"texture cannot grow from strength {self.start} to {self.full}")

    @classmethod
    def from_header(cls, header: Mapping[str, object]) -> TextureRange:
        """Of the header of a checkpoint that has a network for texture.

        Raises:
            KeyError, TypeError, ValueError: it is missing, or its numbers cannot be.
        """
        content = header["texture"]
        if not isinstance(content, dict):
            raise TypeError(f"texture is {content!r} and not an object")
        numbers = cast(dict[str, object], content)
        return cls(float(str(numbers["from"])), float(str(numbers["full"])))

    def amount(self, strength: Tensor, dial: float) -> Tensor:
        """Amount of texture in [0, 1] of denoising strengths, of any shape.

        Args:
            strength: in [0, 1].
            dial: factor of the result, in [0, 1].
        """
        return ((strength - self.start) / (self.full - self.start)).clamp(0, 1) * dial
