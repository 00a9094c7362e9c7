"""Which layer of a network a name in a LoRA file means.

LoRA files name layers in the words of the program that trained them. All those words come from
one of two: diffusers' names, or those of the model's first release; written with dots or with
underscores, and behind a prefix that says which network is meant. So each layer of a network that
was built is listed under both of its names, with underscores, and a lookup does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from tileup.families.family import no_rules
from tileup.tensors.renaming import Rule, Target
from tileup.tensors.renaming import targets as rule_targets

NETWORK, CLIP_L, CLIP_G, T5 = "network", "clip_l", "clip_g", "t5"
"""The networks that a LoRA can change. CLIP_L is also the only encoder of SD 2."""

PART_WORDS = {
    NETWORK: "the network",
    "clip_l": "the first text encoder",
    "clip_g": "the second text encoder",
    "t5": "the T5 text encoder",
    "llm": "the text encoder",
}
"""What messages call them, and the language model."""

_PREFIXES = {
    "lora_unet_": NETWORK,
    "lora_transformer_": NETWORK,
    "lycoris_": NETWORK,
    "unet.": NETWORK,
    "transformer.": NETWORK,
    "model.diffusion_model.": NETWORK,
    "diffusion_model.": NETWORK,
    "lora_te_": CLIP_L,
    "lora_te1_": CLIP_L,
    "text_encoder.": CLIP_L,
    "text_encoders.clip_l.transformer.": CLIP_L,
    "lora_te2_": CLIP_G,
    "text_encoder_2.": CLIP_G,
    "text_encoders.clip_g.transformer.": CLIP_G,
    "lora_te3_": T5,
    "text_encoder_3.": T5,
    "text_encoders.t5xxl.transformer.": T5,
}


def split_name(layer: str) -> tuple[str, str]:
    """Network and normal form of a layer's name: `lora_te_text_model_encoder_layers_0_mlp_fc1`
    is `clip_l`, `encoder_layers_0_mlp_fc1`. A name without a prefix is one of the network."""
    layer = layer.removeprefix("base_model.model.")
    prefix = next((each for each in _PREFIXES if layer.startswith(each)), "")
    part, name = _PREFIXES.get(prefix, NETWORK), normal(layer.removeprefix(prefix))
    if part == CLIP_G and name.startswith("encoder_block_"):
        part = T5  # also where it is the second encoder of its family
    return part, name


def normal(name: str) -> str:
    """A name with underscores, in the one spelling that all programs share."""
    name = name.replace(".", "_").replace("_processor_", "_").removeprefix("text_model_")
    if match := _PROCESSOR.fullmatch(name):
        before, which = match.groups()
        if before.endswith("self_attn"):
            return f"{before}_{which}_proj"
        return f"{before}_to_out_0" if which == "out" else f"{before}_to_{which}"
    return name


_PROCESSOR = re.compile(r"(.*)_to_(q|k|v|out)_lora")
"""diffusers before 0.22: `attn1.processor.to_q_lora`, `self_attn.to_q_lora`."""


def targets(
    layers: Collection[str], rules: Callable[[Collection[str]], Iterable[Rule]] = no_rules
) -> dict[str, Target]:
    """The normal form of every name by which LoRA files may call the layers of one network.

    Args:
        layers: names of its linear and convolution layers, as diffusers or transformers have them.
        rules: from these to what became of the names of the network's first release.
    """
    found = {normal(each): Target((each,)) for each in layers}
    for name, target in rule_targets(rules(layers), layers):
        found.setdefault(normal(name), target)
    return found


_KEY = re.compile(
    r"(?P<layer>.+?)"
    r"(?:\.|(?:\.lora|\.lora_linear_layer)?\.(?=down\.|up\.))"
    r"(?P<role>lora_down|lora_up|lora_mid|lora_A|lora_B|down|up|alpha|dora_scale"
    r"|lora_magnitude_vector|hada_[wt][12](?:_[ab])?|lokr_[wt][12](?:_[ab])?"
    r"|diff(?:_b)?|[wb]_norm)"
    r"(?:\.default\w*)?(?P<end>\.weight|\.bias)?"
)
_ROLES = {
    "lora_down": "down",
    "lora_A": "down",
    "down": "down",
    "lora_up": "up",
    "lora_B": "up",
    "up": "up",
    "lora_mid": "middle",
    "lora_magnitude_vector": "magnitude",
    "w_norm": "diff",
    "b_norm": "diff_b",
}
"""What different trainers call one thing; other roles keep their names."""


def role_of(key: str) -> tuple[str, str] | None:
    """Layer and role of a tensor; None where it is no part of a change."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    role = _ROLES.get(match["role"], match["role"])
    if match["end"] == ".bias":
        return (match["layer"], "up_bias") if role == "up" else None
    return match["layer"], role
