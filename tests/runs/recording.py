"""A run as a block of text that is the same on every machine."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import yaml
from PIL import Image

import tileup

RECORDED = Path(__file__).parent / "recorded"
BLOCKS = 3
MEANS_MAY_MOVE = 0.3
"""Means of blocks, in steps of 8 bits."""

Block = dict[str, Any]
"""What a run said and made, by names that the record shows."""


# --- words ---------------------------------------------------------------------------------------


def plain(text: str, names: Mapping[str, str]) -> str:
    """Words without what differs from run to run: places, times, versions, hashes, colours."""
    for found, name in sorted(names.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(found, name)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"\b\d+\.\d s\b", "# s", text)
    # What is the fastest on this machine, and with -v a line about it.
    text = re.sub(r"tileup runtime: (ncnn|int8), ", "", text)
    text = re.sub(r"(?m)^.*the network computes in .*\n", "", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.,:+Z-]*", "<time>", text)
    text = re.sub(r"\b(?=[0-9]*[a-f])[0-9a-f]{10,64}\b", "<hash>", text)
    text = text.replace(tileup.__version__, "<version>").replace("\ufeff", "")
    whole = _json(text)
    text = whole or "\n".join(_in_any_order(text.splitlines()))
    return text.strip("\n") + "\n" if text.strip() else ""


def _in_any_order(lines: Sequence[str]) -> list[str]:
    """Lines as they are; a journal's sorted, where a failure may come before what was begun."""
    objects = [_json(line) for line in lines]
    return sorted(objects) if all(objects) else [_json(line) or _line(line) for line in lines]


def _line(line: str) -> str:
    """A line of a table or panel without its frame and its padding."""
    return re.sub(r"\s+", " ", re.sub(r"[─-╿]+", " ", line)).rstrip()


def _json(text: str) -> str:
    """An object of JSON with sorted keys, one line for each entry of a list of objects."""
    if text[:1] != "{":
        return ""
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    return json.dumps(tidy(found), sort_keys=True).replace("}, {", "},\n{")


