"""Weights of 8 bits with scales beside them: the closed form, and what belongs to other formats."""

from __future__ import annotations

import pytest
import torch

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
    assert found["a.weight"].dtype is torch.bfloat16
    assert torch.equal(found["a.weight"].float(), expected)
    assert found["a.bias"] is tensors["a.bias"]
    assert unscaled(tensors, torch.float16)["a.weight"].dtype is torch.float16


def spread(scale: torch.Tensor) -> list[float]:
    values = scale.flatten().tolist()
    return values * 3 if len(values) == 1 else values


def test_convolutions_have_a_scale_for_each_filter() -> None:
    weight = torch.ones(2, 3, 1, 1)
    for scale in (torch.tensor([2.0, 4.0]), torch.tensor([2.0, 4.0]).reshape(2, 1, 1, 1)):
        found = unscaled({"a.weight": weight, "a.weight_scale": scale})["a.weight"]
        assert found.shape == weight.shape
        assert found[:, 0, 0, 0].tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    "scale",
    [torch.ones(2), torch.ones(1, 3), torch.ones(3, 2), torch.ones(4), torch.ones(3, 1, 1)],
)
def test_scales_of_other_formats_stay_and_change_nothing(scale: torch.Tensor) -> None:
    tensors = {"a.weight": WEIGHT, "a.weight_scale": scale}
    assert unscaled(tensors) == tensors


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
