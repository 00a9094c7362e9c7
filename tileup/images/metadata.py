"""What an output says about how it was made, in the forms that other programs read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tileup import __version__
from tileup.images import xmp
from tileup.images.reading import opened

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


def read_metadata(path: Path) -> dict[str, str]:
    """What an image file says about how it was made.

    Returns:
        `parameters`: A1111 text; `tileup`: our settings as JSON. Absent ones are left out.

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
        "tileup": head.text.get("tileup") or xmp.found(packet, "settings"),
    }
    return {name: text for name, text in texts.items() if text}
