"""The bundled checkpoint as a model.

It holds one network, and may hold two more. One is told how much texture each cell shall have and
draws the windows in which a cell has any; so weak strengths are the first one's alone. The other is
there instead of the first for sources that JPEG damaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tileup.codec.space_to_depth import PixelCodec
from tileup.contracts import Box, ModelSpec, NoiseLevels, Scene
from tileup.errors import ModelError
from tileup.families.bundled_header import DEBLOCK, RANGES, VIVID, parse_header
from tileup.families.residual_unet import (
    Architecture,
    LevelByLevel,
    ResidualUNet,
)
from tileup.families.rounding import Ranges
from tileup.families.runtimes import TORCH, computed_by
from tileup.families.texture import TextureRange, toned
from tileup.tensors.filling import extremes
from tileup.tiling.rows import stacked


@dataclass(frozen=True, slots=True)
class TextureNetwork:
    """The second network of a checkpoint."""

    remembering: LevelByLevel
    range: TextureRange
    """How much texture it is told that a strength stands for."""

    @property
    def network(self) -> ResidualUNet:
        return self.remembering.network


@dataclass(frozen=True, slots=True)
class WindowDenoiser:
    """The networks, conditioned on one picture: each window also sees its part of the source."""

    network: LevelByLevel
    source: Tensor
    """Latents of the enlarged picture, shape (1, C, H, W)."""
    lowest: float
    """The lowest noise level that the networks were trained for. Below it what they draw is noise
    of their own, so they are told this one."""
    vivid: LevelByLevel | None = None
    """Draws windows in which a cell has texture."""
    texture: Tensor | None = None
    """Amount of texture of each cell, shape (1, 1, H, W), on the CPU; None: nowhere any."""
    dial: float = 1.0
    """Share of the second network's answer where it draws, in (0, 1]; the rest is the first's.
    Telling it of less texture would change little: it goes by the noise that it is shown."""

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        source = self._shown(windows).to(x)
        levels = [max(level, self.lowest) for level in sigma.tolist()]
        texture = [self._texture(box) for box in windows]
        # Level by level: faster, and a window's result does not depend on what is beside it.
        kinds = [(level, t is None) for level, t in zip(levels, texture, strict=True)]
        if len(set(kinds)) == 1:
            return self._at(x, levels[0], source, texture)
        x0 = torch.empty_like(x)
        for kind in dict.fromkeys(kinds):
            rows = [row for row, each in enumerate(kinds) if each == kind]
            chosen = [texture[row] for row in rows]
            x0[rows] = self._at(x[rows], kind[0], source[rows], chosen)
        return x0

    def _shown(self, windows: Sequence[Box]) -> Tensor:
        """The source of windows; of one alone as it lies in the canvas."""
        if len(windows) == 1:
            return self.source[..., *windows[0].index]
        cells = self.source[0].movedim(0, -1)  # as the network takes them: a copy less
        return stacked([cells[box.index] for box in windows]).movedim(-1, 1)

    def _texture(self, box: Box) -> Tensor | None:
        """Amount of texture of a window's cells; None where none has any."""
        if self.texture is None:
            return None
        amount = self.texture[..., *box.index]
        return amount if amount.numpy().max() > 0 else None

    def _at(
        self, x: Tensor, level: float, source: Tensor, texture: Sequence[Tensor | None]
    ) -> Tensor:
        """Windows of one noise level, which all have texture or all have none."""
        x, source, sigma = _cell_by_cell(x), _cell_by_cell(source), _as_tensor(level, x.dtype)
        amounts = [each for each in texture if each is not None]
        with torch.no_grad():
            if self.vivid is None or not amounts:
                return self.network(x, sigma, source)
            amount = amounts[0] if len(amounts) == 1 else torch.cat(amounts)
            drawn = toned(self.vivid(x, sigma, source, amount.to(x)), source)
            if self.dial == 1:
                return drawn
            return torch.lerp(self.network(x, sigma, source), drawn, self.dial)


@lru_cache(maxsize=64)
def _as_tensor(level: float, dtype: torch.dtype) -> Tensor:
    """A noise level, shape (1,), on the CPU."""
    return torch.tensor([level], dtype=dtype)


