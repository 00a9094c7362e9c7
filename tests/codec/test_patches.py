"""FLUX.2's VAE: patches of latents, normalised by statistics in its file."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from tests.checkpoints.layouts.vae import MULTIPLIERS, _shapes, vae_state_dict
from tests.codec.ldm import ldm_decode, ldm_encode
from tileup.codec.vae import VaeCodec, load_vae
from tileup.codec.vae_layout import vae_layout
from tileup.codec.vae_network import diffusers_tensors, outer_name
from tileup.errors import ModelError
from tileup.torchvision_shield import shield_torchvision

SMALL = (1, 2)
PLAIN = vae_state_dict(multipliers=SMALL, latent_channels=8)
GENERATOR = torch.Generator().manual_seed(2)
STATISTICS = {
    "bn.running_mean": torch.randn(32, generator=GENERATOR),
    "bn.running_var": 0.2 + torch.rand(32, generator=GENERATOR),
    "bn.num_batches_tracked": torch.tensor(7),
}


def inner(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is around the latents inside of encoder and decoder, as its authors have it."""
    sides = {"quant_conv": "encoder.", "post_quant_conv": "decoder."}
    return {sides.get(name.partition(".")[0], "") + name: each for name, each in tensors.items()}


def codec(tensors: dict[str, Tensor], tile: int | None = None) -> VaeCodec:
    return load_vae(tensors, scale=1.0, tile=tile)


@pytest.mark.parametrize("tile", [None, 9])
@pytest.mark.parametrize("names", ["inside", "beside"])
def test_latents_are_normalised_patches(names: str, tile: int | None) -> None:
    ours = codec((inner(PLAIN) if names == "inside" else PLAIN) | STATISTICS, tile)
    mean = STATISTICS["bn.running_mean"][:, None, None]
    deviation = (STATISTICS["bn.running_var"][:, None, None] + 1e-4).sqrt()
    pixels = torch.rand(1, 3, 24, 16)
    expected = (pixel_unshuffle(ldm_encode(PLAIN, 2 * pixels - 1), 2) - mean) / deviation
    torch.testing.assert_close(ours.encode(pixels), expected, atol=2e-5, rtol=2e-5)
    latents = torch.randn(1, 32, 6, 4)
    shown = (ldm_decode(PLAIN, pixel_shuffle(latents * deviation + mean, 2)) + 1) / 2
    torch.testing.assert_close(ours.decode(latents), shown, atol=2e-5, rtol=2e-5)
    assert (ours.stride, ours.channels) == (4, 32)
    plain = codec(PLAIN)
    assert (plain.stride, plain.channels) == (2, 8)


def test_patches_are_those_of_diffusers_pipeline() -> None:
    shield_torchvision()
    from diffusers import Flux2KleinPipeline

    latents = torch.randn(2, 5, 6, 4)
    patches = Flux2KleinPipeline._patchify_latents(latents)
    assert torch.equal(pixel_unshuffle(latents, 2), patches)
    assert torch.equal(pixel_shuffle(patches, 2), Flux2KleinPipeline._unpatchify_latents(patches))


def test_full_size_is_the_published_network() -> None:
    """vae/config.json of FLUX.2 holds diffusers' defaults."""
    shield_torchvision()
    from diffusers import AutoencoderKLFlux2

    shapes = dict(_shapes(128, 32, True, MULTIPLIERS, True))
    meta = inner({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    named = {outer_name(name): each for name, each in meta.items()}
    layout = vae_layout({name: tuple(each.shape) for name, each in named.items()})
    found, _ = diffusers_tensors(named, layout)
    with torch.device("meta"):
        published = AutoencoderKLFlux2()
    expected = {n: e.shape for n, e in published.state_dict().items() if not n.startswith("bn.")}
    assert {name: each.shape for name, each in found.items()} == expected
    assert published.bn.eps == 1e-4
    assert published.bn.running_mean.shape == (128,)


@pytest.mark.parametrize(
    ("damage", "words"),
    [(torch.zeros(31), "should be 32 numbers"), (torch.full((32,), torch.nan), "not finite")],
)
def test_damaged_statistics_are_refused(damage: Tensor, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        codec(PLAIN | STATISTICS | {"bn.running_mean": damage})
