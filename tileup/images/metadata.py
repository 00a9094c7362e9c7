"""What an output says about how it was made, in the forms that other programs read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast

from tileup import __version__
from tileup.errors import ModelError
from tileup.images import xmp
from tileup.images.reading import opened
from tileup.settings.values import Settings, parse_weighted
from tileup.storage.copies import given_file
from tileup.storage.urls import told_url

SAMPLER_NAMES = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
}
"""k-diffusion's samplers as A1111 displays them."""

SCHEDULER_NAMES = {
    "karras": "Karras",
    "exponential": "Exponential",
    "polyexponential": "Polyexponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "normal": "Normal",
    "beta": "Beta",
    "vp": "VP",
    "laplace": "Laplace",
    "ddim_uniform": "DDIM",
    "linear_quadratic": "Linear Quadratic",
    "kl_optimal": "KL Optimal",
}
"""Schedules as A1111 displays them."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """How one output was made."""

    prompt: str
    """What was asked for; may be empty and may have several lines."""
    negative: str
    """What was to be avoided; may be empty."""
    steps: int
    """Sampler steps of the strongest tile."""
    sampler: str
    """k-diffusion's name."""
    scheduler: str
    """Our name of the schedule."""
    cfg: float
    """Guidance scale; 1 is none."""
    seed: int
    """Seed of this picture."""
    width: int
    """Width of the output, pixels."""
    height: int
    """Height of the output, pixels."""
    model: str
    """Name of the checkpoint."""
    model_hash: str
    """SHA-256 of its file, hexadecimal; the first ten characters are written."""
    denoise: float
    """Strength of the strongest tiles, in [0, 1]."""
    extra: Mapping[str, object] = field(default_factory=dict[str, object])
    """Further pairs, flat: `tileup min denoise: 0.2`."""
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    """All settings, for JSON."""
    source_parameters: str | None = None
    """A1111 text of the input."""


def parameters_text(metadata: Metadata) -> str:
    """The text that A1111 calls `parameters`: prompts, then one line of pairs."""
    m = metadata
    pairs: dict[str, object] = {
        "Steps": m.steps,
        "Sampler": SAMPLER_NAMES.get(m.sampler, m.sampler),
        "Schedule type": SCHEDULER_NAMES.get(m.scheduler, m.scheduler),
        "CFG scale": m.cfg,
        "Seed": m.seed,
        "Size": f"{m.width}x{m.height}",
        "Model hash": m.model_hash[:10],
        "Model": m.model,
        "Denoising strength": m.denoise,
        **m.extra,
        "Version": f"tileup {__version__}",
    }
    lines = (
        m.prompt.strip(),
        f"Negative prompt: {m.negative.strip()}" if m.negative.strip() else "",
        ", ".join(f"{name}: {_value(value)}" for name, value in pairs.items() if value != ""),
    )
    return _encodable("\n".join(line for line in lines if line))


def _value(value: object) -> str:
    """A value of a pair, quoted where it would end the pair or start another.

    A1111 reads a quoted value as JSON. Commas and colons in it are escaped, because several
    readers cut the line at each of them without looking for quotes.
    """
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if not any(character in text for character in ',:"\n\r'):
        return text.strip()
    return json.dumps(text).replace(",", "\\u002c").replace(":", "\\u003a")


def _encodable(text: str) -> str:
    """Text without the lone surrogates that undecodable command lines bring."""
    return text.encode("utf-8", "replace").decode("utf-8")


def settings_json(metadata: Metadata) -> str:
    """All settings in one line of ASCII JSON, with `version`, and the input's text as `source`."""
    content: dict[str, object] = {"version": __version__, **metadata.settings}
    if metadata.source_parameters is not None:
        content["source"] = metadata.source_parameters
    return json.dumps(content, default=str)


_FILES = (
    *("model", "mask", "denoise_map", "prompt_embeds", "upscaler", "control", "lora"),
    "embedding",
    *("vae", "clip_l", "clip_g", "t5", "text_encoder", "tokenizer"),
)
"""Settings that name files."""
_WORDS = frozenset({"prompt", "negative", "name", "suffix"})
"""Settings in which a slash is no part of a path."""
_MOST_HASHED = 2**31
"""Bytes of the largest file that is read for its hash."""


def told_settings(settings: Settings) -> dict[str, object]:
    """All settings as an output tells them: files by their names, without the folders they lie in.

    Returns:
        `Settings.to_dict`, and under `hashes` the first ten characters of the SHA-256 of each file
        that is there.
    """
    values = settings.to_dict()
    hashes = {name: _hashed(values[name]) for name in _FILES}
    told = {name: each if name in _WORDS else _named(each) for name, each in values.items()}
    return told | {"hashes": {name: each for name, each in hashes.items() if each}}


def _named(value: object) -> object:
    """A path as its last part; a list of them likewise; anything else as it is."""
    if isinstance(value, list):
        return [_named(each) for each in cast("list[object]", value)]
    if not isinstance(value, str) or not any(each in value for each in "/\\"):
        return value
    return told_url(value).replace("\\", "/").rstrip("/").rpartition("/")[2]


def _hashed(value: object) -> object:
    """The hash of the file at a path, or those of a list of LoRAs; None where there is none."""
    if isinstance(value, list):
        paths = (parse_weighted(str(each))[0] for each in cast("list[object]", value))
        return [found for path in paths if (found := _hashed(path))]
    if not isinstance(value, str):
        return None
    try:
        path = given_file(value)
        there = path.stat()
        if not path.is_file() or there.st_size > _MOST_HASHED:
            return None
        return _hash_of(path, there.st_mtime_ns, there.st_size)
    except (OSError, ValueError, RuntimeError, ModelError):
        return None


@lru_cache(maxsize=64)
def _hash_of(path: Path, changed: int, size: int) -> str:
    """Of a file that was last changed at a time and has a size."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:10]


def read_metadata(path: Path) -> dict[str, str]:
    """What an image file says about how it was made.

    Returns:
        `parameters`: A1111 text, where programs look for it; `tileup parameters`: ours, where that
        is another; `tileup`: our settings as JSON. Absent ones are left out.

    Raises:
        InputError: the file is missing, no picture, or broken.
    """
    with opened(path) as (found, _):
        head = found.head
    packet = head.xmp or ""
    texts = {
        "parameters": head.text.get("parameters")
        or head.exif.parameters
        or xmp.found(packet, "parameters"),
        "tileup parameters": xmp.found(packet, "parameters"),
        "tileup": head.text.get("tileup") or xmp.found(packet, "settings"),
    }
    if texts["tileup parameters"] == texts["parameters"]:
        del texts["tileup parameters"]
    return {name: text for name, text in texts.items() if text}
