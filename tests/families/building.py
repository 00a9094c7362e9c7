"""How networks of tests are built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tileup.families.family import Building, Built
from tileup.families.transformer import TransformerNetwork
from tileup.families.unet_network import UNetNetwork, load_unet
from tileup.plan.noise_levels import training_levels


def how(name: str = "small", **options: Any) -> Building:  # noqa: ANN401
    """In float32 on the CPU, unless something else is said."""
    usual = {"levels": training_levels(), "dtype": torch.float32, "device": "cpu"}
    return Building(name, **(usual | options))


def transformer_of(built: Built) -> TransformerNetwork:
    """A transformer that satisfies `Network`."""
    assert isinstance(built.network, TransformerNetwork)
    return built.network


def built_unet(tensors: Mapping[str, Tensor], sizes: int = 6, **options: Any) -> UNetNetwork:  # noqa: ANN401
    """A UNet that satisfies `Network`."""
    network = load_unet(tensors, how(**options), sizes).network
    assert isinstance(network, UNetNetwork)
    return network
