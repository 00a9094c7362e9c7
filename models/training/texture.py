"""Training of the network that draws texture, against critics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.training.critics import (
    Critics,
    Features,
    adversarial_loss,
    critics_loss,
    feature_loss,
)
from models.training.levels import STRIDE, latents
from models.training.losses import LATTICE, lattice_loss
from models.training.optimisers import Rate, follow
from models.training.runs import Run, as_shown
from tileup.families.residual_unet import Architecture, ResidualUNet


@dataclass(frozen=True, slots=True)
class Weights:
    """What each error counts."""

    weak: float = 3.0
    """Of the pixels where there is no texture."""
    strong: float = 0.5
    """Of the pixels where there is all of it."""
    features: float = 0.4
    """Of the features, where there is all texture."""
    adversarial: float = 0.02
    """Of the critics' verdicts, where there is all texture."""
    lattice: float = LATTICE
    """Of patterns of the network's own lattice, everywhere."""
    growing: int = 150
    """Over how many steps those of features and critics grow from 0, as the critics learn."""


class TextureTrainer:
    """The network, its running average, the critics and the optimisers.

    Args:
        architecture: of the network, which is told the amount of texture of each cell.
        features: the frozen network.
        seed: of noise and runs; `advance` at a step is a function of the state, the batch and this.
        rate: learning rate, of the network and of the critics.
        device: where to train.
        weights: of the errors.
    """

    def __init__(
        self,
        architecture: Architecture,
        features: Features,
        *,
        seed: int,
        rate: Rate,
        device: str,
        weights: Weights,
    ) -> None:
        torch.manual_seed(seed)
        self.seed, self.rate, self.device, self.weights = seed, rate, device, weights
        layout = torch.channels_last
        self.network = ResidualUNet(architecture).to(device, memory_format=layout)
        self.average = ResidualUNet(architecture).to(device, memory_format=layout)
        self.average.load_state_dict(self.network.state_dict())
        self.features = features.to(device)
        self.critics = Critics(features.widths).to(device, memory_format=layout)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=rate.peak, betas=(0.5, 0.99)
        )
        self.critics_optimiser = torch.optim.Adam(
            self.critics.parameters(), lr=rate.peak, betas=(0.0, 0.99)
        )
        self.step, self.seconds = 0, 0.0

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with weights: of such a network, or of one that is told nothing of texture."""
        own = widened(weights, self.network.enter.in_channels)
        self.network.load_state_dict(own)
        self.average.load_state_dict(own)

    def take_critics(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with critics that have learned before, their optimiser anew."""
        self.critics.load_state_dict(weights)

    def advance(self, pixels: Tensor) -> dict[str, float]:
        """One step on a batch of uint8 (B, 2, crop, crop, 3); returns the errors by name."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        truth, source = latents(pixels.to(self.device)).unbind(1)
        run = Run.drawn(truth, generator)
        for optimiser in (self.optimiser, self.critics_optimiser):
            for group in optimiser.param_groups:
                group["lr"] = self.rate.at(self.step)
        with self._cast():
            drawn = run.prediction(source, as_shown(self.network))
        errors = self._against_critics(drawn, truth, source, run.texture)
        errors |= {
            "pixels": self._pixels(drawn, truth, run.texture),
            "lattice": lattice_loss(drawn, truth).mean(),
        }
        weights, grown = self.weights, min(1.0, (self.step + 1) / self.weights.growing)
        loss = (
            errors["pixels"]
            + weights.lattice * errors["lattice"]
            + grown * weights.adversarial * errors["adversarial"]
            + grown * weights.features * errors["features"]
        )
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        follow(self.average, self.network, self.rate.memory(self.step))
        self.step += 1
        return {"loss": loss.item(), **{name: value.item() for name, value in errors.items()}}

    def _pixels(self, drawn: Tensor, truth: Tensor, texture: Tensor) -> Tensor:
        """Charbonnier's error, which counts the less the more texture is wanted."""
        apart = ((drawn - truth).square() + 0.01**2).sqrt().mean(dim=1, keepdim=True)
        weak, strong = self.weights.weak, self.weights.strong
        return (apart * (weak + (strong - weak) * texture)).mean()

    def _against_critics(
        self, drawn: Tensor, truth: Tensor, source: Tensor, texture: Tensor
    ) -> dict[str, Tensor]:
        """Teach the critics, then ask them: what they and the features find wrong."""
        # Cells without texture are shown, and told nothing.
        drawn = torch.where(texture > 0, drawn, drawn.detach())
        exact, beside, own = (
            functional.pixel_shuffle(each, STRIDE) for each in (truth, source, drawn)
        )
        with self._cast():
            with torch.no_grad():
                real, context = self.features(exact), self.features(beside)
            seen = self.features(own)
            taught = critics_loss(
                self.critics(real, context, exact, beside),
                self.critics([each.detach() for each in seen], context, own.detach(), beside),
                texture,
            )
        self.critics_optimiser.zero_grad()
        taught.backward()
        self.critics_optimiser.step()
        self.critics.requires_grad_(False)
        with self._cast():
            verdicts = self.critics(seen, context, own, beside)
        self.critics.requires_grad_(True)
        return {
            "critics": taught.detach(),
            "adversarial": adversarial_loss(verdicts, texture),
            "features": feature_loss(seen, real, texture),
        }

    def _cast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)

    def state(self) -> dict[str, object]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "critics": self.critics.state_dict(),
            "critics_optimiser": self.critics_optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "finish": self.rate.finish,
            "tail": self.rate.tail,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; a fall of the learning rate that had begun is gone on with."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.critics.load_state_dict(state["critics"])
        self.critics_optimiser.load_state_dict(state["critics_optimiser"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.rate = self.rate.resumed(state["finish"], state["tail"], self.step)


def widened(weights: dict[str, Tensor], inputs: int) -> dict[str, Tensor]:
    """Weights of a network with fewer inputs, for one that does not look at its others at first."""
    enter = weights["enter.weight"]
    more = enter.new_zeros(enter.shape[0], inputs - enter.shape[1], *enter.shape[2:])
    return {**weights, "enter.weight": torch.cat([enter, more], dim=1)}
