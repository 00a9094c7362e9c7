"""Keeps the pictures that are measured on out of training.

The hash of a window: it is scaled to 24 pixels a side, lightly smoothed, and each of 12 by 11
differences across and 11 by 12 down gives one bit, whether it rises (a difference hash of 264
bits). A held-out picture is known by the hashes of a grid of windows of a few sizes, without those
that show too little to be told from others. A new training picture is searched for them with
windows of many sizes at every place, so a crop at another scale is found too.

`python -m models.held_out --data data` writes the two lists: `held-out.txt`, and `trained-on.txt`
with what was searched, how near it came, and its own hash.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent
HELD_OUT, TRAINED_ON = HERE / "held-out.txt", HERE / "trained-on.txt"
SIDE = 24  # pixels of a window
BITS = 264
NEAR = 30
"""Windows that differ in no more bits show the same. Of crops of 512 px of held-out pictures, at
random places and scales, more than four fifths are this near; of the 712 training crops none is."""
CONTRAST = 8.0  # standard deviation that a window needs, of 255
TURNS = 0.22  # share of neighbouring bits that differ, which it needs too
SMALLEST = 96  # pixels of the smallest window that is searched
RATIO = 1.1  # of one size of window to the next
LONGEST = 1600  # large photographs are shrunk to this first

Bits = NDArray[np.bool_]


def windows(image: Image.Image, side: float) -> tuple[Bits, NDArray[np.bool_]]:
    """Hashes of all windows of `side` pixels, shape (rows, columns, 264), and which tell much.

    Windows lie at every 24th of their side.
    """
    size = [max(SIDE, round(length * SIDE / side)) + 1 for length in image.size]
    small = image.convert("L").resize((size[0], size[1]), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.float32)
    grey = (grey[1:, 1:] + grey[:-1, 1:] + grey[1:, :-1] + grey[:-1, :-1]) / 4
    across = _windows(grey[:, 2:] > grey[:, :-2], (SIDE, SIDE - 2))
    down = _windows(grey[2:] > grey[:-2], (SIDE - 2, SIDE))
    rows, columns = (min(pair) for pair in zip(across.shape[:2], down.shape[:2], strict=True))
    across, down = across[:rows, :columns], down[:rows, :columns]
    contrast = sliding_window_view(grey, (SIDE, SIDE)).std(axis=(2, 3))[:rows, :columns]
    telling = (contrast > CONTRAST) & (_turns(across) + _turns(down) > 2 * TURNS)
    bits = [each.reshape(rows, columns, -1) for each in (across, down)]
    return np.concatenate(bits, axis=2), telling


def _windows(rises: Bits, shape: tuple[int, int]) -> Bits:
    return sliding_window_view(rises, shape)[..., ::2, ::2]


def _turns(bits: Bits) -> NDArray[np.float64]:
    """Share of neighbouring bits of each window that differ."""
    upright = (bits[..., 1:, :] != bits[..., :-1, :]).mean(axis=(2, 3))
    return (upright + (bits[..., :, 1:] != bits[..., :, :-1]).mean(axis=(2, 3))) / 2


def marks(image: Image.Image, parts: Sequence[int]) -> Bits:
    """Hashes of grids of windows, each as wide as the short side divided by one of `parts`."""
    found = [np.zeros((0, BITS), dtype=np.bool_)]
    for part in parts:
        side = min(image.size) / part
        bits, telling = windows(image, side)
        counts = [max(1, round(length / side)) for length in (image.height, image.width)]
        rows, columns = (
            np.unique(np.linspace(0, length - 1, count).round().astype(int))
            for length, count in zip(telling.shape, counts, strict=True)
        )
        place = np.ix_(rows, columns)
        found.append(bits[place][telling[place]])
    return np.concatenate(found)


def whole(image: Image.Image) -> Bits:
    """The hash of the largest square in the top left, shape (264,)."""
    return windows(image, min(image.size))[0][0, 0]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Hashes of held-out pictures, and whose they are."""

    bits: Bits
    """Shape (N, 264)."""
    names: tuple[str, ...]

    def nearest(self, bits: Bits) -> tuple[int, str]:
        """The smallest number of differing bits to any of some hashes (M, 264), and of whom."""
        if not len(bits):
            return BITS, ""
        # Bits as -1 and 1: the product counts equal less different ones.
        products = _signs(bits) @ _signs(self.bits).T
        best = products.max(axis=0)
        number = int(best.argmax())
        return round((BITS - float(best[number])) / 2), self.names[number]

    def search(self, image: Image.Image) -> tuple[int, str]:
        """As `nearest`, over windows of all sizes and places of a picture."""
        found, side = (BITS, ""), float(min(image.size))
        while side >= SMALLEST:
            bits, telling = windows(image, side)
            found = min(found, self.nearest(bits[telling]))
            side /= RATIO
        return found


