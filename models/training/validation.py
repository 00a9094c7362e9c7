"""Figures on photographs that are held out from training."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.training.levels import latents, sigma_of
from models.training.losses import contrast
from tileup.families.residual_unet import ResidualUNet


def validate(network: ResidualUNet, pictures: list[Image.Image], device: str) -> dict[str, float]:
    """Mean PSNR gain over bicubic in dB at scale 2.

    Of one step; of 8 Euler steps from 0.3 (d03) and from 0.8 (d08), and of 4 from 0.8 (f08). And
    the contrast of the last and of 4 steps from 0.2, as shares of the truth's (e08, e02).
    """
    figures: defaultdict[str, list[float]] = defaultdict(list)
    for number, picture in enumerate(pictures):
        truth_image = picture.resize((256, 256), Image.Resampling.LANCZOS)
        small = truth_image.resize((128, 128), Image.Resampling.BICUBIC)
        truth = latents(torch.from_numpy(np.array(truth_image)))[None].to(device)
        pixels = np.array(small.resize((256, 256), Image.Resampling.LANCZOS))
        source = latents(torch.from_numpy(pixels))[None].to(device)
        cubic = np.array(small.resize((256, 256), Image.Resampling.BICUBIC))
        base = _mse(latents(torch.from_numpy(cubic))[None].to(device), truth)
        noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(number))
        for gain, kept, denoise, steps in (
            ("one", None, 0.3, 1),
            ("d03", None, 0.3, 8),
            ("d08", None, 0.8, 8),
            ("f08", "e08", 0.8, 4),
            (None, "e02", 0.2, 4),
        ):
            levels = sigma_of(torch.linspace(denoise, 0, steps + 1))
            x = source + levels[0].item() * noise.to(device)
            for i in range(steps):
                x0 = network(x, levels[i].to(device)[None], source).float()
                ratio = float(levels[i + 1] / levels[i]) if i + 1 < steps else 0.0
                x = x0 + ratio * (x - x0)
            x = x.clamp(-1, 1)
            if gain:
                figures[gain].append(10 * math.log10(base / _mse(x, truth)))
            if kept:
                figures[kept].append(float(contrast(x).mean() / contrast(truth).mean()))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def _mse(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())
