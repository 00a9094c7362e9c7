"""Weights of 8 bits with scales beside them: the closed form, and what belongs to other formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tileup.errors import ModelError
from tileup.tensors.checkpoint import open_checkpoint
from tileup.tensors.formats import METADATA
from tileup.tensors.packed import precision, unpacked
from tileup.tensors.scaled import is_helper, scale_of, unscaled

WEIGHT = torch.tensor([[1.0, -2.0], [4.0, 0.5], [8.0, 16.0]]).to(torch.float8_e4m3fn)


@pytest.mark.parametrize("end", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize(
    "scale",
    [
        torch.tensor(0.25),
        torch.tensor([0.25]),
        torch.tensor([0.5, 0.25, 2.0]),
        torch.tensor([[0.5], [0.25], [2.0]]),
    ],
)
def test_a_weight_is_multiplied_by_its_scale(end: str, scale: torch.Tensor) -> None:
    tensors = {"a.weight": WEIGHT, f"a.{end}": scale, "a.bias": torch.ones(3)}
    found = unscaled(tensors)
    assert found.keys() == {"a.weight", "a.bias"}
    expected = WEIGHT.float() * torch.tensor(spread(scale))[:, None]
    assert precision(found["a.weight"]) == torch.float8_e4m3fn
    assert torch.equal(unpacked(found["a.weight"]), expected)
    assert torch.equal(unpacked(found["a.weight"].half()), expected.half())
    assert found["a.bias"] is tensors["a.bias"]


def spread(scale: torch.Tensor) -> list[float]:
    values = scale.flatten().tolist()
    return values * 3 if len(values) == 1 else values


def test_convolutions_have_a_scale_for_each_filter() -> None:
    weight = torch.ones(2, 3, 1, 1)
    for scale in (torch.tensor([2.0, 4.0]), torch.tensor([2.0, 4.0]).reshape(2, 1, 1, 1)):
        found = unpacked(unscaled({"a.weight": weight, "a.weight_scale": scale})["a.weight"])
        assert found.shape == weight.shape
        assert found[:, 0, 0, 0].tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    "scale",
    [torch.ones(2), torch.ones(1, 3), torch.ones(3, 2), torch.ones(4), torch.ones(3, 1, 1)],
)
def test_scales_of_other_formats_are_refused(scale: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"a\.weight has the shape \[3, 2\], and its scale"):
        unscaled({"a.weight": WEIGHT, "a.weight_scale": scale})


def test_a_scale_without_a_weight_stays() -> None:
    tensors = {"a.weight_scale": torch.ones(())}
    assert unscaled(tensors) == tensors


@pytest.mark.parametrize(
    "name",
    ["scaled_fp8", "model.scaled_fp8", "a.scale_input", "a.input_scale", "a.comfy_quant"],
)
def test_marks_are_left_out(name: str) -> None:
    assert is_helper(name)
    assert scale_of(name) is None
    kept = {"a.weight": torch.ones(2, 2)}
    assert unscaled({**kept, name: torch.ones(())}) == kept


@pytest.mark.parametrize("name", ["a.weight", "scale_weight", "norm.scale", "a.logit_scale"])
def test_weights_with_such_words_in_their_names_are_weights(name: str) -> None:
    assert not is_helper(name)
    assert list(unscaled({name: torch.ones(3)})) == [name]


FLOAT8 = {"format": "float8_e4m3fn"}
INT8 = {"format": "int8_tensorwise"}
ROTATED = INT8 | {"convrot": True, "convrot_groupsize": 16}


def opened(path: Path, tensors: dict[str, Tensor], metadata: str = "") -> dict[str, Tensor]:
    """The tensors behind `net.` of a file, as a network gets them."""
    stored = {f"net.{name}": each for name, each in tensors.items()}
    save_file(stored, path, metadata={METADATA: metadata} if metadata else None)
    return open_checkpoint(path).state_dict("net.")


def mark(content: object) -> Tensor:
    return torch.tensor([*json.dumps(content).encode()], dtype=torch.uint8)


def int8(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-127, 128, (6, 32), generator=generator, dtype=torch.int8)
    return {"a.weight": weight, "a.weight_scale": 0.01 + torch.rand(6, 1, generator=generator)}


@pytest.mark.parametrize("in_metadata", [False, True])
def test_a_marked_weight_is_read_as_its_mark_says(tmp_path: Path, in_metadata: bool) -> None:
    float8 = {"a.weight": WEIGHT, "a.weight_scale": torch.tensor(0.25)}
    for tensors, content, expected in (
        (float8, FLOAT8, WEIGHT.float() * 0.25),
        (int8(), INT8, int8()["a.weight"].float() * int8()["a.weight_scale"]),
    ):
        more = {} if in_metadata else {"a.comfy_quant": mark(content)}
        told = json.dumps({"layers": {"net.a": content}}) if in_metadata else ""
        found = opened(tmp_path / "m.safetensors", tensors | more, told)
        assert found.keys() == {"a.weight"}
        assert torch.equal(unpacked(found["a.weight"]), expected)


def test_a_rotated_weight_is_rotated_back(tmp_path: Path) -> None:
    """Rotated with a matrix written down by hand: rows of 16, from products of four by four."""
    four = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]])
    matrix = torch.einsum("ab,cd->acbd", four, four).reshape(16, 16) / 4
    assert torch.allclose(matrix @ matrix.T, torch.eye(16))
    original = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
    turned = torch.cat([part @ matrix for part in original.split(16, dim=1)], dim=1)
    scale = turned.abs().amax(1, keepdim=True) / 127
    stored = {"a.weight": (turned / scale).round().to(torch.int8), "a.weight_scale": scale}
    path = tmp_path / "m.safetensors"
    found = opened(path, stored | {"a.comfy_quant": mark(ROTATED)})["a.weight"]
    assert (unpacked(found) - original).abs().max() < 0.05
    assert found.nbytes < 0.5 * original.nbytes
    plain = opened(path, stored | {"a.comfy_quant": mark(INT8)})["a.weight"]
    assert (unpacked(plain) - original).abs().max() > 0.5


def test_whole_numbers_without_a_mark_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a\.weight is stored in whole numbers with a scale"):
        opened(tmp_path / "m.safetensors", int8())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"format": "mxfp8"}, "format mxfp8"),
        ({"format": "nvfp4"}, "marked nvfp4, but its weight is stored in I8"),
        ({"format": "svdquant_w4a4"}, "format svdquant_w4a4"),
        ({}, "format unnamed"),
        ([1], "format unnamed"),
        (INT8 | {"convrot": True, "convrot_groupsize": 20}, "groups of 20"),
        (INT8 | {"convrot": True, "convrot_groupsize": 64}, "groups of 64 columns"),
        (FLOAT8, "marked float8_e4m3fn, but its weight is stored in I8"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        opened(tmp_path / "m.safetensors", int8() | {"a.comfy_quant": mark(content)})


def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    broken = {"a.comfy_quant": torch.tensor([*b"{"], dtype=torch.uint8)}
    with pytest.raises(ModelError, match=r"a\.comfy_quant is no JSON"):
        opened(tmp_path / "m.safetensors", int8() | broken)
    with pytest.raises(ModelError, match="no table of layers"):
        opened(tmp_path / "m.safetensors", int8(), "[")


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.wscales", "SVDQuant"), ("a.weight.absmax", "bitsandbytes"), ("a.qzeros", "GPTQ")],
)
def test_formats_without_marks_are_named_too(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        opened(tmp_path / "m.safetensors", {name: torch.ones(2)})
