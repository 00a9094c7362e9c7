"""The codec against the original network, its scales, and its way out of half precision."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts.vae import vae_state_dict
from tests.codec.ldm import ldm_decode, ldm_encode
from tileup.codec.vae import VaeCodec, load_vae
from tileup.codec.vae_lean import KeptMap, LeanNetwork
from tileup.codec.vae_tiles import ConvInput
from tileup.errors import TileupError

SMALL = (1, 2)
FAMILIES = {"sd": (0.18215, 0.0), "sdxl": (0.13025, 0.0), "sd3": (1.5305, 0.0609)}


def codec(tile: int | None = None, dtype: torch.dtype = torch.float32, **options: int) -> VaeCodec:
    tensors = vae_state_dict(multipliers=SMALL, **options)
    return load_vae(tensors, scale=1.0, dtype=dtype, tile=tile)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tile", [None, 9])
def test_latents_are_scaled_and_pixels_lie_between_0_and_1(family: str, tile: int | None) -> None:
    scale, shift = FAMILIES[family]
    tensors = vae_state_dict(multipliers=SMALL)
    codec = load_vae(tensors, scale=scale, shift=shift, tile=tile)
    pixels = torch.rand(1, 3, 16, 12)
    expected = (ldm_encode(tensors, 2 * pixels - 1) - shift) * scale
    torch.testing.assert_close(codec.encode(pixels), expected, atol=2e-5, rtol=2e-5)
    latents = torch.randn(1, 4, 8, 6) * scale
    expected = (ldm_decode(tensors, latents / scale + shift) + 1) / 2
    torch.testing.assert_close(codec.decode(latents), expected, atol=2e-5, rtol=2e-5)
    assert (codec.stride, codec.channels, codec.take_notes()) == (2, 4, ())


@pytest.mark.parametrize(
    ("size", "in_tiles"),
    [((16, 16), False), ((18, 16), True), ((2, 18), True), ((4, 2), False), ((32, 32), True)],
)
def test_only_larger_canvases_go_through_in_tiles(size: tuple[int, int], in_tiles: bool) -> None:
    """Seen by whether the parts are called whole."""
    codec = load_vae(vae_state_dict(multipliers=SMALL), scale=1.0, tile=16)
    called: list[str] = []
    network = codec.network(torch.float32)
    for part in (network.encoder, network.decoder):
        part.register_forward_hook(lambda *_: called.append("whole"))
    latents = codec.encode(torch.rand(1, 3, *size))
    codec.decode(latents)
    assert called == ([] if in_tiles else ["whole"] * 2)


@pytest.mark.parametrize("held", [0, 2**31])
def test_rows_in_and_out_are_the_same_picture(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all layers' maps held and of one; rows are asked for from the top down."""
    monkeypatch.setattr("tileup.codec.vae.maps_held", lambda _: held)
    own, asked = codec(9), list[int]()
    pixels = torch.rand(1, 3, 26, 20)

    def rows(top: int, bottom: int) -> Tensor:
        asked.append(top)
        return pixels[:, :, top:bottom]

    latents = own.encode_rows(rows, 26, 20)
    assert torch.equal(latents, own.encode(pixels))
    assert len(set(asked)) == 3
    assert asked == sorted(asked)
    parts = [*own.decode_rows(latents)]
    assert [each.shape[2] for each in parts] == [8, 9, 9]
    assert torch.equal(torch.cat(parts, dim=2), own.decode(latents))


