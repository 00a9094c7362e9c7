"""LoRAs on the newer families: which weight becomes what, in the key layouts that people use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.checkpoints import whole
from tests.checkpoints.layouts.lora import (
    ALPHA,
    Changes,
    added,
    changes,
    dotted_lora,
    kohya_lora,
    layers_of,
    product,
)
from tests.checkpoints.layouts.unet import PREFIX
from tests.checkpoints.test_lora import assert_all_layers_changed, assert_same, state
from tests.families.building import how
from tileup.checkpoints.lora import read_lora
from tileup.checkpoints.lora_merge import merge_loras
from tileup.families.family import Family
from tileup.families.table import FAMILIES

PARTS: Mapping[str, Callable[[], Mapping[str, Mapping[str, Tensor]]]] = {
    "chroma": whole.chroma_parts,
    "z-image": whole.z_image_parts,
    "lumina2": whole.lumina2_parts,
    "qwen-image": whole.qwen_image_parts,
    "flux2-klein": whole.flux2_parts,
    "flux2-dev": functools.partial(whole.flux2_parts, guidance=True),
}


@dataclass(frozen=True, slots=True)
class Small:
    """A small network of one family."""

    family: Family
    weights: Mapping[str, Tensor]
    """As the original file names them."""
    before: Mapping[str, Tensor]
    """As the network has them."""
    layers: Mapping[str, tuple[int, ...]]
    """Those of the network, with the shapes of their weights."""

    def merged(self, tensors: Mapping[str, Tensor], weight: float = 1.0) -> dict[str, Tensor]:
        """The network's weights with a LoRA in them."""
        module = self.family.build({**self.weights}, how()).module
        merge_loras(module, [(read_lora("x", tensors), weight)], rules=self.family.rules)
        return state(module)


@functools.cache
def small(name: str) -> Small:
    """Nobody changes it."""
    family = next(each for each in FAMILIES if each.name == name)
    network = PARTS[name]()["network"]
    weights = {key.removeprefix(PREFIX): tensor for key, tensor in network.items()}
    module = family.build({**weights}, how()).module
    return Small(family, weights, state(module), layers_of(module))


def in_file_words(made: Changes) -> dict[str, dict[str, Tensor]]:
    """Layouts of trainers that take the names of the original file."""
    both = dotted_lora(
        made, "diffusion_model.", "lora_down.weight", "lora_up.weight", len_rank(made)
    )
    alphas = {f"diffusion_model.{name}.alpha": torch.tensor(ALPHA) for name in made}
    return {
        "kohya": kohya_lora(made),
        "ComfyUI": dotted_lora(made, "diffusion_model."),
        "ComfyUI with alpha": both | alphas,
        "whole checkpoints": dotted_lora(made, "model.diffusion_model."),
    }


def in_diffusers_words(made: Changes) -> dict[str, dict[str, Tensor]]:
    """Layouts of trainers that take diffusers' names."""
    return {
        "diffusers": dotted_lora(made, "transformer."),
        "ai-toolkit": dotted_lora(made, "diffusion_model."),
        "peft": dotted_lora(made, "base_model.model."),
        "bare": dotted_lora(made, "", "lora_down.weight", "lora_up.weight"),
        "kohya": kohya_lora(made, "lora_transformer_"),
        "musubi": kohya_lora(made),
    }


def len_rank(made: Changes) -> float:
    """An alpha that scales by 1."""
    return float(len(next(iter(made.values()))[0]))


@pytest.mark.parametrize("name", PARTS)
def test_in_the_originals_names_the_file_is_changed(name: str) -> None:
    """W + weight * alpha / rank * up @ down in the file, and then read, is what is merged."""
    net = small(name)
    layers = {
        key.removesuffix(".weight"): tuple(tensor.shape)
        for key, tensor in net.weights.items()
        if key.endswith(".weight") and tensor.ndim == 2
    }
    made = changes(layers)
    wanted = state(net.family.build(added(net.weights, made, 0.7), how()).module)
    changed = [key for key, tensor in wanted.items() if not torch.equal(tensor, net.before[key])]
    assert {key.removesuffix(".weight") for key in changed} == net.layers.keys()
    for layout, tensors in in_file_words(made).items():
        found = net.merged(tensors, 0.7)
        assert found.keys() == wanted.keys(), layout
        assert_same(found, wanted)


@pytest.mark.parametrize("name", PARTS)
def test_in_diffusers_names_the_layer_itself_is_changed(name: str) -> None:
    net = small(name)
    made = changes(net.layers)
    wanted = added(net.before, made, -0.4)
    assert_all_layers_changed(wanted, net.before, made)
    for tensors in in_diffusers_words(made).values():
        assert_same(net.merged(tensors, -0.4), wanted)


FUSED: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "chroma": (
        (
            "double_blocks.0.img_attn.qkv",
            tuple(f"transformer_blocks.0.attn.to_{each}" for each in "qkv"),
        ),
        (
            "double_blocks.0.txt_attn.qkv",
            tuple(f"transformer_blocks.0.attn.add_{each}_proj" for each in "qkv"),
        ),
        (
            "single_blocks.0.linear1",
            (
                *(f"single_transformer_blocks.0.attn.to_{each}" for each in "qkv"),
                "single_transformer_blocks.0.proj_mlp",
            ),
        ),
    ),
    "z-image": (
        ("layers.0.attention.qkv", tuple(f"layers.0.attention.to_{each}" for each in "qkv")),
        (
            "noise_refiner.0.attention.qkv",
            tuple(f"noise_refiner.0.attention.to_{each}" for each in "qkv"),
        ),
    ),
    "lumina2": (("layers.0.attention.qkv", tuple(f"layers.0.attn.to_{each}" for each in "qkv")),),
    "flux2-klein": (
        (
            "double_blocks.0.img_attn.qkv",
            tuple(f"transformer_blocks.0.attn.to_{each}" for each in "qkv"),
        ),
        (
            "double_blocks.0.txt_attn.qkv",
            tuple(f"transformer_blocks.0.attn.add_{each}_proj" for each in "qkv"),
        ),
        ("single_blocks.0.linear1", ("single_transformer_blocks.0.attn.to_qkv_mlp_proj",)),
    ),
}
"""What lies in one matrix in the original, from the first row down, by diffusers' names: written
down from both networks, and not read from tileup's rules."""


@pytest.mark.parametrize("name", FUSED)
def test_what_is_one_matrix_in_the_original_is_divided_by_rows(name: str) -> None:
    net = small(name)
    for layer, parts in FUSED[name]:
        shape: tuple[int, ...] = tuple(net.weights[f"{layer}.weight"].shape)
        made = changes({layer: shape})
        found = net.merged(kohya_lora(made))
        rest = 1.0 * ALPHA / 2 * product(*made[layer])
        for part in parts:
            own = net.before[f"{part}.weight"]
            wanted, rest = rest[: len(own)], rest[len(own) :]
            change = found[f"{part}.weight"] - own
            torch.testing.assert_close(change, wanted, rtol=1e-4, atol=1e-5)
            assert change.std() > 0.05
        assert len(rest) == 0
        others = net.before.keys() - {f"{part}.weight" for part in parts}
        assert all(torch.equal(found[key], net.before[key]) for key in others)
