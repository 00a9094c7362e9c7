"""Space to depth loses nothing and keeps places."""

import pytest
import torch
from torch.nn import functional

from tileup.codec.space_to_depth import PixelCodec


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_round_trip(stride: int) -> None:
    pixels = torch.rand(1, 3, 4 * stride, 6 * stride, dtype=torch.float64)
    latents = PixelCodec(stride).encode(pixels)
    assert latents.shape == (1, 3 * stride**2, 4, 6)
    torch.testing.assert_close(PixelCodec(stride).decode(latents), pixels)


def test_a_pixel_lands_in_its_cell() -> None:
    pixels = torch.zeros(1, 3, 6, 8)
    pixels[0, 1, 3, 5] = 1
    cells = (PixelCodec(2).encode(pixels) > 0).nonzero()
    assert cells.tolist() == [[0, 1 * 4 + 1 * 2 + 1, 1, 2]]


def test_range() -> None:
    codec = PixelCodec(2)
    assert codec.encode(torch.zeros(1, 3, 2, 2)).unique().tolist() == [-1.0]
    assert codec.encode(torch.ones(1, 3, 2, 2)).unique().tolist() == [1.0]


def test_it_is_torch_s_own_where_cells_are_moved_some_rows_at_a_time() -> None:
    pixels = torch.rand(1, 3, 74, 6)
    latents = PixelCodec(2).encode(pixels)
    assert torch.equal(latents, functional.pixel_unshuffle(pixels * 2 - 1, 2))
    back = PixelCodec(2).decode(latents)
    assert torch.equal(back, (functional.pixel_shuffle(latents, 2) + 1) / 2)
