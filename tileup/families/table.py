"""Every published family that tileup loads. To add one: its file, its line here, its defaults."""

from __future__ import annotations

from collections.abc import Iterable

from tileup.families.chroma import CHROMA
from tileup.families.family import Family
from tileup.families.flux import DEV, KONTEXT, KREA, SCHNELL
from tileup.families.flux2 import DEV as FLUX2_DEV
from tileup.families.flux2 import KLEIN, KLEIN_BASE
from tileup.families.lumina2 import LUMINA2
from tileup.families.qwen_image import QWEN_IMAGE
from tileup.families.sd3 import SD3
from tileup.families.unet import REFINER, SD1, SD2, SDXL
from tileup.families.z_image import Z_IMAGE, Z_IMAGE_TURBO

FAMILIES: tuple[Family, ...] = (
    SD1,
    SD2,
    SDXL,
    REFINER,
    SD3,
    CHROMA,
    DEV,
    KREA,
    KONTEXT,
    SCHNELL,
    Z_IMAGE_TURBO,
    Z_IMAGE,
    LUMINA2,
    QWEN_IMAGE,
    KLEIN,
    KLEIN_BASE,
    FLUX2_DEV,
)
"""In the order in which messages name them, and in which their signs are looked for."""


def named(families: Iterable[Family], last: str = "or") -> str:
    """Some families in words, each name once: `SD 1.x, SD 2.x or SDXL`."""
    names = [*dict.fromkeys(family.short for family in families)]
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def of_context(features: int) -> Family | None:
    """The family whose text tokens have so many features, where that tells."""
    return next((family for family in FAMILIES if family.context == features), None)
