"""Colours that a file gives by a gamma, a table or primaries, and not by a profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SRGB_POINTS = ((0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
"""White, red, green and blue of sRGB, as x and y of CIE 1931."""
_USUAL = 1 / 2.2
_NEAR_USUAL = 0.02
"""So far a gamma may lie from that of sRGB and still be called so, as most programs do."""
_NEAR_POINT = 0.005
_CURVE = 1024
"""Entries of a profile's curve."""
_MADE = slice(24, 36)
"""Where a profile holds the time it was made."""
_NUMBER = slice(84, 100)
"""Where it holds a checksum that may be 0."""

Points = tuple[tuple[float, float], ...]
"""White, red, green, blue: x and y each."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the numbers of a file mean."""

    gamma: tuple[float, ...] | None = None
    """Exponent by which light became numbers, one for all channels or one for each; linear is 1."""
    table: NDArray[np.float64] | None = None
    """Light in [0, 1] of each number from 0 to the largest, shape (numbers, 1 or 3)."""
    points: Points | None = None
    """White and primaries."""

    @property
    def is_srgb(self) -> bool:
        """Whether the numbers mean what they mean without any of this."""
        return self._tones_are_usual and self._points_are_usual

    @property
    def _tones_are_usual(self) -> bool:
        usual = all(abs(each - _USUAL) < _NEAR_USUAL for each in self.gamma or ())
        return usual and self.table is None

    @property
    def _points_are_usual(self) -> bool:
        return self.points is None or bool(
            np.abs(np.subtract(self.points, SRGB_POINTS)).max() < _NEAR_POINT
        )

    def applied(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float32], bytes | None]:
        """Numbers with the tones of sRGB, and the profile of their primaries.

        Args:
            values: shape (H, W, 1 to 4), grey or RGB and then alpha.

        Returns:
            Values of the same shape; None where their primaries are those of sRGB, or none at all.
        """
        colours = 1 if values.shape[2] < 3 else 3
        if not self._tones_are_usual:
            light = self._light(values[..., :colours])
            values = np.concatenate([as_srgb(light), values[..., colours:]], axis=2)
        return values, None if colours == 1 or self._points_are_usual else self._profile()

    def _profile(self) -> bytes | None:
        try:
            return profile_of(self.points or ())
        except (RuntimeError, ValueError):  # of littlecms: primaries on one line, and the like
            return None

    def _light(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.gamma is not None:
            powers = np.array([1 / each for each in self.gamma], dtype=np.float32)
            return values ** powers[: values.shape[2]]
        assert self.table is not None
        numbers = np.rint(values * (len(self.table) - 1)).astype(np.intp)
        columns = range(values.shape[2])
        found = [self.table[numbers[..., at], min(at, self.table.shape[1] - 1)] for at in columns]
        return np.stack(found, axis=-1).astype(np.float32)


def as_srgb(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Light in [0, 1] as numbers of sRGB (IEC 61966-2-1)."""
    curved = 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curved).astype(np.float32)


def as_light(numbers: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `as_srgb`."""
    curved = ((np.maximum(numbers, 0) + 0.055) / 1.055) ** 2.4
    return np.where(numbers <= 0.04045, numbers / 12.92, curved)


def profile_of(points: Points, curve: NDArray[np.float64] | None = None) -> bytes:
    """An ICC profile of these primaries; the same ones give the same bytes.

    Args:
        points: white, red, green and blue.
        curve: light of each number, shape (n,); None for that of sRGB.
    """
    # Imported here because few pictures need it.
    import imagecodecs

    white, *primaries = points
    if curve is None:
        curve = as_light(np.linspace(0, 1, _CURVE))
    made = bytearray(
        imagecodecs.cms_profile(
            "rgb",
            whitepoint=[*white],
            primaries=[each for point in primaries for each in point],
            transferfunction=np.rint(curve * 65535).astype(np.uint16),
        )
    )
    made[_MADE] = np.array([2000, 1, 1, 0, 0, 0], ">u2").tobytes()
    made[_NUMBER] = bytes(16)
    return bytes(made)


_D65 = (0.3127, 0.329)
PRIMARIES: dict[int, Points] = {
    1: SRGB_POINTS,
    5: (_D65, (0.64, 0.33), (0.29, 0.6), (0.15, 0.06)),
    6: (_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    9: (_D65, (0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    12: (_D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}
"""Primaries by the numbers of ITU-T H.273."""
_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}


def profile_of_numbers(primaries: int, transfer: int) -> bytes | None:
    """An ICC profile of colours given by number (ITU-T H.273); None where there is none for them,
    as for those of HDR screens."""
    points, numbers = PRIMARIES.get(primaries), np.linspace(0, 1, _CURVE)
    if points is None:
        return None
    if transfer == 13:
        return profile_of(points)
    if transfer in _EXPONENTS:
        return profile_of(points, numbers ** _EXPONENTS[transfer])
    if transfer in (1, 6, 14, 15):
        curved = ((numbers + 0.099) / 1.099) ** (1 / 0.45)
        return profile_of(points, np.where(numbers < 0.081, numbers / 4.5, curved))
    return None
