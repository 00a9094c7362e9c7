"""Code streams of JPEG XL with another head: with a colour profile, or with numbers as floats.

A profile stands in the head, before the pixels, which begin at a whole byte and do not depend on
it: so it is put there. ISO/IEC 18181-1: annex D for the fields, C for codes, E.4 for profiles.

No library that was tried does it, of 8 and 16 bits, with loss and without: imagecodecs 2026.1 takes
no profile; pylibjxl 0.5 and jxlpy 0.9.5 know 8 bits alone, and pylibjxl loses more than libjxl
must; pillow-jxl-plugin 1.3.8 takes no profile, no RGB of 16 bits, and is under the GPL; pyjpegxl
0.3 writes it into a box that no other program reads; OpenImageIO 3.2 asks for numpy 2 and fails at
grey.
"""

from __future__ import annotations

from tileup.images.jpegxl_header import JxlHeader, read_header

_SIGNATURE = 2
_BIT_ORDER = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _BitRow:
    """Numbers one after the other, the lowest bit of each first."""

    def __init__(self) -> None:
        self._value = self.count = 0

    def put(self, number: int, bits: int) -> None:
        """An unsigned number of so many bits."""
        self._value |= number << self.count
        self.count += bits

    def put_whole(self, number: int) -> None:
        """A whole number of at most 64 bits, in as few as it takes."""
        if number <= 16:
            self.put(number and 4 * (number - 1) + 1, 6 if number else 2)
        elif number <= 272:
            self.put(4 * (number - 17) + 2, 10)
        else:
            self.put(3, 2)
            self.put(number & 0xFFF, 12)
            number >>= 12
            while number:
                self.put(2 * (number & 0xFF) + 1, 9)
                number >>= 8
            self.put(0, 1)

    @property
    def value(self) -> int:
        """All of them as one number."""
        return self._value

    def to_bytes(self) -> bytes:
        return self._value.to_bytes(-(-self.count // 8), "little")


def with_profile(stream: bytes, icc: bytes, bits: int) -> bytes:
    """A code stream with a profile.

    Args:
        stream: without one, of a single picture.
        icc: profile, for grey where the picture is grey and for RGB otherwise.
        bits: that a number is said to have: 8 or 16.
    """
    header = read_header(stream)
    made = _BitRow()
    _put_until_colours(made, stream, header, _whole_depth(bits))
    made.put(0b10, 2)  # not the usual colours, but a profile
    made.put(1 if header.grey else 0, 2)
    made.put(_between(stream, header.colours_end, header.end), header.end - header.colours_end)
    _put_profile(made, icc)
    return stream[:_SIGNATURE] + made.to_bytes() + stream[_SIGNATURE + -(-header.end // 8) :]


def plain_profile(stream: bytes) -> bytes | None:
    """The profile of a code stream that `with_profile` made; None where there is none, or it is
    packed as other programs do it."""
    header = read_header(stream)
    if not header.profile or not header.end:
        return None
    size, at = _whole_at(stream, header.end)
    code = _BitRow()
    _put_plain_code(code)
    end = at + code.count + 8 * size
    if end > 8 * len(stream[_SIGNATURE:]) or _between(stream, at, at + code.count) != code.value:
        return None
    packed = _between(stream, at + code.count, end).to_bytes(size, "little")
    return _unpacked(packed.translate(_BIT_ORDER))


def _unpacked(packed: bytes) -> bytes | None:
    """The inverse of `_packed`; None for what other programs make."""
    length = 0
    for place, byte in enumerate(packed[:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    if length > len(packed):
        return None
    body, made = packed[len(packed) - length :], bytearray(length)
    for at in range(min(length, 128)):
        made[at] = (body[at] + _guess(bytes(made))[at]) & 0xFF
    made[128:] = body[128:]
    return bytes(made) if _packed(bytes(made)) == packed else None


def in_floats(stream: bytes) -> bytes:
    """The same code stream with loss, whose numbers are said to be floats of 32 bits: so they are
    decoded neither rounded nor cut to the range of a screen."""
    header = read_header(stream)
    made = _BitRow()
    _put_until_colours(made, stream, header, (0b0111001, 7))
    tail = header.extensions_at - header.colours_at
    made.put(_between(stream, header.colours_at, header.extensions_at), tail)
    _put_filling(made, header.end)
    made.put(1, 1)  # the usual weights for enlarging
    rest = int.from_bytes(stream[_SIGNATURE:], "little") >> header.end
    made.put(rest, 8 * len(stream[_SIGNATURE:]) - header.end)
    return stream[:_SIGNATURE] + made.to_bytes()


def _put_filling(made: _BitRow, end: int) -> None:
    """An extension that says nothing, so long that what follows it and one bit more lies in its
    byte as it lay behind `end`."""
    made.put_whole(1)
    length = 1 + (end - 1 - made.count - 7) % 8  # which takes 6 bits to tell, and is 1 at least
    made.put_whole(length)
    made.put(0, length)


def _between(stream: bytes, start: int, end: int) -> int:
    first = start // 8
    part = int.from_bytes(stream[_SIGNATURE + first : _SIGNATURE + -(-end // 8)], "little")
    return part >> start - 8 * first & (1 << end - start) - 1


def _whole_at(stream: bytes, at: int) -> tuple[int, int]:
    """A number as `put_whole` writes it, and where it ends."""
    way, start = _between(stream, at, at + 2), at + 2
    if way < 3:
        bits, more = ((0, 0), (4, 1), (8, 17))[way]
        return _between(stream, start, start + bits) + more, start + bits
    number, start, shift = _between(stream, start, start + 12), start + 12, 12
    while _between(stream, start, start + 1) and shift < 60:
        number |= _between(stream, start + 1, start + 9) << shift
        start, shift = start + 9, shift + 8
    return number, start + 1


def _whole_depth(bits: int) -> tuple[int, int]:
    """A depth in whole numbers, and how many bits say it."""
    return (0, 3) if bits == 8 else (0b110 | (bits - 1) << 3, 9)


def _put_until_colours(
    made: _BitRow, stream: bytes, header: JxlHeader, depth: tuple[int, int]
) -> None:
    """All up to the colours, with another depth; what was left out as the usual is written."""
    start, end = header.depth_at, header.depth_end
    made.put(_between(stream, 0, start), start)
    made.put(*depth)
    made.put(_between(stream, end, header.colours_at), header.colours_at - end)


def _put_profile(made: _BitRow, icc: bytes) -> None:
    """Each byte is one symbol of 8 bits."""
    packed = _packed(icc)
    made.put_whole(len(packed))
    _put_plain_code(made)
    made.put(int.from_bytes(packed.translate(_BIT_ORDER), "little"), 8 * len(packed))


def _packed(icc: bytes) -> bytes:
    """E.4: nothing is predicted but the head of 128 bytes."""
    head = icc[:128]
    body = bytes((given - guess) & 0xFF for given, guess in zip(head, _guess(icc), strict=False))
    body += icc[128:]
    # No list of tags, and all that follows the head as it is.
    commands = b"" if len(icc) <= 128 else b"\0\x01" + _in_sevens(len(icc) - 128)
    return _in_sevens(len(icc)) + _in_sevens(len(commands)) + commands + body


def _put_plain_code(made: _BitRow) -> None:
    """The code in which all bytes take 8 bits: one for all contexts."""
    made.put(0, 1)  # no repetitions
    made.put(1, 3)  # contexts: simple, with 0 bits each
    made.put(1, 1)  # prefix code
    made.put(8, 4)  # numbers up to 2**8 are their own symbols
    made.put(0, 8)
    made.put(1 | 7 << 1 | 127 << 5, 12)  # 1 + 2**7 + 127 symbols
    made.put(0, 2)  # lengths of symbols follow, themselves in a code of which only 8 is used
    made.put(0, 2 * 10)
    made.put(1, 2)
    made.put(0, 2 * 7)


def _in_sevens(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(made) + bytes([number])


def _guess(icc: bytes) -> bytes:
    """The head of most profiles of this size, as E.4.3 predicts it."""
    made = bytearray(128)
    made[:4] = len(icc).to_bytes(4, "big")
    made[8] = 4
    made[12:24] = b"mntrRGB XYZ "
    made[36:40] = b"acsp"
    made[70:72], made[73], made[78:80] = b"\xf6\xd6", 1, b"\xd3\x2d"
    made[80:84] = icc[4:8]
    platforms = (b"APPL", b"MSFT") if icc[40:41] in (b"A", b"M") else (b"SGI ", b"SUNW")
    known = 1 if icc[40:41] in (b"A", b"M") else 2
    for name in platforms:
        if icc[40 : 40 + known] == name[:known]:
            made[40 + known : 44] = name[known:]
    return bytes(made)
