"""Enlarges a picture with an ESRGAN-like model instead of Lanczos, through spandrel."""

from __future__ import annotations

import importlib
import pickle
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tileup.enlarge.lanczos import enlarge
from tileup.errors import MissingExtraError, ModelError, TileupError
from tileup.images.colour import spread
from tileup.images.picture import Picture
from tileup.torchvision_shield import shield_torchvision
from tileup.wording import counted

TILE = 256
"""Side of a tile, input pixels."""
MARGIN = 16
"""Input pixels at an inner edge of a tile that do not count: the model sees no further there."""
RAMP = 16
"""Input pixels over which one tile fades into the next."""
TORCHVISION = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
MISFITS = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError)
"""What spandrel's readers of architectures raise for tensors that do not fit."""


@dataclass(frozen=True, slots=True)
class Enlarger:
    """A model that enlarges by a whole factor, and Lanczos from there to any size."""

    network: Any
    """spandrel's ImageModelDescriptor: (1, 3, h, w) in [0, 1] to (1, 3, h * scale, w * scale)."""
    scale: int
    """Its factor, at least 2."""
    device: str
    tile: int = TILE
    """Side of a tile, input pixels; more than twice the margin and the ramp."""

    def __call__(self, picture: Picture, width: int, height: int) -> Picture:
        """As `tileup.enlarge.lanczos.enlarge`; alpha is resampled by Lanczos.

        Raises:
            TileupError: the model gives values that are not finite.
        """
        plain = enlarge(picture, width, height)
        if (picture.width, picture.height) == (width, height):
            return plain
        pixels = picture.whole
        if picture.alpha is not None:
            pixels = spread(pixels, picture.alpha)
        large = enlarge(Picture(pixels=self.enlarged(pixels)), width, height)
        return replace(plain, pixels=large.pixels)

    def enlarged(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels (h, w, 3) at `scale` times the size, worked out in tiles that fade together."""
        height, width = pixels.shape[:2]
        rows, columns = (spans(side, self.tile) for side in (height, width))
        down, across = (fading(each, self.scale) for each in (rows, columns))
        result = np.zeros((height * self.scale, width * self.scale, 3), np.float32)
        for row, row_weight in zip(rows, down, strict=True):
            for column, column_weight in zip(columns, across, strict=True):
                tile = self._drawn(pixels[row, column])
                weight = (row_weight[:, None] * column_weight)[..., None]
                result[self._scaled(row), self._scaled(column)] += weight * tile
        return result

    def _scaled(self, span: slice) -> slice:
        return slice(self.scale * span.start, self.scale * span.stop)

    def _drawn(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        image = torch.from_numpy(pixels.copy()).movedim(-1, 0)[None]
        with torch.no_grad():
            result: Tensor = self.network(image.to(self.device))
        if not bool(result.isfinite().all()):
            raise TileupError(
                "the upscaler gave values that are not finite numbers; try another --upscaler"
            )
        return result[0].movedim(0, -1).float().cpu().numpy()


def spans(length: int, tile: int) -> list[slice]:
    """The fewest tiles of one length that cover an axis, neighbours over two margins and a ramp."""
    overlap = 2 * MARGIN + RAMP
    if length <= tile:
        return [slice(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [index * (length - tile) // (count - 1) for index in range(count)]
    return [slice(start, start + tile) for start in starts]


def fading(tiles: Sequence[slice], scale: int) -> list[NDArray[np.float32]]:
    """Weights of tiles along an axis, `scale` to an input pixel; over each place they sum to 1.

    0 over the margin of an inner edge, then a raised cosine.
    """
    length = tiles[-1].stop
    weights: list[NDArray[np.float64]] = []
    for tile in tiles:
        places = (np.arange(scale * (tile.stop - tile.start)) + 0.5) / scale
        before = np.inf if tile.start == 0 else places
        after = np.inf if tile.stop == length else places[::-1]
        ramp = np.clip((np.minimum(before, after) - MARGIN) / RAMP, 0, 1) * np.ones_like(places)
        weights.append((1 - np.cos(np.pi * ramp)) / 2)
    total = np.zeros(scale * length)
    for tile, weight in zip(tiles, weights, strict=True):
        total[scale * tile.start : scale * tile.stop] += weight
    return [
        (weight / total[scale * tile.start : scale * tile.stop]).astype(np.float32)
        for tile, weight in zip(tiles, weights, strict=True)
    ]


def load_enlarger(path: Path, device: str = "cpu", tile: int = TILE) -> Enlarger:
    """A model from its file, in float32.

    Args:
        path: .safetensors, or .pth, .pt, .ckpt that holds tensors only; any architecture for super
            resolution that spandrel knows.
        device: `cpu`, `cuda:0`, `mps`.
        tile: side of a tile, input pixels.

    Raises:
        MissingExtraError: spandrel is not installed.
        ModelError: the file is missing, unreadable, or no model that enlarges RGB pictures.
    """
    spandrel = import_spandrel()
    tensors = _read(path)
    try:
        network = spandrel.ModelLoader().load_from_state_dict(
            spandrel.canonicalize_state_dict(tensors)
        )
    except spandrel.UnsupportedModelError as error:
        raise ModelError(
            f"{path} is not an upscaler that spandrel knows; --upscaler takes ESRGAN, Compact,"
            " SwinIR, HAT, DAT and their like, and -m takes diffusion models"
        ) from error
    except MISFITS as error:
        detail = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} looks like an upscaler but does not load: {detail}") from error
    _check(path, network, spandrel)
    network.to(device).eval()
    return Enlarger(network, int(network.scale), device, tile)


def _check(path: Path, network: Any, spandrel: ModuleType) -> None:  # noqa: ANN401
    kind = f"a {network.architecture.name} model"
    if not isinstance(network, spandrel.ImageModelDescriptor) or network.scale < 2:
        raise ModelError(f"{path} is {kind} that does not enlarge; give one for super resolution")
    if (network.input_channels, network.output_channels) != (3, 3):
        raise ModelError(
            f"{path} is {kind} for pictures of {counted(network.input_channels, 'channel')}"
        )
    weights: dict[str, Tensor] = network.model.state_dict()
    broken = [name for name, each in weights.items() if not bool(each.isfinite().all())]
    if broken:
        raise ModelError(f"{path} is damaged: {min(broken)} has values that are not finite")


def _read(path: Path) -> dict[str, Any]:
    """Tensors of a file; never anything that could run code."""
    if not path.is_file():
        raise ModelError(f"upscaler {path} is not a file; give lanczos or the path of a model")
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of a pickle's age; what matters is an error.
            tensors: object = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, SafetensorError, pickle.UnpicklingError, *MISFITS) as error:
        raise ModelError(
            f"upscaler {path} cannot be read as tensors; it is damaged, or of another kind"
        ) from error
    if not isinstance(tensors, dict):
        raise ModelError(f"upscaler {path} holds no named tensors")
    return tensors


def import_spandrel() -> ModuleType:
    """spandrel, also beside a torchvision that does not import.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with _torchvision_stand_in():
            return importlib.import_module("spandrel")
    except ModuleNotFoundError as error:
        if error.name != "spandrel":
            raise
        raise MissingExtraError(
            "--upscaler with a model file needs spandrel: pip install 'tileup[esrgan]'"
        ) from error


@contextmanager
def _torchvision_stand_in() -> Generator[None]:
    """While spandrel is imported: names of a torchvision that cannot be.

    Of all its architectures only LaMa and RestoreFormer use them, and neither enlarges.
    """
    if not shield_torchvision():
        yield
        return
    for name in TORCHVISION:
        sys.modules[name] = ModuleType(name)
    functional = sys.modules[TORCHVISION[-1]]
    for name in ("InterpolationMode", "rotate", "normalize"):
        setattr(functional, name, None)
    try:
        yield
    finally:
        for name in TORCHVISION:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]
