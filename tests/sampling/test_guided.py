"""Guidance: closed forms, with a network that answers by its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from tileup.contracts import Box, Encoded, Scene
from tileup.sampling.guided import PREDICTIONS, GuidedDenoiser, guided

SCENE = Scene(torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 64, 64), (64, 64))
WINDOWS = [Box(0, 0, 4, 6), Box(2, 1, 6, 7), Box(4, 2, 8, 8)]


@dataclass
class PromptNetwork:
    """Predicts, in each row: input x (mean of the prompt) + sigma + top of the window."""

    rows: list[int] = field(default_factory=list)
    texts: list[Encoded] = field(default_factory=list)

    def __call__(
        self, x: Tensor, sigma: Tensor, windows: Sequence[Box], text: Encoded, scene: Scene
    ) -> Tensor:
        assert scene is SCENE
        assert x.dtype == torch.float32
        assert len(x) == len(sigma) == len(windows)
        assert len(text.tokens) in (1, len(x))
        self.rows.append(len(x))
        self.texts.append(text)
        tops = torch.tensor([float(box.top) for box in windows])
        means = text.tokens.mean((1, 2)).expand(len(x))
        add = (sigma + tops).to(x)[:, None, None, None]
        return x * means[:, None, None, None] + add


def encoded(value: float, length: int = 3, pooled: float | None = None) -> Encoded:
    tokens = torch.full((1, length, 5), value)
    return Encoded(tokens, None if pooled is None else torch.full((1, 7), pooled))


def batch() -> tuple[Tensor, Tensor, list[Box]]:
    x = torch.randn(3, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    return x, torch.tensor([0.5, 2.0, 9.0]), WINDOWS


def denoiser(cfg: float, prediction: str = "eps", length: int = 3) -> GuidedDenoiser:
    return GuidedDenoiser(
        PromptNetwork(), prediction, SCENE, encoded(0.7), encoded(-0.4, length), cfg
    )


def alone(value: float, prediction: str) -> Tensor:
    return GuidedDenoiser(PromptNetwork(), prediction, SCENE, encoded(value))(*batch())


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("length", [3, 6])
def test_scale_0_is_the_negative_prompt_and_others_are_linear_in_it(
    prediction: str, length: int
) -> None:
    positive, negative = alone(0.7, prediction), alone(-0.4, prediction)
    assert (positive - negative).abs().max() > 0.1
    for cfg in (0.0, 0.5, 1.0, 5.0, -1.0):
        found = denoiser(cfg, prediction, length)(*batch())
        wanted = (1 - cfg) * negative + cfg * positive
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_scale_1_evaluates_each_window_once() -> None:
    one, five = denoiser(1.0), denoiser(5.0)
    torch.testing.assert_close(one(*batch()), alone(0.7, "eps"), rtol=0, atol=0)
    five(*batch())
    assert isinstance(one.network, PromptNetwork)
    assert isinstance(five.network, PromptNetwork)
    assert one.network.rows == [3]
    assert five.network.rows == [6]


def test_prompts_of_two_lengths_are_evaluated_one_after_the_other() -> None:
    found = denoiser(5.0, length=6)
    found(*batch())
    assert isinstance(found.network, PromptNetwork)
    assert found.network.rows == [3, 3]


def test_rows_carry_their_pooled_prompt_and_are_told_apart() -> None:
    network = PromptNetwork()
    text, negative = encoded(0.7, pooled=1.0), encoded(-0.4, pooled=2.0)
    GuidedDenoiser(network, "v", SCENE, text, negative, 3.0)(*batch())
    (seen,) = network.texts
    assert seen.negative == (False, False, False, True, True, True)
    assert seen.pooled is not None
    assert seen.pooled[:, 0].tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_x0_has_the_precision_of_x(dtype: torch.dtype) -> None:
    x, sigma, windows = batch()
    assert denoiser(2.0)(x.to(dtype), sigma.to(dtype), windows).dtype == dtype


def test_the_formula_keeps_what_both_agree_on() -> None:
    x0 = torch.randn(5)
    assert torch.equal(guided(x0, x0, 7.5), x0)


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="negative prompt"):
        GuidedDenoiser(PromptNetwork(), "eps", SCENE, encoded(1.0), None, 2.0)
    with pytest.raises(ValueError, match="must be one of eps"):
        GuidedDenoiser(PromptNetwork(), "score", SCENE, encoded(1.0))


@pytest.mark.parametrize("patch", [1, 2])
def test_a_flow_keeps_the_length_of_what_is_predicted_in_each_patch(patch: int) -> None:
    """The guided velocity has its own direction and the prompt's length, by definition."""
    made = denoiser(4.0, "flow")
    kept = replace(made, patch=patch)
    x, sigma, windows = batch()
    level = sigma[:, None, None, None]

    def velocity(x0: Tensor) -> Tensor:
        """`x0 = x_flow - s v` with flow time s."""
        time = level / (1 + level)
        flow = ((1 - time) * x - x0) / time
        return flow.unflatten(-1, (-1, patch)).unflatten(2, (-1, patch)).movedim(4, 3)

    alone_, free = velocity(alone(0.7, "flow")), velocity(made(x, sigma, windows))
    found = velocity(kept(x, sigma, windows))
    sides = (1, 4, 5)
    length = alone_.square().sum(sides, keepdim=True).sqrt()
    expected = free * length / free.square().sum(sides, keepdim=True).sqrt()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - free).abs().max() > 0.1
    other = replace(denoiser(4.0), patch=patch)(x, sigma, windows)
    assert torch.equal(other, denoiser(4.0)(x, sigma, windows)), "it belongs to flows"
