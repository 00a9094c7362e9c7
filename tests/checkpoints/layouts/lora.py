"""Small LoRAs with random weights, in the layouts of the programs that train them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Changes = Mapping[str, tuple[Tensor, Tensor]]
"""Layer to the two small matrices of its change, `down` and `up`."""
ALPHA = 3.0


def layers_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every linear and convolution layer, with the shape of its weight."""
    return {
        name: tuple(each.weight.shape)
        for name, each in module.named_modules()
        if isinstance(each, nn.Linear | nn.Conv2d)
    }


def changes(layers: Mapping[str, tuple[int, ...]], rank: int = 2, seed: int = 5) -> Changes:
    """A change of each layer, of the size of its weight when that has variance 1 / inputs."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, tuple[Tensor, Tensor]] = {}
    for name, (outputs, inputs, *kernel) in layers.items():
        down = torch.randn(rank, inputs, *kernel, generator=generator) / down_scale(inputs, kernel)
        up = torch.randn(outputs, rank, *(1 for _ in kernel), generator=generator)
        made[name] = down, up
    return made


def down_scale(inputs: int, kernel: list[int]) -> float:
    return (inputs * (kernel[0] * kernel[1] if kernel else 1)) ** 0.5


def product(down: Tensor, up: Tensor) -> Tensor:
    """`up @ down` in the shape of the weight: what one layer after the other computes."""
    return torch.einsum("or,ri...->oi...", up.flatten(1), down)


def kohya_lora(
    made: Changes, prefix: str = "lora_unet_", alpha: float = ALPHA
) -> dict[str, Tensor]:
    """As kohya's sd-scripts write it."""
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in made.items():
        layer = prefix + name.replace(".", "_")
        tensors[f"{layer}.lora_down.weight"] = down
        tensors[f"{layer}.lora_up.weight"] = up
        tensors[f"{layer}.alpha"] = torch.tensor(alpha)
    return tensors


def dotted_lora(
    made: Changes,
    prefix: str = "unet.",
    down: str = "lora_A.weight",
    up: str = "lora_B.weight",
    alpha: float = ALPHA,
) -> dict[str, Tensor]:
    """As diffusers writes it: without alpha, which is worked into `up` here."""
    tensors: dict[str, Tensor] = {}
    for name, (first, second) in made.items():
        tensors[f"{prefix}{name}.{down}"] = first
        tensors[f"{prefix}{name}.{up}"] = second * (alpha / len(first))
    return tensors


def added(
    weights: Mapping[str, Tensor], made: Changes, weight: float = 1.0, alpha: float = ALPHA
) -> dict[str, Tensor]:
    """Closed form: the weights of a network with the change in them."""
    changed = dict(weights)
    for name, (down, up) in made.items():
        old = weights[f"{name}.weight"]
        change = product(down.float(), up.float()).reshape(old.shape)
        changed[f"{name}.weight"] = old + weight * alpha / len(down) * change
    return changed


def relatives(
    layers: Mapping[str, tuple[int, ...]], prefix: str = "lora_unet_", seed: int = 6
) -> dict[str, dict[str, Tensor]]:
    """LoRA's relatives with random numbers, as LyCORIS writes them, by kind.

    Args:
        layers: of matrices whose sides are even, with their shapes.
        prefix: before the layers' names.
        seed: of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in RELATIVES}
    for name, (outputs, inputs) in layers.items():
        layer = prefix + name.replace(".", "_")
        for part, shape in {
            "hada_w1_a": (outputs, 2),
            "hada_w1_b": (2, inputs),
            "hada_w2_a": (outputs, 2),
            "hada_w2_b": (2, inputs),
        }.items():
            kinds["LoHa"][f"{layer}.{part}"] = drawn(*shape) / inputs**0.25
        kinds["LoKr"][f"{layer}.lokr_w1"] = drawn(2, 2)
        kinds["LoKr"][f"{layer}.lokr_w2"] = drawn(outputs // 2, inputs // 2) / inputs**0.5
        kinds["DoRA"][f"{layer}.lora_down.weight"] = drawn(2, inputs) / inputs**0.5
        kinds["DoRA"][f"{layer}.lora_up.weight"] = drawn(outputs, 2)
        kinds["DoRA"][f"{layer}.dora_scale"] = drawn(outputs, 1).abs()
        kinds["differences"][f"{layer}.diff"] = drawn(outputs, inputs) / inputs**0.5
    for kind in ("LoHa", "DoRA"):
        layer_names = {name.partition(".")[0] for name in kinds[kind]}
        kinds[kind] |= {f"{layer}.alpha": torch.tensor(ALPHA) for layer in layer_names}
    return kinds


RELATIVES = ("LoHa", "LoKr", "DoRA", "differences")
