"""Qwen-Image's VAE of single pictures against diffusers' network for videos."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts.causal_vae import causal_shapes, causal_vae
from tileup.codec.causal_layout import causal_layout
from tileup.codec.causal_network import CausalAutoencoder, causal_tensors
from tileup.codec.vae import VaeCodec, load_vae
from tileup.errors import ModelError
from tileup.families.qwen_image import LATENTS
from tileup.torchvision_shield import shield_torchvision

TENSORS = causal_vae()


def theirs(tensors: dict[str, Tensor], width: int = 8) -> Any:  # noqa: ANN401
    shield_torchvision()
    from diffusers import AutoencoderKLQwenImage
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    network = AutoencoderKLQwenImage(base_dim=width)
    network.load_state_dict(convert_wan_vae_to_diffusers(dict(tensors)))
    return network.eval()


@pytest.fixture(scope="module")
def reference() -> Any:  # noqa: ANN401
    return theirs(TENSORS)


def codec(tensors: dict[str, Tensor], tile: int | None = None) -> VaeCodec:
    return load_vae(tensors, scale=LATENTS.scale, shift=LATENTS.shift, tile=tile)


@pytest.mark.parametrize("tile", [None, 24])
@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_a_picture_is_the_first_frame_of_a_video(
    reference: Any,  # noqa: ANN401
    names: str,
    tile: int | None,
) -> None:
    ours = codec(TENSORS if names == "original" else dict(reference.state_dict()), tile)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(1, 3, 40, 64, generator=generator)
    mean = torch.tensor(reference.config.latents_mean)[:, None, None]
    std = torch.tensor(reference.config.latents_std)[:, None, None]
    with torch.no_grad():
        raw = reference.encode(2 * pixels[:, :, None] - 1).latent_dist.mode()[:, :, 0]
        expected = (raw - mean) / std
        found = ours.encode(pixels)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        # Small, as diffusers cuts what leaves [-1, 1].
        latents = 0.05 * torch.randn(1, 16, 5, 8, generator=generator)
        shown = reference.decode((latents * std + mean)[:, :, None]).sample[:, :, 0]
    whole = ours.decode(latents)
    torch.testing.assert_close(whole.clamp(0, 1), (shown + 1) / 2, atol=1e-5, rtol=1e-5)
    assert (ours.stride, ours.channels) == (8, 16)
    assert shown.std() > 0.1
    assert ((shown > -1) & (shown < 1)).float().mean() > 0.5
    assert expected.std() > 0.1


def test_of_each_kernel_the_last_slice_alone_counts() -> None:
    changed = {
        name: torch.cat([torch.full_like(each[:, :, :-1], 9.0), each[:, :, -1:]], dim=2)
        if each.ndim == 5 and each.shape[2] == 3
        else each
        for name, each in TENSORS.items()
    }
    pixels = torch.rand(1, 3, 8, 8)
    assert torch.equal(codec(changed).encode(pixels), codec(TENSORS).encode(pixels))


def test_full_size_is_the_published_network() -> None:
    """vae/config.json of Qwen-Image holds diffusers' defaults."""
    shield_torchvision()
    from diffusers import AutoencoderKLQwenImage

    shapes = dict(causal_shapes(96, 16, (1, 2, 4, 4)))
    meta = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    with torch.device("meta"):
        published = AutoencoderKLQwenImage()
        layout = causal_layout(shapes)
        assert layout is not None
        network = CausalAutoencoder(layout)
    count = sum(each.numel() for each in meta.values())
    assert count == sum(each.numel() for each in published.parameters()) == 126_892_531
    named, _ = causal_tensors(meta, layout)
    expected = {name: each.shape for name, each in network.state_dict().items()}
    assert {name: each.shape for name, each in named.items()} == expected
    mean, std = (published.config[f"latents_{each}"] for each in ("mean", "std"))
    assert LATENTS.shift == tuple(mean)
    assert LATENTS.scale == tuple(1 / each for each in std)


def test_a_tensor_without_a_place_is_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    codec(TENSORS | {"encoder.odd.weight": torch.zeros(4)})
    assert "encoder.odd.weight" in caplog.text


def test_what_is_incomplete_or_of_another_version_is_refused() -> None:
    lacking = {n: each for n, each in TENSORS.items() if not n.startswith("decoder.upsamples.3.")}
    with pytest.raises(ModelError, match="incomplete or of another version"):
        codec(lacking)
    narrow = TENSORS | {"decoder.middle.1.to_qkv.weight": torch.zeros(96, 16, 1, 1)}
    with pytest.raises(ModelError, match=r"decoder\.middle\.1\.to_qkv\.weight"):
        codec(narrow)
    with pytest.raises(ModelError, match="16 latent channels, and this model needs 2"):
        load_vae(TENSORS, scale=(1.0, 1.0), shift=0.0)


def test_half_precision_is_near() -> None:
    half = load_vae(TENSORS, scale=1.0, dtype=torch.bfloat16, tile=24)
    exact = load_vae(TENSORS, scale=1.0, tile=None)
    pixels = torch.rand(1, 3, 40, 64)
    near, full = half.encode(pixels), exact.encode(pixels)
    assert 0 < (near - full).abs().mean() < 0.02 * full.std()
