"""What names and shapes say, against the writer that made them."""

from __future__ import annotations

import pytest

from tests.checkpoints.layouts.vae import vae_state_dict
from tileup.codec.vae_layout import VaeLayout, vae_layout
from tileup.errors import ModelError


def shapes(**options: object) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in vae_state_dict(**options).items()}


@pytest.mark.parametrize("latent_channels", [4, 16])
@pytest.mark.parametrize("quant", [True, False])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("multipliers", [(1, 2, 4, 4), (1, 2, 2), (1,)])
def test_everything_is_read(
    latent_channels: int, quant: bool, attention: bool, multipliers: tuple[int, ...]
) -> None:
    found = vae_layout(
        shapes(
            latent_channels=latent_channels,
            quant=quant,
            attention=attention,
            multipliers=multipliers,
        )
    )
    widths = tuple(32 * each for each in multipliers)
    assert found == VaeLayout(False, widths, 2, latent_channels, quant, attention)
    assert found.stride == 2 ** (len(multipliers) - 1)


def test_names_of_something_else_are_refused() -> None:
    lora = {"lora_unet_down_blocks_0.lora_up.weight": (4, 4)}
    decoder = {name: each for name, each in shapes().items() if name.startswith("decoder.")}
    for wrong in ({}, lora, decoder, shapes() | {"decoder.conv_in.weight": (4,)}):
        with pytest.raises(ModelError, match=r"no VAE among the tensors.*--vae"):
            vae_layout(wrong)


def test_widths_that_groups_do_not_divide_are_refused() -> None:
    with pytest.raises(ModelError, match=r"\[48, 96\] are not multiples of 32"):
        vae_layout(shapes(width=48, multipliers=(1, 2)))
