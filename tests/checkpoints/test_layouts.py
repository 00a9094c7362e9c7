"""The rules of renaming against diffusers' own converters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts.flux import FULL_WIDTH, flux_shapes
from tests.checkpoints.layouts.sd3 import sd3_shapes, sd3_transformer
from tests.checkpoints.layouts.weights import Shapes, random_weights
from tileup.errors import ModelError
from tileup.families.flux import flux_config, flux_rules
from tileup.families.sd3 import sd3_config, sd3_rules
from tileup.tensors.renaming import converted
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


SD3 = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "attention_head_dim": 64,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
}
PUBLISHED = {
    "sd3 medium": SD3
    | {
        "num_layers": 24,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "pos_embed_max_size": 192,
        "dual_attention_layers": (),
        "qk_norm": None,
    },
    "sd3.5 large": SD3
    | {
        "num_layers": 38,
        "num_attention_heads": 38,
        "caption_projection_dim": 2432,
        "pos_embed_max_size": 192,
        "dual_attention_layers": (),
        "qk_norm": "rms_norm",
    },
    "sd3.5 medium": SD3
    | {
        "num_layers": 24,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "pos_embed_max_size": 384,
        "dual_attention_layers": tuple(range(13)),
        "qk_norm": "rms_norm",
    },
}
"""diffusers' settings of the published networks, but for sample_size: the table is stored."""


def without_memory(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes}


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED)
def test_sd3_of_full_size_has_the_published_settings(published: dict[str, Any]) -> None:
    shield_torchvision()
    from diffusers import SD3Transformer2DModel

    tensors = without_memory(
        sd3_shapes(
            depth=published["num_layers"],
            width=published["caption_projection_dim"],
            table=published["pos_embed_max_size"],
            qk_norm=published["qk_norm"] is not None,
            dual=len(published["dual_attention_layers"]),
            features=4096,
            pooled=2048,
        )
    )
    state, _ = converted(tensors, sd3_rules(tensors), "sd3")
    config = sd3_config(state, "sd3")
    assert {name: value for name, value in config.items() if name != "sample_size"} == published
    with torch.device("meta"):
        network = SD3Transformer2DModel(**config)
    assert shapes_of(network.state_dict()) == shapes_of(state)


@pytest.mark.parametrize(("guidance", "weights"), [(True, 11_901_408_320), (False, 11_891_178_560)])
def test_flux_of_full_size_has_the_published_settings(guidance: bool, weights: int) -> None:
    """But for the guidance, they are diffusers' defaults."""
    shield_torchvision()
    from diffusers import FluxTransformer2DModel

    tensors = without_memory(flux_shapes(19, 38, guidance, FULL_WIDTH, 4096, 768))
    assert sum(each.numel() for each in tensors.values()) == weights
    state, _ = converted(tensors, flux_rules(tensors, FULL_WIDTH), "flux")
    with torch.device("meta"):
        network = FluxTransformer2DModel(guidance_embeds=guidance)
    config = flux_config(state, "flux")
    assert config == {name: network.config[name] for name in config} | {"out_channels": 64}
    assert shapes_of(network.state_dict()) == shapes_of(state)


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
