"""What the header of a JPEG XL says of its picture: ISO/IEC 18181-1, annexes A and D."""

from __future__ import annotations

from dataclasses import dataclass

from tileup.images.calibration import PRIMARIES, SRGB_POINTS, Calibration, Points
from tileup.images.formats.format import UnreadableError

_GREY, _CUSTOM = 1, 2
_P3, _BT2100 = 11, 9
_DCI = 11
_WHITES: dict[int, Points] = {
    1: SRGB_POINTS[:1],
    10: ((1 / 3, 1 / 3),),
    _DCI: ((0.314, 0.351),),
}
"""White points by number."""
LINEAR, SRGB = 8, 13
"""Transfers by number."""


class _Bits:
    """Numbers of a stream of bits, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._data = int.from_bytes(data, "little")
        self._left = self._all = 8 * len(data)

    @property
    def at(self) -> int:
        """How many bits were taken."""
        return self._all - self._left

    def take(self, count: int) -> int:
        """An unsigned number of so many bits."""
        if count > self._left:
            raise EOFError("the header is cut short")
        value = self._data & ((1 << count) - 1)
        self._data >>= count
        self._left -= count
        return value

    def flag(self) -> bool:
        return self.take(1) == 1

    def choice(self, *ways: tuple[int, int]) -> int:
        """A number in one of four ways, each so many bits and what is added to them."""
        count, plus = ways[self.take(2)]
        return self.take(count) + plus

    def enum(self) -> int:
        return self.choice((0, 0), (0, 1), (4, 2), (6, 18))


@dataclass(slots=True)
class JxlHeader:
    """What a code stream says of its picture."""

    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    bits_at: int = 0
    """Bit behind the signature at which two say which of the usual depths it has."""
    floats: bool = False
    grey: bool = False
    alpha: bool = False
    lossy: bool = True
    profile: bool = False
    """Whether its colours are those of a profile."""
    primaries: int = 1
    points: Points | None = None
    """White and primaries, where no number says them."""
    transfer: int = SRGB
    gamma: float | None = None
    """In place of a transfer."""
    transfer_at: int = 0
    """Bit behind the signature at which four bits begin that say the transfer, less 2."""
    animated: bool = False
    depth_at: int = 0
    """Bit behind the signature at which the depth begins; the places below are counted so too."""
    depth_end: int = 0
    colours_at: int = 0
    colours_end: int = 0
    extensions_at: int = 0
    end: int = 0
    """Where a profile stands, or else the pixels from a whole byte on; 0 where what stands before
    is not read in full."""

    @property
    def deep(self) -> bool:
        return self.bits > 8


_SIDE = ((9, 1), (13, 1), (18, 1), (30, 1))
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def _read_size(bits: _Bits) -> tuple[int, int]:
    """Width and height."""
    small = bits.flag()
    height = 8 * (bits.take(5) + 1) if small else bits.choice(*_SIDE)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio]
        return height * across // down, height
    return (8 * (bits.take(5) + 1) if small else bits.choice(*_SIDE)), height


def read_header(data: bytes) -> JxlHeader:
    bits = _Bits(data[2:])
    header = JxlHeader(*_read_size(bits))
    if bits.flag():  # nothing but the usual
        return header
    more = bits.flag()
    if more:
        _read_turn(bits, header)
    header.depth_at, header.bits_at = bits.at, bits.at + 1
    header.floats, header.bits = _read_depth(bits)
    header.depth_end = bits.at
    bits.flag()
    for _ in range(bits.choice((0, 0), (0, 1), (4, 2), (12, 1))):
        header.alpha |= _read_extra(bits)
    header.lossy = bits.flag()
    header.colours_at = bits.at
    _read_colours(bits, header)
    header.colours_end = bits.at
    if more and not bits.flag():  # brightness of the screen
        bits.take(16 + 16 + 1 + 16)
    header.extensions_at = bits.at
    if bits.take(2) == 0 and bits.flag():  # neither extensions nor other weights for enlarging
        header.end = bits.at
    return header


def _read_turn(bits: _Bits, header: JxlHeader) -> None:
    header.orientation = bits.take(3) + 1
    if bits.flag():
        _read_size(bits)
    if bits.flag():
        raise UnreadableError("has a preview in it, which is not supported yet; convert it to PNG")
    header.animated = bits.flag()
    if header.animated:
        bits.choice((0, 100), (0, 1000), (10, 1), (30, 1))
        bits.choice((0, 1), (0, 1001), (8, 1), (10, 1))
        bits.choice((0, 0), (3, 0), (16, 0), (32, 0))
        bits.flag()


def _read_depth(bits: _Bits) -> tuple[bool, int]:
    """Whether samples are floats, and their bits."""
    if not bits.flag():
        return False, bits.choice((0, 8), (0, 10), (0, 12), (6, 1))
    found = bits.choice((0, 32), (0, 16), (0, 24), (6, 1))
    bits.take(4)
    return True, found


def _read_extra(bits: _Bits) -> bool:
    """Whether an extra channel is alpha."""
    if bits.flag():
        return True
    kind = bits.enum()
    _read_depth(bits)
    bits.choice((0, 0), (0, 3), (0, 4), (3, 1))
    for _ in range(bits.choice((0, 0), (4, 0), (5, 16), (10, 48))):
        bits.take(8)
    if kind == 0:
        bits.flag()
    elif kind == 2:  # a spot colour
        bits.take(64)
    elif kind == 5:
        bits.choice((0, 1), (2, 0), (4, 3), (8, 19))
    return kind == 0


def _read_colours(bits: _Bits, header: JxlHeader) -> None:
    if bits.flag():
        return
    header.profile = bits.flag()
    space = bits.enum()
    header.grey = space == _GREY
    if header.profile or space > _GREY:
        return
    white = bits.enum()
    given_white = _read_points(bits, 1) if white == _CUSTOM else ()
    primaries = 1 if header.grey else bits.enum()
    given = _read_points(bits, 3) if primaries == _CUSTOM else ()
    header.primaries = {_P3: 11 if white == _DCI else 12, _BT2100: 9}.get(primaries, primaries)
    header.points = _points(header.primaries, given_white or _WHITES.get(white, ()), given)
    if bits.flag():
        header.gamma = bits.take(24) / 1e7
    else:
        header.transfer_at = bits.at + 2
        header.transfer = bits.enum()
    bits.enum()  # what is done to colours beyond a screen's


def _read_points(bits: _Bits, count: int) -> Points:
    """Pairs of x and y: whole millionths, the sign as the lowest bit."""
    ways = (19, 0), (19, 524288), (20, 1048576), (21, 2097152)
    numbers = [bits.choice(*ways) for _ in range(2 * count)]
    signed = [(each >> 1 ^ -(each & 1)) / 1e6 for each in numbers]
    return tuple(zip(signed[::2], signed[1::2], strict=True))


def _points(primaries: int, white: Points, given: Points) -> Points | None:
    """White and primaries; None where they are those of the number."""
    usual = PRIMARIES.get(primaries)
    if not given and usual is None:
        return None
    found = (white or SRGB_POINTS[:1]) + (given or (usual or ())[1:])
    return None if found == usual else found


def calibration_of(header: JxlHeader) -> Calibration | None:
    """Tones that are no numbers of sRGB's own curve, such as linear light, and free primaries."""
    gamma = 1.0 if header.transfer == LINEAR else header.gamma
    if gamma is not None and not 0.05 < gamma <= 1:
        gamma = None
    if gamma is None and header.points is None:
        return None
    points = None if header.grey else header.points or PRIMARIES.get(header.primaries)
    made = Calibration(None if gamma is None else (gamma,) * 3, points=points)
    return None if made.is_srgb else made


def numbers_of(header: JxlHeader) -> tuple[int, int] | None:
    """Primaries and transfer, where they are given and not those of sRGB."""
    found = header.primaries, header.transfer
    usual = found == (1, SRGB) or 2 in found or header.points is not None
    return None if usual or header.gamma or header.transfer == LINEAR else found