def tidy(value: object) -> object:
    """JSON with floats of six digits, without times, without the sizes of files, and without what
    is the fastest on this machine."""
    if isinstance(value, dict):
        unsteady = {"seconds", "changed", "computed"} | ({"size"} if "digest" in value else set())
        return {name: "#" if name in unsteady else tidy(each) for name, each in value.items()}
    if isinstance(value, list):
        return [tidy(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


# --- files ---------------------------------------------------------------------------------------


SETTINGS = re.compile(r'\{(?P<quote>"|&quot;)(?:batch|version)(?P=quote).*\}')
"""All settings as JSON, in a text or in XMP."""


def described(path: Path, names: Mapping[str, str], *, exact: bool, metadata: str) -> Block:
    """What a file holds.

    Args:
        path: a picture, JSON, or text.
        names: see `plain`.
        exact: the pixels are the same on every machine, so that their hash is recorded.
        metadata: record what the picture says about itself: `brief` has a word in place of all
            settings, `full` has one line for each; empty for nothing.
    """
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            info = {
                "format": image.format,
                "mode": image.mode,
                "size": f"{image.width}x{image.height}",
            }
            pixels = _pixels(data, image)
            said = _said(image, names, metadata == "full") if metadata else {}
    except OSError:
        return {"text": plain(data.decode(errors="backslashreplace"), names)}
    lossless = info["format"] in ("PNG", "BMP", "TIFF")
    info |= {"bits": pixels.dtype.itemsize * 8}
    if exact and lossless and "heatmap" not in path.name:
        info |= {"pixels": hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()[:16]}
    else:
        info |= {"means": means(pixels), "samples": samples(pixels)}
    return info | said


def _pixels(data: bytes, image: Image.Image) -> np.ndarray:
    """All bits of the pixels, shape (H, W) or (H, W, channels)."""
    decode = {
        "PNG": imagecodecs.png_decode,
        "AVIF": imagecodecs.avif_decode,
        "JPEG2000": imagecodecs.jpeg2k_decode,
    }.get(image.format or "")
    if image.format == "TIFF" and image.mode == "RGB" and image.tag_v2[258] == (16, 16, 16):  # type: ignore[attr-defined]
        decode = imagecodecs.tiff_decode
    return np.asarray(image) if decode is None or image.mode == "P" else decode(data)


def means(pixels: np.ndarray) -> list[str]:
    """Means over blocks of the picture, three rows of three, one number for each channel.

    In steps of 8 bits, whatever the depth.
    """
    scaled = _in_steps(pixels)
    rows = np.array_split(scaled, min(BLOCKS, scaled.shape[0]))
    blocks = [[b.mean((0, 1)) for b in np.array_split(r, min(BLOCKS, r.shape[1]), 1)] for r in rows]
    return _numbers(blocks)


def samples(pixels: np.ndarray) -> list[str]:
    """Three rows of six pixels: what means cannot see, in the same form."""
    scaled = _in_steps(pixels)
    height, width = scaled.shape[:2]
    rows, columns = np.arange(1, 6, 2) * height // 6, np.arange(1, 12, 2) * width // 12
    return _numbers(scaled[np.ix_(rows, columns)])


def _in_steps(pixels: np.ndarray) -> np.ndarray:
    """float64, shape (H, W, channels), 255 for white."""
    scaled = pixels.reshape(*pixels.shape[:2], -1).astype(np.float64)
    if pixels.dtype.itemsize == 1:
        return scaled
    return scaled / (257 if pixels.max() > 1023 else 1023 / 255)


def _numbers(rows: Iterable[Iterable[Iterable[float]]]) -> list[str]:
    return ["  ".join(" ".join(f"{c:.2f}" for c in pixel) for pixel in row) for row in rows]


PLACES = {0x0111, 0x0117, 0x02BC, 0x8769, 0x8773, 0x8825}
"""Tags that say where something is, and those for XMP and a profile, which are told by name."""


def _said(image: Image.Image, names: Mapping[str, str], full: bool) -> Block:
    def settings(found: re.Match[str]) -> str:
        return found[0].replace(', "', ',\n"') if full else "<settings>"

    def told(value: object) -> str:
        return SETTINGS.sub(settings, plain(_text(value), names)).removesuffix("\n")

    said: Block = {}
    exif = image.getexif()
    tags = {**exif, **exif.get_ifd(0x8769), **exif.get_ifd(0x8825)}
    said["exif"] = {f"{tag:#06x}": told(tags[tag]) for tag in sorted(tags.keys() - PLACES)}
    for name, value in sorted(image.info.items()):
        if name in ("exif", "XML:com.adobe.xmp") or not isinstance(value, str | bytes):
            continue
        said[name] = "<profile>" if name == "icc_profile" else told(value)
    return {name: value for name, value in said.items() if value}


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    if value.startswith(b"UNICODE\0"):
        return "UNICODE " + value[8:].decode("utf-16-be" if value[8:9] == b"\0" else "utf-16-le")
    return value.decode("utf-8", errors="backslashreplace")


# --- the record ----------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are read."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)


def as_text(block: Block) -> str:
    """A block as the record shows it."""
    return yaml.dump(block, Dumper=_Dumper, allow_unicode=True, width=10_000)


@cache
def read_group(group: str) -> Mapping[str, Block]:
    """The blocks of one file of the record by the names of their runs."""
    path = RECORDED / f"{group}.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader) if path.exists() else {}


def write_block(group: str, name: str, block: Block) -> None:
    """Put one run into the record of its group; one block a run, sorted by name."""
    write_group(group, {**read_group(group), name: block})


def write_group(group: str, blocks: Mapping[str, Block]) -> None:
    """Write a file of the record: a blank line between two blocks."""
    texts = [as_text({name: blocks[name]}) for name in sorted(blocks)]
    RECORDED.mkdir(exist_ok=True)
    (RECORDED / f"{group}.yaml").write_text("\n".join(texts), encoding="utf-8")
    read_group.cache_clear()


def same(found: object, recorded: object) -> bool:
    """Equal, with pixels that another processor or another decoder may have moved a little."""
    if isinstance(found, dict) and isinstance(recorded, dict):
        may_move = {"means": MEANS_MAY_MOVE, "samples": _samples_may_move(found)}
        return found.keys() == recorded.keys() and all(
            _close(found[key], recorded[key], may_move[key])
            if key in may_move
            else same(found[key], recorded[key])
            for key in found
        )
    if isinstance(found, list) and isinstance(recorded, list):
        return len(found) == len(recorded) and all(map(same, found, recorded))
    return found == recorded


def _samples_may_move(file: Block) -> float:
    """In steps of 8 bits: rounding of float32 in 16 bits, one step in 8, and what JPEG loses."""
    if file.get("format") not in ("PNG", "TIFF", "BMP"):
        return 3.0
    return 0.1 if file["bits"] == 16 else 1.0


def _close(found: list[str], recorded: list[str], tolerance: float) -> bool:
    numbers = [np.array(" ".join(rows).split(), float) for rows in (found, recorded)]
    return len(numbers[0]) == len(numbers[1]) and bool(
        np.abs(numbers[0] - numbers[1]).max() <= tolerance
    )
