"""Training towards the truth: the network, its running average and the optimisers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from models.training.levels import latents
from models.training.losses import LATTICE, TEXTURE, lattice_loss, texture_loss
from models.training.optimisers import ENDS, Muon, Rate, follow
from models.training.ways import Way
from tileup.families.residual_unet import Architecture, ResidualUNet

EPSILON = 0.01


class FidelityTrainer:
    """The network, its running average and the optimisers; everything that a resumed run needs.

    Args:
        architecture: of the network.
        seed: of the noise; `advance` at a step is a function of the state, the batch and this.
        rate: learning rate.
        device: where to train.
        workers: parts that a batch is cut into, each computed by a thread of its own. On a busy
            CPU that is faster than threads that wait for each other within each layer.
        texture: what contrast counts beside the error of the pixels.
        epsilon: of Charbonnier's error, which is squared below and absolute above, of 2.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        seed: int,
        rate: Rate,
        device: str,
        workers: int = 1,
        texture: float = TEXTURE,
        epsilon: float = EPSILON,
    ) -> None:
        torch.manual_seed(seed)
        self.seed, self.rate, self.device, self.texture = seed, rate, device, texture
        self.epsilon = epsilon
        self.network = ResidualUNet(architecture).to(device, memory_format=torch.channels_last)
        self.average = ResidualUNet(architecture).to(device, memory_format=torch.channels_last)
        self.average.load_state_dict(self.network.state_dict())
        named = list(self.network.named_parameters())
        inner = [p for name, p in named if p.ndim == 4 and not name.startswith(ENDS)]
        outer = [p for name, p in named if p.ndim != 4 or name.startswith(ENDS)]
        self.optimisers = (
            Muon(inner, lr=rate.peak),
            torch.optim.AdamW(outer, lr=rate.peak, betas=(0.9, 0.99), weight_decay=1e-4),
        )
        cuda = torch.device(device).type == "cuda"
        self.call = torch.compile(self.network) if cuda else self.network
        self.workers = 1 if cuda else workers
        self.pool = ThreadPoolExecutor(self.workers)
        self.step, self.seconds = 0, 0.0

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with the weights of a checkpoint."""
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def advance(self, pixels: Tensor) -> dict[str, float]:
        """One step on a batch of uint8 (B, 2, crop, crop, 3); returns the errors by name."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        truth, source = latents(pixels.to(self.device)).unbind(1)
        way = Way.drawn(truth, generator)
        parts = [slice(i, None, self.workers) for i in range(self.workers)]
        found = list(self.pool.map(lambda rows: self._part(truth, source, way, rows), parts))
        for parameter, *each in zip(
            self.network.parameters(), *(gradients for _, gradients in found), strict=True
        ):
            parameter.grad = torch.stack(each).sum(dim=0) if len(each) > 1 else each[0]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.rate.at(self.step)
            optimiser.step()
        follow(self.average, self.network, self.rate.memory(self.step))
        self.step += 1
        return {"loss": sum(loss for loss, _ in found)}

    def _part(
        self, truth: Tensor, source: Tensor, way: Way, rows: slice
    ) -> tuple[float, tuple[Tensor, ...]]:
        """Loss and gradients of some rows, as their share of the batch's."""
        share, part = truth[rows], way.rows(rows)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            x = part.input(share, source[rows], self.call).to(memory_format=torch.channels_last)
            prediction = self.call(x, part.sigma, source[rows])
        # Charbonnier: nearly absolute error, which learns edges sooner than squared error does.
        prediction = prediction.float()
        loss = ((prediction - share).square() + self.epsilon**2).sqrt().sum() / truth.numel()
        if self.texture:
            apart = texture_loss(prediction, share, part.strength)
            loss = loss + self.texture * apart.sum() / (apart[0].numel() * len(truth))
            locked = lattice_loss(prediction, share)
            loss = loss + LATTICE * locked.sum() / (locked[0].numel() * len(truth))
        return loss.item(), torch.autograd.grad(loss, list(self.network.parameters()))

    def state(self) -> dict[str, object]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [each.state_dict() for each in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
            "finish": self.rate.finish,
            "tail": self.rate.tail,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; a fall of the learning rate that had begun is gone on with."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.rate = self.rate.resumed(state["finish"], state["tail"], self.step)
