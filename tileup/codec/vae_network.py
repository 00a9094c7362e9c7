"""Tensors of a file become diffusers' AutoencoderKL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tileup.codec.vae_layout import BEGINNINGS, VaeLayout
from tileup.tensors.filling import Placing, build
from tileup.tensors.names import check_names, in_few_bits
from tileup.torchvision_shield import shield_torchvision

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

NAME = "the VAE"
"""In messages."""
EARLIER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What diffusers' first files call the projections of attention."""


INNER = ("encoder.quant_conv.", "decoder.post_quant_conv.")
"""What some files have inside of the encoder and the decoder, and others beside them."""


def outer_name(name: str) -> str:
    """The name of a tensor with what is around the latents beside encoder and decoder."""
    return name.partition(".")[2] if name.startswith(INNER) else name


def diffusers_tensors(
    tensors: Mapping[str, Tensor], layout: VaeLayout
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The same tensors by diffusers' names; views of them, no copies.

    Returns:
        Tensors by diffusers' names, and the file's name of each.

    Raises:
        ModelError: a tensor without a name in diffusers seems to change a weight of the encoder or
            the decoder.
    """
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(BEGINNINGS)}
    if layout.diffusers:
        origin = {_current_name(name): name for name in own}
        return {new: own[old] for new, old in origin.items()}, origin
    shield_torchvision()
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    # The conversion renames, and drops axes of length 1: numbers tell what became of a name.
    names = list(own)
    numbers = {name: torch.full((1,) * own[name].ndim, number) for number, name in enumerate(names)}
    config = layout.config()
    found: dict[str, Tensor] = convert_ldm_vae_checkpoint(numbers, config)
    origin = {new: names[int(number)] for new, number in found.items()}
    known = set(origin.values())
    check_names((), own.keys() - known, known, NAME, in_few_bits(own))
    return convert_ldm_vae_checkpoint(own, config), origin


def _current_name(name: str) -> str:
    *path, layer, kind = name.split(".")
    if "attentions" not in path:
        return name
    return ".".join([*path, EARLIER_NAMES.get(layer, layer), kind])


def build_vae(
    tensors: Mapping[str, Tensor],
    layout: VaeLayout,
    dtype: torch.dtype,
    device: str,
    origin: Mapping[str, str] | None = None,
) -> AutoencoderKL:
    """The network, holding the tensors.

    Weights too large for the precision become infinite: `VaeCodec` then takes a wider one.

    Args:
        tensors: by diffusers' names.
        layout: what they are.
        dtype: that the network computes in.
        device: where.
        origin: what the file calls a tensor, for messages; where it differs.

    Raises:
        ModelError: tensors are missing, unexpected, of the wrong shape, or not finite.
    """
    shield_torchvision()
    from diffusers import AutoencoderKL

    return build(
        lambda: AutoencoderKL(**layout.config()),
        tensors,
        NAME,
        Placing(dtype, device, overflow=True),
        origin=origin,
    )