def test_large_maps_are_not_all_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another way to the same, by size alone."""
    z, pixels = torch.randn(1, 4, 8, 6), torch.rand(1, 3, 16, 12)
    results = codec(9).decode(z), codec(9).encode(pixels)
    maps = 4 * 16 * 12 * (64 + 32)
    made: list[object] = []

    class Watched(LeanNetwork):
        def room(self, like: Tensor, x: ConvInput, spare: int) -> KeptMap:
            made.append(x)
            return super().room(like, x, spare)

    monkeypatch.setattr("tileup.codec.vae.LeanNetwork", Watched)
    monkeypatch.setattr("tileup.codec.vae.maps_held", lambda _: maps)
    assert torch.equal(codec(9).decode(z), results[0])
    assert not made
    monkeypatch.setattr("tileup.codec.vae.maps_held", lambda _: maps - 1)
    lean = codec(9).decode(z), codec(9).encode(pixels)
    assert made
    for each in zip(lean, results, strict=True):
        torch.testing.assert_close(*each, atol=2e-5, rtol=2e-5)


def test_sides_that_are_no_whole_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 2"):
        codec().encode(torch.rand(1, 3, 16, 15))


def test_maps_in_host_memory_give_the_same() -> None:
    z, pixels = torch.randn(1, 4, 8, 6), torch.rand(1, 3, 16, 12)
    there, here = codec(9), codec(9)
    here.maps = "cpu"
    assert torch.equal(there.decode(z), here.decode(z))
    assert torch.equal(there.encode(pixels), here.encode(pixels))


def test_nothing_is_remembered_for_gradients() -> None:
    assert not codec().decode(torch.zeros(1, 4, 2, 2)).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tile", [None, 9])
def test_half_precision_is_near_and_comes_back_in_float32(
    dtype: torch.dtype, tile: int | None
) -> None:
    z, pixels = torch.randn(1, 4, 8, 6), torch.rand(1, 3, 16, 12)
    half, full = codec(tile, dtype), codec(tile)
    for near, exact in (
        (half.decode(z), full.decode(z)),
        (half.encode(pixels), full.encode(pixels)),
    ):
        assert near.dtype == torch.float32
        assert 0 < (near - exact).abs().mean() < 0.02 * exact.std()
    assert half.take_notes() == ()
    assert set(half.networks) == {dtype}


def too_large(by: float) -> dict[str, Tensor]:
    """A VAE inside of which values get as large as `by`, and small again at the next GroupNorm."""
    tensors = vae_state_dict(multipliers=SMALL)
    for part in ("encoder", "decoder"):
        tensors[f"{part}.conv_in.weight"] *= by
    return tensors


@pytest.mark.parametrize("tile", [None, 9])
@pytest.mark.parametrize("work", ["encode", "decode"])
def test_what_overflows_is_done_again_in_bfloat16(
    work: str, tile: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tileup")
    tensors = too_large(1e6)
    given = torch.randn(1, 4, 8, 6) if work == "decode" else torch.rand(1, 3, 16, 12)
    half = load_vae(tensors, scale=1.0, dtype=torch.float16, tile=tile)
    bfloat = load_vae(tensors, scale=1.0, dtype=torch.bfloat16, tile=tile)
    result = getattr(half, work)(given)
    assert result.isfinite().all()
    assert torch.equal(result, getattr(bfloat, work)(given))
    assert bfloat.take_notes() == ()
    (note,) = half.take_notes()
    assert "not finite in float16, so bfloat16 was used" in note
    assert note in caplog.text
    assert half.take_notes() == ()


def test_a_picture_does_not_depend_on_those_before() -> None:
    """One that overflows leaves the next in the precision that was asked for."""
    half = load_vae(too_large(100), scale=1.0, dtype=torch.float16, tile=None)
    usual, large = torch.randn(1, 4, 4, 4), 1e4 * torch.randn(1, 4, 4, 4)
    before = half.decode(usual)
    assert half.take_notes() == ()
    half.decode(large)
    assert len(half.take_notes()) == 1
    assert torch.equal(half.decode(usual), before)
    assert half.take_notes() == ()


def test_what_overflows_in_bfloat16_is_done_again_in_float32() -> None:
    """Weights near the top of float32 round to infinity in bfloat16."""
    tensors = vae_state_dict(multipliers=SMALL)
    tensors["decoder.conv_out.bias"][:] = torch.finfo(torch.float32).max
    asked = load_vae(tensors, scale=1.0, dtype=torch.bfloat16, tile=None)
    assert asked.decode(torch.zeros(1, 4, 2, 2)).isfinite().all()
    assert "so float32 was used to decode" in asked.take_notes()[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_finite_in_no_precision_is_an_error(dtype: torch.dtype) -> None:
    tensors = vae_state_dict(multipliers=SMALL)
    tensors["decoder.conv_out.weight"] *= 1e38
    tensors["decoder.conv_out.weight"][:] = tensors["decoder.conv_out.weight"].abs()
    asked = load_vae(tensors, scale=1.0, dtype=dtype, tile=None)
    with pytest.raises(TileupError, match=r"cannot decode this picture.*not finite.*--vae"):
        asked.decode(100 * torch.randn(1, 4, 8, 8))
