"""SD 1, SD 2, SDXL and its refiner: how their files are told, and what each of them takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tileup.errors import UnknownCheckpointError
from tileup.families.family import (
    Building,
    Built,
    Detected,
    Family,
    Hints,
    Latents,
    diffusion_levels,
)
from tileup.families.unet_layout import CONTEXTS, MASKED, layer_rules
from tileup.families.view import RelativeError, View
from tileup.text.recipes import CLIP_G, CLIP_H, Recipe, clip_l
from tileup.wording import counted

if TYPE_CHECKING:
    from torch import Tensor


def _original(view: View) -> Detected | None:
    """A UNet in the original layout, unless the file is a ControlNet, which has only its half."""
    if not any(view.names("output_blocks.")):
        return None
    downs = view.count(r"input_blocks\.(\d+)\.0\.op\.")
    return _found(
        view,
        "original",
        levels=downs + 1,
        channels=view.shape("input_blocks.0.0.weight", 4)[1],
        attention=view.first(r".*\.attn2\.to_k\.weight"),
        projection=view.first(r"input_blocks\.\d+\.1\.proj_in\.weight"),
        sizes="label_emb.0.0.weight",
        middle="middle_block.1.",
    )


def _diffusers(view: View) -> Detected | None:
    if not any(view.names("up_blocks.")):
        return None
    return _found(
        view,
        "diffusers",
        levels=view.count(r"down_blocks\.(\d+)\.downsamplers\.") + 1,
        channels=view.shape("conv_in.weight", 4)[1],
        attention=view.first(r".*\.attn2\.to_k\.weight"),
        projection=view.first(r"down_blocks\.\d+\.attentions\.0\.proj_in\.weight"),
        sizes="add_embedding.linear_1.weight",
        middle="mid_block.attentions.0.",
    )


INPUTS = {
    8: "an editing model (InstructPix2Pix), which needs a second picture",
    7: "the x4 upscaler of Stable Diffusion, whose latents are those of another VAE",
    5: "a depth-guided model, which needs a depth map",
}
"""UNets by channels of their input, where those are not the 4 of a latent."""


def _found(
    view: View,
    layout: str,
    *,
    levels: int,
    channels: int,
    attention: str | None,
    projection: str | None,
    sizes: str,
    middle: str,
) -> Detected:
    path = view.checkpoint.path
    if channels not in (4, MASKED):
        what = INPUTS.get(
            channels, f"a UNet whose input has {counted(channels, 'channel')} instead of 4"
        )
        raise UnknownCheckpointError(
            f"{path} is {what}: tileup cannot load it; give the plain model it was made from"
        )
    if attention is None:
        raise UnknownCheckpointError(
            f"{path} is a UNet that takes no text, of no family that tileup can load"
        )
    context = view.shape(attention, 2)[1]
    if sizes in view:
        family = _with_sizes(view, context, view.shape(sizes, 2)[1])
        pruned = _pruned(view, layout, middle)
        if pruned:
            raise UnknownCheckpointError(
                f"{path} is a pruned {family.title} (SSD-1B, Segmind Vega, KOALA or alike:"
                f" {pruned}), which tileup cannot load; give a whole one"
            )
    else:
        conv = projection is not None and view.sides(projection) == 4
        family = _without_sizes(view, context, conv)
    multiple = 2 ** (levels - 1)
    variant = family.title if channels == 4 else f"{family.title} for inpainting"
    return Detected(family, variant, view.prefix, layout, 4, context, multiple)


def _without_sizes(view: View, context: int, conv: bool) -> Family:
    """SD 1 or SD 2: by the width of their text, by their text encoder, by their projections."""
    if context in (768, 1024):
        return SD1 if context == 768 else SD2
    if view.beside("cond_stage_model.transformer."):
        return SD1
    if view.beside("cond_stage_model.model."):
        return SD2
    return SD1 if conv else SD2


def _with_sizes(view: View, context: int, vector: int) -> Family:
    """SDXL or its refiner; both take sizes of the picture beside the text.

    A size is 256 features: SDXL takes six of them beside the pooled text, the refiner five.
    """
    if context == 2048:
        return SDXL
    if context == 1280:
        return REFINER
    if context in (768, 1024):
        raise RelativeError("that is shown pictures (Stable UnCLIP)")
    if view.beside("conditioner.embedders.1."):
        return SDXL
    if view.beside("conditioner.embedders.0.model."):
        return REFINER
    # The pooled text is as wide as the tokens of one encoder; SDXL concatenates those of two.
    return REFINER if vector - 5 * 256 == context else SDXL


def _pruned(view: View, layout: str, middle: str) -> str:
    """What is missing of an SDXL, in words; empty where nothing is."""
    if not any(view.names(middle)):
        return "no attention in the middle"
    if layout == "original":
        down, up = r"input_blocks\.(\d+)\.1", r"output_blocks\.(\d+)\.1"
    else:
        down, up = r"down_blocks\.(\d+\.attentions\.\d+)", r"up_blocks\.(\d+\.attentions\.\d+)"
    depths = {side: _depths(view, pattern) for side, pattern in (("d", down), ("u", up))}
    return "" if set(depths["d"]) == set(depths["u"]) else "other depths on the way up than down"


def _depths(view: View, blocks: str) -> list[int]:
    """How many transformer blocks each attention has."""
    deepest: dict[str, int] = {}
    for name in view.names():
        if match := re.match(blocks + r"\.transformer_blocks\.(\d+)\.", name):
            deepest[match[1]] = max(deepest.get(match[1], 0), int(match[2]) + 1)
    return [*deepest.values()]


def build_unet(tensors: Mapping[str, Tensor], how: Building) -> Built:
    """The UNet of all but the refiner, as `Build`."""
    from tileup.families.unet_network import load_unet

    return load_unet(tensors, how, sizes=6)


def build_refiner(tensors: Mapping[str, Tensor], how: Building) -> Built:
    """The UNet of SDXL's refiner, as `Build`."""
    from tileup.families.unet_network import load_unet

    return load_unet(tensors, how, sizes=5)


