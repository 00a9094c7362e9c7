"""The learning rate, the running average's memory, and Muon."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

ENDS = ("enter", "leave")
"""Convolutions that Adam trains, beside all biases and scales; Muon trains the others."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The learning rate at each step: a short start, constant, then straight down to 0."""

    peak: float
    finish: int | None = None
    """The step at which it is 0; None while that is not known."""
    tail: int = 1
    """Over how many steps before that it falls."""
    warm: int = 100
    reach: float = 1000.0
    """Over how many steps the running average reaches back, at most."""

    def at(self, step: int) -> float:
        start = min(1.0, (step + 1) / self.warm)
        left = 1.0 if self.finish is None else (self.finish - step) / self.tail
        return self.peak * start * min(1.0, max(0.0, left))

    def memory(self, step: int) -> float:
        """How much of the running average is kept: of `reach` steps, and of the last at the end.

        An average that reaches far back would undo what the falling rate has gained.
        """
        horizon = min(self.reach, step + 50.0)
        if self.finish is not None:
            horizon = min(horizon, max(2.0, (self.finish - step) / 4))
        return 1 - 1 / horizon

    def resumed(self, finish: int | None, tail: int, step: int) -> Rate:
        """With the fall of a run that was stopped at a step, if it had begun and not ended."""
        if finish is None or finish <= step:
            return self
        return replace(self, finish=finish, tail=tail)


def follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move a running average towards a network, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each matrix is made orthogonal (Jordan et al. 2024).

    A convolution's weight is a matrix of outputs by inputs and places. The update is scaled to the
    size of Adam's (Liu et al. 2025, arXiv 2502.16982), so that one learning rate serves both.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 0.05)
                matrix = parameter.grad.lerp(momentum, 0.95).reshape(len(parameter), -1)
                update = _orthogonal(matrix) * 0.2 * max(matrix.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * 1e-4)
                parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"])


def _orthogonal(matrix: Tensor) -> Tensor:
    """Singular values brought near to 1 by five steps of Newton and Schulz."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()
