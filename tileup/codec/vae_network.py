"""Tensors of a file become diffusers' AutoencoderKL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tileup.codec.vae_layout import PARTS, VaeLayout
from tileup.errors import ModelError
from tileup.torchvision_shield import shield_torchvision

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

EARLIER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What diffusers' first files call the projections of attention."""


def diffusers_tensors(tensors: Mapping[str, Tensor], layout: VaeLayout) -> dict[str, Tensor]:
    """The same tensors by diffusers' names; views of them, no copies.

    Raises:
        ModelError: a tensor is missing or has a value that is not finite.
    """
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(PARTS)}
    # float8 has no isfinite.
    broken = [name for name, tensor in own.items() if not _as_float(tensor).isfinite().all()]
    if broken:
        raise ModelError(f"the VAE is damaged: {min(broken)} has values that are not finite")
    if layout.diffusers:
        return {_current_name(name): tensor for name, tensor in own.items()}
    shield_torchvision()
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return convert_ldm_vae_checkpoint(own, layout.config())


def _as_float(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.element_size() == 1 else tensor


def _current_name(name: str) -> str:
    *path, layer, kind = name.split(".")
    if "attentions" not in path:
        return name
    return ".".join([*path, EARLIER_NAMES.get(layer, layer), kind])


def build_vae(
    tensors: Mapping[str, Tensor], layout: VaeLayout, dtype: torch.dtype, device: str
) -> AutoencoderKL:
    """The network, holding the tensors.

    It is laid out without memory and takes the tensors as they are where device and dtype agree:
    a VAE that stays as it is stored is held once.

    Args:
        tensors: by diffusers' names.
        layout: what they are.
        dtype: that the network computes in.
        device: where.

    Raises:
        ModelError: tensors are missing, unexpected or of the wrong shape.
    """
    shield_torchvision()
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        network = AutoencoderKL(**layout.config())
    placed = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
    try:
        network.load_state_dict(placed, assign=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise ModelError(f"the VAE's tensors do not fit together: {detail}") from error
    return network.eval().requires_grad_(False)
