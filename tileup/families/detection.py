"""Which family a network is of, told by names and shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tileup.errors import ModelError, UnknownCheckpointError
from tileup.families.foreign import PREFIXES, Kind, foreign_network, kind_of, quantised
from tileup.tensors.checkpoint import Checkpoint

FAMILY_TITLES = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "sdxl-refiner": "Stable Diffusion XL refiner",
    "sd3": "Stable Diffusion 3",
    "flux-dev": "FLUX.1 dev",
    "flux-schnell": "FLUX.1 schnell",
}
"""The families whose networks are those of published checkpoints."""


@dataclass(frozen=True, slots=True)
class Found:
    """A diffusion network in a checkpoint."""

    family: str
    """A key of `FAMILY_TITLES`."""
    variant: str
    """The family in words, as exactly as the tensors tell."""
    prefix: str
    """What the names of the network's tensors begin with."""
    layout: str
    """How they go on: `original`, or `diffusers`."""
    channels: int
    """Channels of a latent cell."""
    context: int
    """Features of a text token."""
    scale: int
    """A window's side must be a multiple of this many cells."""


class NoNetworkError(UnknownCheckpointError):
    """The file is known, but goes with a model and is none."""

    def __init__(self, path: Path, kind: Kind) -> None:
        super().__init__(f"{path} is {kind.title}, not a whole diffusion model; {kind.advice}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class _Network:
    """A checkpoint seen through a prefix."""

    checkpoint: Checkpoint
    prefix: str

    def __contains__(self, key: str) -> bool:
        return self.prefix + key in self.checkpoint.tensors

    def names(self, start: str = "") -> Iterator[str]:
        """Names below a start, in the order of the file, without the prefix."""
        for name in self.checkpoint.tensors:
            if name.startswith(self.prefix + start):
                yield name.removeprefix(self.prefix)

    def shape(self, key: str, sides: int) -> tuple[int, ...]:
        """Shape of a tensor that has this many sides.

        Raises:
            ModelError: it is not there, or has another number of sides, or one is 0.
        """
        info = self.checkpoint.tensors.get(self.prefix + key)
        if info is None:
            raise ModelError(
                f"{self.checkpoint.path} is incomplete: it lacks {self.prefix + key};"
                f" download it again"
            )
        if len(info.shape) != sides or 0 in info.shape:
            raise ModelError(
                f"{self.checkpoint.path} is damaged: {self.prefix + key} has the shape"
                f" {list(info.shape)}, where {sides} sides above 0 belong"
            )
        return info.shape

    def first(self, pattern: str) -> str | None:
        """The first name, in natural order, that a pattern matches whole."""
        return min((each for each in self.names() if re.fullmatch(pattern, each)), default=None)

    def count(self, pattern: str) -> int:
        """How many different numbers the first group of a pattern takes at the start of names."""
        found = (re.match(pattern, each) for each in self.names())
        return len({match[1] for match in found if match})


def detect(checkpoint: Checkpoint) -> Found:
    """The diffusion network of a checkpoint.

    Raises:
        ModelError: a tensor that decides is missing or has an impossible shape.
        UnknownCheckpointError: there is no such network, or of no family that tileup can load.
    """
    tensors, path = checkpoint.tensors, checkpoint.path
    if foreign := foreign_network(tensors):
        raise _unsupported(checkpoint, f"of the family {foreign}")
    for key, look in _LOOKS.items():
        for prefix in PREFIXES:
            network = _Network(checkpoint, prefix)
            if key in network and (found := look(network)) is not None:
                if quantised(tensors):
                    raise UnknownCheckpointError(
                        f"{path} is a {found.variant} whose weights are quantised in a way that"
                        f" tileup does not read; give it in F16, BF16 or FP8"
                    )
                return found
    if kind := kind_of(tensors):
        raise NoNetworkError(path, kind)
    raise UnknownCheckpointError(
        f"{path} is not a checkpoint that tileup can load: among its {len(tensors)} tensors, the"
        f" first named {min(tensors, default='-')[:200]!r}, are not those of any known family"
        f" ({', '.join(['bundled', *FAMILY_TITLES])})."
        f" One shard of several is not enough: give their index."
    )


def _unsupported(checkpoint: Checkpoint, what: str) -> UnknownCheckpointError:
    return UnknownCheckpointError(
        f"{checkpoint.path} is a model {what}, which tileup cannot load; it loads"
        f" {', '.join(FAMILY_TITLES.values())}"
    )


def _unet(network: _Network) -> Found | None:
    """A UNet in the original layout, unless the file is a ControlNet, which has only its half."""
    if not any(network.names("output_blocks.")):
        return None
    downs = network.count(r"input_blocks\.(\d+)\.0\.op\.")
    return _unet_found(
        network,
        "original",
        levels=downs + 1,
        channels=network.shape("input_blocks.0.0.weight", 4)[1],
        attention=network.first(r".*\.attn2\.to_k\.weight"),
        projection=network.first(r"input_blocks\.\d+\.1\.proj_in\.weight"),
        sizes="label_emb.0.0.weight",
        middle="middle_block.1.",
    )


def _diffusers_unet(network: _Network) -> Found | None:
    if not any(network.names("up_blocks.")):
        return None
    return _unet_found(
        network,
        "diffusers",
        levels=network.count(r"down_blocks\.(\d+)\.downsamplers\.") + 1,
        channels=network.shape("conv_in.weight", 4)[1],
        attention=network.first(r".*\.attn2\.to_k\.weight"),
        projection=network.first(r"down_blocks\.\d+\.attentions\.0\.proj_in\.weight"),
        sizes="add_embedding.linear_1.weight",
        middle="mid_block.attentions.0.",
    )


OTHER_INPUTS = {
    9: "an inpainting model, which needs a mask and a masked picture",
    8: "an editing model (InstructPix2Pix), which needs a second picture",
    7: "the x4 upscaler of Stable Diffusion, whose latents are those of another VAE",
    5: "a depth-guided model, which needs a depth map",
}
"""UNets by channels of their input, where those are not the 4 of a latent."""


def _unet_found(
    network: _Network,
    layout: str,
    *,
    levels: int,
    channels: int,
    attention: str | None,
    projection: str | None,
    sizes: str,
    middle: str,
) -> Found:
    path = network.checkpoint.path
    if channels != 4:
        what = OTHER_INPUTS.get(
            channels, f"a UNet whose input has {channels} channels instead of 4"
        )
        raise UnknownCheckpointError(
            f"{path} is {what}: tileup cannot load it; give the plain model it was made from"
        )
    if attention is None:
        raise UnknownCheckpointError(
            f"{path} is a UNet that takes no text, of no family that tileup can load"
        )
    context = network.shape(attention, 2)[1]
    if sizes in network:
        family = _with_sizes(network, context, network.shape(sizes, 2)[1])
        pruned = _pruned(network, layout, middle)
        if pruned:
            raise UnknownCheckpointError(
                f"{path} is a pruned {FAMILY_TITLES[family]} (SSD-1B, Segmind Vega, KOALA or alike:"
                f" {pruned}), which tileup cannot load; give a whole one"
            )
    else:
        conv = projection is not None and len(_sides(network, projection)) == 4
        family = _without_sizes(network, context, conv)
    return Found(
        family, FAMILY_TITLES[family], network.prefix, layout, 4, context, 2 ** (levels - 1)
    )


def _sides(network: _Network, key: str) -> tuple[int, ...]:
    return network.checkpoint.tensors[network.prefix + key].shape


def _without_sizes(network: _Network, context: int, conv: bool) -> str:
    """SD 1 or SD 2: by the width of their text, by their text encoder, by their projections."""
    if context in (768, 1024):
        return "sd1" if context == 768 else "sd2"
    tensors = network.checkpoint.tensors
    if any(name.startswith("cond_stage_model.transformer.") for name in tensors):
        return "sd1"
    if any(name.startswith("cond_stage_model.model.") for name in tensors):
        return "sd2"
    return "sd1" if conv else "sd2"


def _with_sizes(network: _Network, context: int, vector: int) -> str:
    """SDXL or its refiner; both take sizes of the picture beside the text.

    A size is 256 features: SDXL takes six of them beside the pooled text, the refiner five.
    """
    if context == 2048:
        return "sdxl"
    if context == 1280:
        return "sdxl-refiner"
    if context in (768, 1024):
        raise _unsupported(network.checkpoint, "that is shown pictures (Stable UnCLIP)")
    tensors = network.checkpoint.tensors
    if any(name.startswith("conditioner.embedders.1.") for name in tensors):
        return "sdxl"
    if any(name.startswith("conditioner.embedders.0.model.") for name in tensors):
        return "sdxl-refiner"
    # The pooled text is as wide as the tokens of one encoder; SDXL concatenates those of two.
    return "sdxl-refiner" if vector - 5 * 256 == context else "sdxl"


def _pruned(network: _Network, layout: str, middle: str) -> str:
    """What is missing of an SDXL, in words; empty where nothing is."""
    if not any(network.names(middle)):
        return "no attention in the middle"
    if layout == "original":
        down, up = r"input_blocks\.(\d+)\.1", r"output_blocks\.(\d+)\.1"
    else:
        down, up = r"down_blocks\.(\d+\.attentions\.\d+)", r"up_blocks\.(\d+\.attentions\.\d+)"
    depths = {side: _depths(network, pattern) for side, pattern in (("d", down), ("u", up))}
    return "" if set(depths["d"]) == set(depths["u"]) else "other depths on the way up than down"


def _depths(network: _Network, blocks: str) -> list[int]:
    """How many transformer blocks each attention has."""
    deepest: dict[str, int] = {}
    for name in network.names():
        if match := re.match(blocks + r"\.transformer_blocks\.(\d+)\.", name):
            deepest[match[1]] = max(deepest.get(match[1], 0), int(match[2]) + 1)
    return [*deepest.values()]


def _sd3(network: _Network) -> Found:
    patch = network.shape("x_embedder.proj.weight", 4)
    context = network.shape("context_embedder.weight", 2)[1]
    blocks = network.count(r"joint_blocks\.(\d+)\.")
    dual = any(".x_block.attn2." in name for name in network.names("joint_blocks."))
    normed = any(".attn.ln_q." in name for name in network.names("joint_blocks."))
    return _sd3_found(network, "original", patch, context, _sd3_variant(blocks, dual, normed))


def _diffusers_sd3(network: _Network) -> Found | None:
    if "transformer_blocks.0.attn.add_k_proj.weight" not in network:
        return None
    patch = network.shape("pos_embed.proj.weight", 4)
    context = network.shape("context_embedder.weight", 2)[1]
    blocks = network.count(r"transformer_blocks\.(\d+)\.")
    dual = any(".attn2." in name for name in network.names("transformer_blocks."))
    normed = any(".attn.norm_q." in name for name in network.names("transformer_blocks."))
    return _sd3_found(network, "diffusers", patch, context, _sd3_variant(blocks, dual, normed))


def _sd3_variant(blocks: int, dual: bool, normed: bool) -> str:
    if dual:
        return "Stable Diffusion 3.5 medium"
    if normed:
        return f"Stable Diffusion 3.5{' large' if blocks == 38 else ''}"
    return f"Stable Diffusion 3{' medium' if blocks == 24 else ''}"


def _sd3_found(
    network: _Network, layout: str, patch: tuple[int, ...], context: int, variant: str
) -> Found:
    if patch[1] != 16 or patch[2:] != (2, 2):
        raise _unsupported(
            network.checkpoint,
            f"like SD 3 but with {patch[1]} channels in patches of {patch[2]}x{patch[3]}",
        )
    return Found("sd3", variant, network.prefix, layout, patch[1], context, 2)


FLUX_INPUTS = {
    384: "FLUX.1 Fill, which needs a mask and a masked picture",
    128: "FLUX.1 Canny or Depth, which needs a second picture",
}
"""FLUX networks by features of their input, where those are not the 64 of a patch."""


def _flux(network: _Network) -> Found:
    return _flux_found(
        network, "original", "img_in.weight", "txt_in.weight", "guidance_in.in_layer.weight"
    )


def _diffusers_flux(network: _Network) -> Found | None:
    if not any(network.names("single_transformer_blocks.")):
        return None
    guidance = "time_text_embed.guidance_embedder.linear_1.weight"
    return _flux_found(
        network, "diffusers", "x_embedder.weight", "context_embedder.weight", guidance
    )


def _flux_found(network: _Network, layout: str, image: str, text: str, guidance: str) -> Found:
    features = network.shape(image, 2)[1]
    if features != 64:
        what = FLUX_INPUTS.get(features, f"a FLUX whose patches have {features} features, not 64")
        raise UnknownCheckpointError(
            f"{network.checkpoint.path} is {what}: tileup cannot load it; give FLUX.1 dev or"
            f" schnell"
        )
    family = "flux-dev" if guidance in network else "flux-schnell"
    context = network.shape(text, 2)[1]
    variant = FAMILY_TITLES[family]
    return Found(family, variant, network.prefix, layout, features // 4, context, 2)


_LOOKS = {
    "double_blocks.0.img_attn.norm.key_norm.scale": _flux,
    "x_embedder.weight": _diffusers_flux,
    "joint_blocks.0.context_block.attn.qkv.weight": _sd3,
    "pos_embed.proj.weight": _diffusers_sd3,
    "input_blocks.0.0.weight": _unet,
    "conv_in.weight": _diffusers_unet,
}
"""What to look at in a network that has this tensor."""
