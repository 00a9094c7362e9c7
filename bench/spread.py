"""One picture on many cards: what moving windows costs against drawing them.

    python -m bench.spread

Prints the table of docs/scale.md. That a window-step takes 0.1 s is not measured: published times
of 50 steps on an A100 give 0.07 to 0.16 s for windows of 512 pixels (table 7 of the InvSR paper).
The other numbers follow from the latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

SECONDS = 0.1
GIGAPIXEL = 10**9
LINKS = {"1 Gbit/s": 1.25e8, "10 Gbit/s": 1.25e9, "100 Gbit/s": 1.25e10}


@dataclass(frozen=True, slots=True)
class Latents:
    """What a window is made of."""

    name: str
    channels: int
    window: int = 1024
    """Side, pixels."""
    overlap: int = 128
    stride: int = 8

    @property
    def moved(self) -> int:
        """Bytes of a window-step, float32: latents, the source's and a strength there, x0 back."""
        return 4 * (3 * self.channels + 1) * (self.window // self.stride) ** 2

    def windows(self, pixels: int) -> int:
        """Of a square picture."""
        side = ceil((pixels**0.5 - self.overlap) / (self.window - self.overlap))
        return side * side


def step(seconds: float, windows: int, moved: int, link: float, cards: int) -> float:
    """Seconds of one step: its windows on so many cards, and all of them over one link."""
    return max(seconds * ceil(windows / cards), windows * moved / link if cards > 1 else 0.0)


def most(seconds: float, moved: int, link: float) -> float:
    """Cards from which on one more gains nothing."""
    return seconds * link / moved


def table() -> str:
    """As docs/scale.md shows it."""
    lines = [
        "| latents | moved for a window-step | link | cards that pay | gigapixel on 8 cards |",
        "| --- | ---: | --- | ---: | ---: |",
    ]
    for latents in (Latents("SDXL, 4 channels", 4), Latents("FLUX and SD 3, 16 channels", 16)):
        windows = latents.windows(GIGAPIXEL)
        for name, link in LINKS.items():
            alone = step(SECONDS, windows, latents.moved, link, 1)
            gain = alone / step(SECONDS, windows, latents.moved, link, 8)
            lines.append(
                f"| {latents.name} | {latents.moved / 1e6:.2f} MB | {name} "
                f"| {max(1, int(most(SECONDS, latents.moved, link)))} | {gain:.1f} times as fast |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
