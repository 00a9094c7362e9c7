"""NVFP4 by its definition, number by number, and against ComfyUI's library where it is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tileup.errors import ModelError
from tileup.tensors.checkpoint import open_checkpoint
from tileup.tensors.packed import Packed, unpacked


def drawn(rows: int, columns: int, seed: int = 0) -> dict[str, Tensor]:
    """Random bytes, random scales in whole tiles, and the scale of all."""
    generator = torch.Generator().manual_seed(seed)
    tiles = -(-rows // 128) * 128, -(-(columns // 16) // 4) * 4
    scales = 0.25 + 2 * torch.rand(tiles, generator=generator)
    return {
        "weight": torch.randint(
            0, 256, (rows, columns // 2), generator=generator, dtype=torch.uint8
        ),
        "weight_scale": scales.to(torch.float8_e4m3fn),
        "weight_scale_2": torch.tensor(0.3),
    }


def by_definition(tensors: dict[str, Tensor], row: int, column: int) -> float:
    """One number: E2M1, times the scale of its block as cuBLAS places it, times that of all."""
    byte = int(tensors["weight"][row, column // 2])
    bits = byte & 0xF if column % 2 else byte >> 4
    exponent, mantissa = bits >> 1 & 3, bits & 1
    number = (1 + mantissa / 2) * 2.0 ** (exponent - 1) if exponent else mantissa / 2
    block = column // 16
    across = -(-(tensors["weight"].shape[1] // 8) // 4)
    tile = row // 128 * across + block // 4
    place = tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + block % 4
    scale = float(tensors["weight_scale"].flatten()[place].float())
    return (-number if bits & 8 else number) * scale * float(tensors["weight_scale_2"])


def opened(path: Path, tensors: dict[str, Tensor]) -> Packed:
    mark = torch.tensor([*json.dumps({"format": "nvfp4"}).encode()], dtype=torch.uint8)
    stored = {f"net.a.{name}": each.contiguous() for name, each in tensors.items()}
    save_file(stored | {"net.a.comfy_quant": mark, "net.a.input_scale": torch.ones(())}, path)
    checkpoint = open_checkpoint(path)
    shape = tensors["weight"].shape
    if len(shape) == 2:
        assert checkpoint.tensors["net.a.weight"].shape == (shape[0], 2 * shape[1])
    (weight,) = checkpoint.state_dict("net.").values()
    assert isinstance(weight, Packed)
    return weight


@pytest.mark.parametrize("shape", [(16, 16), (130, 80), (300, 64), (128, 256)])
def test_every_number_is_the_one_of_the_definition(tmp_path: Path, shape: tuple[int, int]) -> None:
    tensors = drawn(*shape)
    weight = opened(tmp_path / "m.safetensors", tensors)
    found = unpacked(weight)
    assert found.shape == shape
    numbers = [by_definition(tensors, *place) for place in np.ndindex(*shape)]
    expected = torch.tensor(numbers).reshape(shape)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert torch.equal(unpacked(weight[3:9]), found[3:9])
    assert found.abs().max() <= weight.largest() * 1.0001
    assert weight.nbytes < 0.57 * found.numel() + 5
    assert found.std() > 0.1


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    tensors = drawn(16, 64)
    for change in (
        {"weight_scale": torch.ones(16, 4).to(torch.float8_e4m3fn)},
        {"weight": torch.zeros(16, 30, dtype=torch.uint8)},
        {"weight_scale_2": torch.ones(2)},
        {"weight": torch.zeros(16, dtype=torch.uint8)},
    ):
        with pytest.raises(ModelError, match=r"a\.weight is damaged: .* bytes of NVFP4"):
            opened(tmp_path / "m.safetensors", tensors | change)


def comfy() -> Any:  # noqa: ANN401
    """comfy-kitchen, which ComfyUI stores and computes with; not among what the tests ask for, as
    it is made for GPUs."""
    return pytest.importorskip("comfy_kitchen.backends.eager.quantization")


@pytest.mark.parametrize("shape", [(16, 16), (130, 80), (64, 256)])
def test_a_weight_is_what_comfyui_stored(tmp_path: Path, shape: tuple[int, int]) -> None:
    library = comfy()
    original = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    whole = original.abs().max() / (448 * 6)
    weight, scales = library.quantize_nvfp4(original, whole)
    tensors = {"weight": weight, "weight_scale": scales, "weight_scale_2": whole}
    found = unpacked(opened(tmp_path / "m.safetensors", tensors))
    expected = library.dequantize_nvfp4(weight, whole, scales, torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert (found - original).norm() / original.norm() < 0.15


@pytest.mark.parametrize("group", [16, 64, 256])
def test_int8_with_rotation_is_what_comfyui_stored(tmp_path: Path, group: int) -> None:
    library = comfy()
    original = torch.randn(32, 512, generator=torch.Generator().manual_seed(1))
    weight, scale = library.quantize_int8_convrot_weight(original, group)
    content = {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": group}
    mark = torch.tensor([*json.dumps(content).encode()], dtype=torch.uint8)
    stored = {"a.weight": weight, "a.weight_scale": scale, "a.comfy_quant": mark}
    save_file(stored, tmp_path / "m.safetensors")
    found = unpacked(open_checkpoint(tmp_path / "m.safetensors").state_dict()["a.weight"])
    assert (found - original).norm() / original.norm() < 0.02