def _signs(bits: Bits) -> NDArray[np.float32]:
    return bits.astype(np.float32) * 2 - 1


def _text(bits: Bits) -> str:
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def _bits(text: str) -> Bits:
    packed = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(packed)[:BITS].astype(np.bool_)


def read_held_out(path: Path = HELD_OUT) -> HeldOut:
    """The list of held-out pictures: a line with a name, then lines of its hashes."""
    bits, names, name = [], [], ""
    for line in _lines(path):
        if line.startswith("> "):
            name = line[2:]
        else:
            bits.append(_bits(line))
            names.append(name)
    return HeldOut(np.stack(bits), tuple(names))


@dataclass(frozen=True, slots=True)
class Trained:
    """A picture that was searched and trained on."""

    digest: str
    """First half of its file's SHA-256."""
    bits: Bits
    """Hash of the whole, shape (264,)."""
    nearest: int
    """Bits in which its nearest window differs from a held-out one."""
    name: str


def read_trained_on(path: Path = TRAINED_ON) -> dict[str, Trained]:
    """By digest."""
    found = {}
    for line in _lines(path):
        digest, bits, nearest, name = line.split(" ", 3)
        found[digest] = Trained(digest, _bits(bits), int(nearest), name)
    return found


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def refuse_held_out(
    paths: Sequence[Path], held: HeldOut, known: Mapping[str, Trained]
) -> list[Trained]:
    """Search the pictures that were not searched before.

    Raises:
        SystemExit: some show what is measured on.
    """
    searched, guilty = [], []
    for path in paths:
        digest = digest_of(path)
        if digest in known:
            searched.append(known[digest])
            continue
        with Image.open(path) as image:
            distance, name = held.search(image)
            searched.append(Trained(digest, whole(image), distance, path.name))
        if distance <= NEAR:
            guilty.append(f"  {path} looks like a part of {name}: {distance} of {BITS} bits differ")
    if guilty:
        raise SystemExit(
            "train: these pictures are held out for measuring, and must not be trained on:\n"
            + "\n".join(guilty)
            + "\n  Take them out of the training folder and its manifest.csv"
        )
    return searched


def training_files(data: Path) -> list[Path]:
    """The pictures that the manifest names, in its order."""
    with (data / "train" / "manifest.csv").open(encoding="utf-8") as file:
        return [data / "train" / row["file"] for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    data = parser.parse_args().data
    lines = ["# Windows of the pictures that are measured on; models/held_out.py says how."]
    for folder, parts in (("eval/truth", (1, 2, 3, 4)), ("large", (2, 3, 4, 5, 6))):
        for path in sorted((data / folder).iterdir()):
            with Image.open(path) as image:
                image.draft("L", (LONGEST, LONGEST))
                image.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
                found = marks(image, parts)
            lines += [f"> {folder}/{path.name}", *map(_text, found)]
    HELD_OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    searched = refuse_held_out(training_files(data), read_held_out(), {})
    lines = [
        "# What the bundled checkpoint was trained on: file (half of its SHA-256), hash of the",
        "# whole, bits by which its nearest window differs from a held-out one, name.",
        *(f"{t.digest} {_text(t.bits)} {t.nearest} {t.name}" for t in searched),
    ]
    TRAINED_ON.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(searched)} pictures; nearest {min(each.nearest for each in searched)} of {BITS}")


if __name__ == "__main__":
    main()