TELLING = {
    "original": "output_blocks.11.1.transformer_blocks.0.norm1.bias",
    "diffusers": "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias",
}
"""By layout, a bias of SD 2 that was trained further apart for v than for eps."""

BUCKETS = (
    *((1024, 960), (1088, 960), (1088, 896), (1152, 896), (1152, 832), (1216, 832)),
    *((1280, 768), (1344, 768), (1344, 704), (1408, 704), (1472, 704)),
)
"""Shapes of SDXL's training up to some twice as long as wide, each upright and lying; none is
larger than the square. Podell et al. (2023), arXiv 2307.01952, appendix I."""

SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1.x",
    short=CONTEXTS[768],
    hints=Hints(
        latents=4,
        vectors=(768,),
        words=r"sd[-_ ]?v?1|stable[-_ ]diffusion[-_ ]v1|840000|(?<![a-z])ft[-_]mse",
    ),
    signs={"input_blocks.0.0.weight": _original, "conv_in.weight": _diffusers},
    latents=Latents(0.18215),
    window=512,
    levels=diffusion_levels,
    text=Recipe((clip_l(skip=0, normed=True),), clip_tokens=True, chunked=True),
    inside={"clip_l": ("cond_stage_model.transformer.", "text_encoder.")},
    build=build_unet,
    predicts="eps",
    precision="float16",
    batch=2,
    controlled=True,
    context=768,
    rules=layer_rules,
)
SD2 = replace(
    SD1,
    name="sd2",
    title="Stable Diffusion 2.x",
    short=CONTEXTS[1024],
    hints=Hints(latents=4, vectors=(1024,), words=r"sd[-_ ]?v?2|stable[-_ ]diffusion[-_ ]v2"),
    # diffusers' copy of its encoder lacks the last layer, whose work is left out.
    text=Recipe((CLIP_H,), clip_tokens=True, chunked=True),
    inside={
        "clip_h": (
            "cond_stage_model.model.",
            "conditioner.embedders.0.model.",
            "text_encoder.",
        )
    },
    predicts="",
    telling=TELLING,
    v_window=768,
    context=1024,
)
SDXL = replace(
    SD1,
    name="sdxl",
    title="Stable Diffusion XL",
    short=CONTEXTS[2048],
    hints=Hints(
        latents=4, vectors=(768, 1280), words=r"sdxl|(?<![a-z])xl|xl(?![a-z])|pony|illustrious|noob"
    ),
    latents=Latents(0.13025),
    window=1024,
    shapes=tuple(shape for pair in BUCKETS for shape in (pair, pair[::-1])),
    batch=1,
    text=Recipe((clip_l(skip=1, normed=False), CLIP_G), clip_tokens=True, chunked=True),
    inside={
        "clip_l": ("conditioner.embedders.0.transformer.", "text_encoder."),
        "clip_g": (
            "conditioner.embedders.1.model.",
            "conditioner.embedders.1.transformer.",
            "text_encoder_2.",
        ),
    },
    context=2048,
)
REFINER = replace(
    SDXL,
    name="sdxl-refiner",
    title="Stable Diffusion XL refiner",
    short=CONTEXTS[1280],
    hints=Hints(),
    text=Recipe((CLIP_G,), clip_tokens=True, chunked=True),
    inside={"clip_g": ("conditioner.embedders.0.model.", "text_encoder_2.")},
    build=build_refiner,
    controlled=False,
    context=1280,
)
