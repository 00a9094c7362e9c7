"""Nobody waits for a GPU within a step: no number of the canvas is asked for on the CPU.

torch's `meta` plays the GPU: all is worked out but the numbers, so whoever asked for one is told
that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts.flux import flux_transformer
from tests.checkpoints.layouts.unet import Shape, sd1, sdxl, tensors, the_unet
from tests.families.building import built_unet, how, transformer_of
from tileup.contracts import Box, Encoded, Network, Scene
from tileup.families.flux import build_flux
from tileup.sampling.guided import GuidedDenoiser
from tileup.tiling.profiles import WindowWeights
from tileup.tiling.tiled import TiledDenoiser

AWAY = torch.device("meta")
BOXES = [Box(0, 0, 16, 16), Box(0, 8, 16, 24), Box(8, 8, 24, 24)]
POOLED = 1280


def unet(shape: Shape) -> tuple[Network, Encoded, str]:
    network = built_unet(tensors(the_unet(shape)))
    pooled = torch.empty(1, POOLED, device=AWAY) if shape.adm else None
    text = Encoded(torch.empty(1, 7, shape.context, device=AWAY), pooled)
    return replace(network, module=network.module.to(AWAY), device="meta"), text, "eps"


def flux() -> tuple[Network, Encoded, str]:
    network = transformer_of(build_flux(flux_transformer(features=64, pooled=64), how()))
    text = Encoded(torch.empty(1, 7, 64, device=AWAY), torch.empty(1, 64, device=AWAY))
    return replace(network, module=network.module.to(AWAY), device="meta"), text, "flow"


NETWORKS = {"sd1": lambda: unet(sd1()), "sdxl": lambda: unet(sdxl()), "flux": flux}


@pytest.mark.parametrize(("family", "cfg"), [("sd1", 1.0), ("sdxl", 5.0), ("flux", 5.0)])
def test_a_step_is_asked_for_without_waiting(family: str, cfg: float) -> None:
    network, text, prediction = NETWORKS[family]()
    channels = 16 if prediction == "flow" else 4
    x = torch.empty(1, channels, 24, 24, device=AWAY)
    scene = Scene(x, None, (192, 192))
    denoiser = GuidedDenoiser(network, prediction, scene, text, text, cfg)
    tiled = TiledDenoiser(denoiser, [BOXES], WindowWeights("feather", 4, x), height=24, width=24)
    found = tiled(x, torch.tensor([0.7]))
    assert found.shape == x.shape
    assert found.device == AWAY


@dataclass
class Asking:
    """A network that asks for a number, as none may."""

    def __call__(self, x: Tensor, *told: object) -> Tensor:
        return x * float(x.mean())


def test_whoever_asks_for_a_number_is_found_out() -> None:
    x = torch.empty(1, 4, 24, 24, device=AWAY)
    text = Encoded(torch.empty(1, 7, 8, device=AWAY))
    denoiser = GuidedDenoiser(Asking(), "eps", Scene(x, None, (192, 192)), text)
    with pytest.raises(RuntimeError, match="meta"):
        denoiser(x[..., :16, :16], torch.tensor([0.7]), BOXES[:1])
