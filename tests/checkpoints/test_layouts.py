"""The rules of renaming against diffusers' own converters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts.flux import FULL_WIDTH, flux_shapes
from tests.checkpoints.layouts.sd3 import sd3_transformer
from tests.checkpoints.layouts.weights import random_weights
from tileup.checkpoints.flux import flux_rules
from tileup.checkpoints.layouts import converted
from tileup.checkpoints.sd3 import sd3_rules
from tileup.errors import ModelError
from tileup.torchvision_shield import shield_torchvision

Convert = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def converter(name: str) -> Convert:
    shield_torchvision()
    from diffusers.loaders import single_file_utils

    return getattr(single_file_utils, f"convert_{name}_transformer_checkpoint_to_diffusers")


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize(
    "variant",
    [{}, {"qk_norm": True}, {"qk_norm": True, "dual": 2}, {"depth": 1}],
    ids=["sd3", "sd3.5 large", "sd3.5 medium", "one block"],
)
def test_sd3_is_renamed_as_by_diffusers(variant: dict[str, int]) -> None:
    tensors = sd3_transformer(**{"depth": 3, "width": 64, "table": 2} | variant)  # type: ignore[arg-type]
    found, origin = converted(tensors, sd3_rules(tensors), "sd3")
    same(found, converter("sd3")(dict(tensors)))
    assert set(origin.values()) == tensors.keys()
    last = max(name for name in found if name.endswith("norm1_context.linear.weight"))
    assert _copies(found, tensors) == {"norm_out.linear", last.removesuffix(".weight")}


@pytest.mark.parametrize("guidance", [True, False], ids=["dev", "schnell"])
def test_flux_of_full_size_is_renamed_as_by_diffusers(guidance: bool) -> None:
    """All 19 and 38 blocks in all their rows, but in one column: converters only move rows."""
    shapes = flux_shapes(19, 38, guidance, FULL_WIDTH, 4096, 768)
    thin = [(name, (shape[0], 1) if len(shape) == 2 else shape) for name, shape in shapes]
    tensors = random_weights(thin, seed=0)
    found, origin = converted(tensors, flux_rules(tensors, FULL_WIDTH), "flux")
    same(found, converter("flux")(dict(tensors)))
    assert set(origin.values()) == tensors.keys()
    assert _copies(found, tensors) == {"norm_out.linear"}


def _copies(found: dict[str, Tensor], tensors: dict[str, Tensor]) -> set[str]:
    """Layers of the network whose weights are not those of the file, but copies."""
    known = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    return {
        name.rpartition(".")[0]
        for name, tensor in found.items()
        if tensor.untyped_storage().data_ptr() not in known
    }


def test_a_block_that_is_missing_is_named_as_in_the_file() -> None:
    tensors = sd3_transformer(depth=3, width=64, table=2)
    gap = {name: each for name, each in tensors.items() if not name.startswith("joint_blocks.1.")}
    with pytest.raises(ModelError, match=r"lacks .*joint_blocks\.1\.context_block"):
        converted(gap, sd3_rules(gap), "sd3")


def test_rows_that_cannot_be_divided_are_refused() -> None:
    tensors = sd3_transformer(width=64, table=2)
    tensors["joint_blocks.0.x_block.attn.qkv.weight"] = torch.zeros(190, 64)
    with pytest.raises(ModelError, match=r"attn\.qkv\.weight has shape \(190, 64\)"):
        converted(tensors, sd3_rules(tensors), "sd3")
