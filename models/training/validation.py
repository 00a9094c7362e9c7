"""Figures on photographs that are held out from training, at scale 2."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from models.training.critics import Features
from models.training.levels import STRIDE, latents, sigma_of
from models.training.losses import contrast
from models.training.runs import Run, as_shown
from tileup.families.residual_unet import ResidualUNet

SIDE = 256  # pixels of the truths
STEPS = 3
"""Of the runs with texture, as the program's default."""
TEXTURED = 3
"""Each how many-th photograph is drawn with texture: features of large crops take long."""


@dataclass(frozen=True, slots=True)
class Case:
    """One photograph, as latents of shape (1, 12, 128, 128)."""

    truth: Tensor
    source: Tensor
    """The small picture enlarged by Lanczos."""
    cubic: Tensor
    """The small picture enlarged by bicubic, which gains are measured from."""
    noise: Tensor

    def gain(self, x: Tensor) -> float:
        """Decibels that a result is nearer to the truth than bicubic is."""
        return 10 * math.log10(_mse(self.cubic, self.truth) / _mse(x.clamp(-1, 1), self.truth))

    def kept(self, x: Tensor) -> float:
        """Contrast of a result as a share of the truth's."""
        return float(contrast(x.clamp(-1, 1)).mean() / contrast(self.truth).mean())


def cases(pictures: Sequence[Image.Image], device: str, jpeg: int | None = None) -> Iterator[Case]:
    """Each photograph shrunk to half by bicubic, and compressed if a quality is given."""
    for number, picture in enumerate(pictures):
        truth = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        small = truth.resize((SIDE // 2, SIDE // 2), Image.Resampling.BICUBIC)
        if jpeg is not None:
            buffer = io.BytesIO()
            small.save(buffer, "jpeg", quality=jpeg)
            small = Image.open(buffer)
        found = (
            truth,
            small.resize(truth.size, Image.Resampling.LANCZOS),
            small.resize(truth.size, Image.Resampling.BICUBIC),
        )
        truth_, source, cubic = (
            latents(torch.from_numpy(np.array(each)))[None].to(device) for each in found
        )
        noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(number))
        yield Case(truth_, source, cubic, noise.to(device))


def validate(network: ResidualUNet, pictures: list[Image.Image], device: str) -> dict[str, float]:
    """Mean PSNR gain over bicubic in dB.

    Of one step; of 8 Euler steps from 0.3 (d03) and from 0.8 (d08), and of 4 from 0.8 (f08). And
    the contrast of the last and of 4 steps from 0.2, as shares of the truth's (e08, e02). And the
    gain of 4 steps from 0.2 where the small picture was compressed to JPEG 50 (j02).
    """
    figures: defaultdict[str, list[float]] = defaultdict(list)
    for case in cases(pictures, device):
        for gain, kept, strength, steps in (
            ("one", None, 0.3, 1),
            ("d03", None, 0.3, 8),
            ("d08", None, 0.8, 8),
            ("f08", "e08", 0.8, 4),
            (None, "e02", 0.2, 4),
        ):
            x = _sampled(network, case, strength, steps)
            if gain:
                figures[gain].append(case.gain(x))
            if kept:
                figures[kept].append(case.kept(x))
    for case in cases(pictures, device, jpeg=50):
        figures["j02"].append(case.gain(_sampled(network, case, 0.2, 4)))
    return _means(figures)


def validate_texture(
    network: ResidualUNet, features: Features, pictures: list[Image.Image], device: str
) -> dict[str, float]:
    """Of three steps from 0.2, 0.5 and 0.8, with all texture that these strengths have.

    Mean PSNR gain over bicubic in dB (p…), contrast as a share of the truth's (e…), and distance of
    the features that are trained against, as a share of the truth's (f…).
    """
    figures: defaultdict[str, list[float]] = defaultdict(list)
    for case in cases(pictures[::TEXTURED], device):
        exact = features(functional.pixel_shuffle(case.truth, STRIDE))
        for strength in (0.2, 0.5, 0.8):
            run = Run.even(case.source, strength, STEPS, case.noise)
            x = run.prediction(case.source, as_shown(network)).clamp(-1, 1)
            seen = features(functional.pixel_shuffle(x, STRIDE))
            shares = [
                (a.float() - b.float()).abs().mean() / b.float().abs().mean()
                for a, b in zip(seen, exact, strict=True)
            ]
            name = f"{strength:.1f}".replace(".", "")
            figures[f"p{name}"].append(case.gain(x))
            figures[f"e{name}"].append(case.kept(x))
            figures[f"f{name}"].append(float(torch.stack(shares).mean()))
    return _means(figures)


def _sampled(network: ResidualUNet, case: Case, strength: float, steps: int) -> Tensor:
    """Euler's steps down to no noise."""
    levels = sigma_of(torch.linspace(strength, 0, steps + 1)).to(case.source)
    x = case.source + levels[0] * case.noise
    for i in range(steps):
        x0 = network(x, levels[i][None], case.source).float()
        ratio = float(levels[i + 1] / levels[i]) if i + 1 < steps else 0.0
        x = x0 + ratio * (x - x0)
    return x


def _means(figures: dict[str, list[float]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in figures.items()}


def _mse(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())
