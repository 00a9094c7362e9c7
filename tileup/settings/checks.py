"""What values must be, as checks that settings name, and the forms that some texts have."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence

from tileup.errors import UsageError
from tileup.storage.urls import told_url


def require(condition: bool, message: str) -> None:
    """Raises:
    UsageError: with this message, where the condition does not hold.
    """
    if not condition:
        raise UsageError(message)


def within(low: float, high: float) -> Callable[[str, float], None]:
    """Checks that a number lies between two others, or is one of them."""

    def check(name: str, value: float) -> None:
        require(
            low <= value <= high, f"{name} must be between {low:g} and {high:g}, got {_told(value)}"
        )

    return check


def _told(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def at_least(least: int) -> Callable[[str, int], None]:
    """Checks that a number is not too small."""

    def check(name: str, value: int) -> None:
        require(value >= least, f"{name} must be at least {least}, got {value}")

    return check


def one_of(known: Sequence[str]) -> Callable[[str, str], None]:
    """Checks that a word is known."""

    def check(name: str, value: str) -> None:
        if value not in known:  # looking for the nearest takes longer than all other checks
            raise UsageError(f"{name} {value!r} is not known{did_you_mean(value, known)}")

    return check


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """End of a sentence that names the nearest known word, or all of them when none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"


def device(name: str, value: str) -> None:
    """Raises:
    UsageError: no machine has such a device; whether this one has it is known to torch.
    """
    if re.fullmatch(r"auto|(cpu|mps|cuda)(:\d+)?", value) is None:
        raise UsageError(f"{name} {value!r} is not known; use auto, cpu, cuda, cuda:N or mps")


def seed(name: str, value: int) -> None:
    """Raises:
    UsageError: the number does not fit into 63 bits.
    """
    require(0 <= value < 2**63, f"{name} must be between 0 and 2^63 - 1, got {value}")


def share(name: str, value: float) -> None:
    """Raises:
    UsageError: the number is not above 0, or above 1.
    """
    require(0 < value <= 1, f"{name} must be above 0 and at most 1, got {value:g}")


def threshold(name: str, value: float | str) -> None:
    """Raises:
    UsageError: it is neither a finite number from 0 nor `auto`.
    """
    if isinstance(value, str):
        require(value == "auto", f"{name} must be a number or 'auto', got {value!r}")
    else:
        require(0 <= value < math.inf, f"{name} must be a number from 0, got {value}")


def count_or_auto(name: str, value: int | str) -> None:
    """Raises:
    UsageError: it is neither a whole number from 1 nor `auto`.
    """
    if isinstance(value, str):
        require(value == "auto", f"{name} must be a whole number or 'auto', got {value!r}")
    else:
        require(value >= 1, f"{name} must be at least 1, got {value}")


def size(name: str, text: str) -> tuple[int, int]:
    """Width and height of `WIDTHxHEIGHT`, each at least 1.

    Raises:
        UsageError: the text has another form.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"{name} must be WIDTHxHEIGHT in pixels, such as 1920x1080, got {text!r}")
    width, height = int(parts[0]), int(parts[1])
    require(min(width, height) >= 1, f"{name} must be at least 1x1, got {text!r}")
    return width, height


def parse_size(text: str) -> tuple[int, int]:
    """As `size`, for the setting of this name."""
    return size("size", text)


def weighted(name: str, files: Sequence[str]) -> None:
    """Raises:
    UsageError: a weight is not between -4 and 4.
    """
    for each in files:
        parse_weighted(each)


def parse_weighted(text: str) -> tuple[str, float]:
    """File and weight of `FILE` or `FILE:WEIGHT`; the weight is 1 unless given.

    Raises:
        UsageError: the weight is not between -4 and 4.
    """
    file, colon, number = text.rpartition(":")
    try:
        weight = float(number) if colon else math.nan
    except ValueError:
        weight = math.nan
    if not colon or (math.isnan(weight) and number.lower() != "nan"):
        return text, 1.0  # a colon of the name itself, as in C:/x.safetensors
    require(
        -4 <= weight <= 4,
        f"lora {told_url(file)}: its weight must be between -4 and 4, got {number}",
    )
    return file, weight


def parse_extent(name: str, text: str) -> tuple[float, bool]:
    """A length as `64` (pixels) or `50%`: its number, and whether it is a percentage.

    Raises:
        UsageError: the text has another form.
    """
    percent = text.endswith("%")
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(f"{name} must be pixels or a percentage, such as 64 or 50%, got {text!r}")
    return number, percent
