"""The bundled checkpoint as a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tileup.codec.pixels import PixelCodec
from tileup.contracts import Box, ModelSpec, Scene
from tileup.errors import ModelError
from tileup.families.family import parse_header
from tileup.families.residual_unet import Architecture, ResidualUNet


@dataclass(frozen=True, slots=True)
class WindowDenoiser:
    """The network, conditioned on one picture: each window also sees its part of the source."""

    network: ResidualUNet
    source: Tensor
    """Latents of the enlarged picture, shape (1, C, H, W)."""
    lowest: float
    """The lowest noise level that the network was trained for. Below it what it draws is noise of
    its own, so it is told this one."""

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        source = torch.cat([self.source[..., *box.index] for box in windows]).to(x)
        sigma = sigma.to(x).clamp(min=self.lowest)
        # Level by level: faster, and a window's result does not depend on what is beside it.
        levels = sigma.unique()
        if len(levels) == 1:
            return self._at(x, levels, source)
        x0 = torch.empty_like(x)
        for level in levels:
            rows = sigma == level
            x0[rows] = self._at(x[rows], level[None], source[rows])
        return x0

    def _at(self, x: Tensor, sigma: Tensor, source: Tensor) -> Tensor:
        layout = torch.channels_last  # twice as fast as the default on a CPU
        with torch.no_grad():
            return self.network(
                x.contiguous(memory_format=layout), sigma, source.contiguous(memory_format=layout)
            )


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A checkpoint of our own, on a device."""

    spec: ModelSpec
    digest: str
    """SHA-256 of the file, hexadecimal."""
    device: str
    network: ResidualUNet

    @property
    def codec(self) -> PixelCodec:
        return PixelCodec(self.spec.stride)

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return next(self.network.parameters()).dtype

    def denoiser(self, scene: Scene) -> WindowDenoiser:
        """The network, conditioned on the clean latents of an enlarged picture."""
        return WindowDenoiser(self.network, scene.source, self.spec.levels.sigma_min)

    def take_notes(self) -> tuple[str, ...]:
        """Nothing: it does what is asked for."""
        return ()


def load_bundled(
    path: Path, spec: ModelSpec, device: str, dtype: torch.dtype = torch.float32
) -> BundledModel:
    """Build the network that the header describes, and load every tensor into it.

    Args:
        path: the file.
        spec: from its header.
        device: where the network shall be.
        dtype: precision it computes in.

    Raises:
        ModelError: the header is wrong, tensors are missing, unexpected, of the wrong shape or not
            finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_header(cast(dict[str, str], file.metadata()), spec.name)
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    network = _built(path, header)
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise ModelError(f"{path} is damaged: {min(broken)} has values that are not finite")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{path} does not fit the network that its header names: {detail}"
        ) from error
    network = network.to(memory_format=torch.channels_last).to(device, dtype)  # pyright: ignore[reportCallIssue]
    network.eval().requires_grad_(False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return BundledModel(spec, digest, device, network)


def _built(path: Path, header: dict[str, object]) -> ResidualUNet:
    try:
        architecture = cast(dict[str, object], header["architecture"])
        return ResidualUNet(Architecture.from_header(architecture))
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ModelError(f"{path}: its header describes no network ({error})") from error