def _cell_by_cell(windows: Tensor) -> Tensor:
    """The channels of each cell side by side in memory: twice as fast on a CPU as the default.

    Rows may be those of a larger canvas.
    """
    channels = windows.shape[1]
    if windows.stride(1) == 1 and windows.stride(3) == channels:
        return windows
    return windows.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A checkpoint of our own, on a device."""

    spec: ModelSpec
    digest: str
    """SHA-256 of the file, hexadecimal."""
    device: str
    remembering: LevelByLevel
    vivid: TextureNetwork | None = None
    """Its network for texture, if it has one."""
    deblocking: LevelByLevel | None = None
    """Its network for sources that JPEG damaged, if it has one."""
    runtime: str = TORCH
    """What computes the networks."""

    @property
    def network(self) -> ResidualUNet:
        return self.remembering.network

    @property
    def codec(self) -> PixelCodec:
        return PixelCodec(self.spec.stride)

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return next(self.network.parameters()).dtype

    def denoiser(self, scene: Scene) -> WindowDenoiser:
        """The networks, conditioned on the clean latents of an enlarged picture."""
        lowest = self.spec.levels.sigma_min
        dial = scene.wish.texture
        if self.deblocking is not None and scene.wish.deblock:
            return WindowDenoiser(self.deblocking, scene.source, lowest)
        if self.vivid is None or scene.strength is None or dial == 0:
            return WindowDenoiser(self.remembering, scene.source, lowest)
        amount = self.vivid.range.amount(scene.strength.cpu())
        vivid = self.vivid.remembering
        return WindowDenoiser(self.remembering, scene.source, lowest, vivid, amount, dial)

    def take_notes(self) -> tuple[str, ...]:
        """Nothing: it does what is asked for."""
        return ()


def load_bundled(
    path: Path,
    spec: ModelSpec,
    device: str,
    dtype: torch.dtype = torch.float32,
    runtime: str = TORCH,
) -> BundledModel:
    """Build the networks that the header describes, and load every tensor into them.

    Args:
        path: the file.
        spec: from its header.
        device: where the networks shall be.
        dtype: precision they compute in.
        runtime: what computes them; ncnn and int8 do so on the CPU in float32.

    Raises:
        ModelError: the header is wrong, tensors are missing, unexpected, of the wrong shape or not
            finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_header(cast(dict[str, str], file.metadata()), spec.name)
            # Copied: the file may be replaced while the networks are at work.
            tensors = {
                name: file.get_tensor(name).to(torch.float32, copy=True)
                for name in file.keys()  # noqa: SIM118
            }
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    broken = [name for name, tensor in tensors.items() if not extremes(tensor).isfinite().all()]
    if broken:
        raise ModelError(f"{path} is damaged: {min(broken)} has values that are not finite")
    place = _NetworkLoader(path, device, dtype, runtime, spec.levels)
    parts = split(tensors)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    network = place.filled(header, parts[""])
    vivid = deblocking = None
    if spec.textured:
        textured = place.filled(header, parts[VIVID], VIVID)
        vivid = TextureNetwork(textured, TextureRange.from_header(header))
    if spec.deblocks:
        deblocking = place.filled(header, parts[DEBLOCK], DEBLOCK)
    return BundledModel(spec, digest, device, network, vivid, deblocking, runtime)


def split(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors of each network by the prefix of their names, which is taken off."""
    parts: dict[str, dict[str, Tensor]] = {"": {}, VIVID: {}, DEBLOCK: {}}
    for name, each in tensors.items():
        prefix = next((p for p in (VIVID, DEBLOCK) if name.startswith(p)), "")
        parts[prefix][name.removeprefix(prefix)] = each
    return parts


@dataclass(frozen=True, slots=True)
class _NetworkLoader:
    """Where networks come from and where they go."""

    path: Path
    device: str
    dtype: torch.dtype
    runtime: str
    levels: NoiseLevels

    def filled(
        self, header: Mapping[str, object], tensors: Mapping[str, Tensor], prefix: str = ""
    ) -> LevelByLevel:
        """A network with tensors, whose names in the file begin with a prefix.

        Raises:
            ModelError: the header describes no network, or another one.
        """
        network = self._built(header, conditions=1 if prefix == VIVID else 0)
        weights = dict(tensors)
        ends = weights.pop(RANGES, None)
        try:
            network.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:300]
            what = f"{prefix}* of {self.path}" if prefix else str(self.path)
            raise ModelError(
                f"{what} does not fit the network that its header names: {detail}"
            ) from error
        network = network.to(memory_format=torch.channels_last).to(self.device, self.dtype)  # pyright: ignore[reportCallIssue]
        network = network.eval().requires_grad_(False)
        try:
            ranges = None if ends is None else self._ranges(ends)
            return computed_by(self.runtime, network, ranges)
        except ValueError as error:
            raise ModelError(f"{prefix}{RANGES} of {self.path} is wrong: {error}") from error

    def _ranges(self, ends: Tensor) -> Ranges:
        return Ranges.of(ends, self.levels.sigma_min, self.levels.sigma_max)

    def _built(self, header: Mapping[str, object], conditions: int) -> ResidualUNet:
        try:
            architecture = cast(dict[str, object], header["architecture"])
            with torch.device("meta"):  # the weights that it would begin with take long
                return ResidualUNet(
                    replace(Architecture.from_header(architecture), conditions=conditions)
                )
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise ModelError(f"{self.path}: its header describes no network ({error})") from error
