"""Files that go with a model, from their heads: for which models they are, and of what kind.

No torch needed, and no tensor is read but marks of a few numbers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from math import prod

from tileup.checkpoints.lora_names import NETWORK, PART_WORDS, role_of, split_name
from tileup.checkpoints.made_for import HINTS, LayerSize, families_of_layers, in_words
from tileup.codec.causal_layout import DIFFUSERS, ORIGINAL
from tileup.codec.vae_layout import LATENTS_IN
from tileup.families import control_signs as signs
from tileup.families.controlled import controlled
from tileup.families.flux2 import KLEIN_9B
from tileup.families.foreign import Kind
from tileup.families.qwen_image import VAE
from tileup.families.table import FAMILIES, named
from tileup.families.view import View
from tileup.tensors.checkpoint import Checkpoint
from tileup.text.embeddings import carried_names
from tileup.wording import counted, listed

Sides = tuple[int, ...]
FactPairs = Iterator[tuple[str, str]]
UNTOLD = "not told by the file"


def facts_of(checkpoint: Checkpoint, kind: Kind) -> dict[str, str]:
    """What is known of a file that goes with a model, for people, by headings.

    Args:
        checkpoint: the file.
        kind: what it is.
    """
    look = _LOOKS.get(kind.name)
    return dict(look(checkpoint)) if look else {}


def _lora(checkpoint: Checkpoint) -> FactPairs:
    layers: dict[tuple[str, str], dict[str, Sides]] = defaultdict(dict)
    for key, info in checkpoint.tensors.items():
        if told := role_of(key):
            layers[split_name(told[0])][told[1]] = info.shape
    network = {name: _layer(each) for (part, name), each in layers.items() if part == NETWORK}
    families = families_of_layers(network)
    yield "made for", in_words(families, View(checkpoint, "")) or UNTOLD
    ranks = sorted({rank for each in layers.values() if (rank := _rank(each))})
    if ranks:
        yield "rank", f"{ranks[0]} to {ranks[-1]}" if ranks[1:] else str(ranks[0])
    counts = Counter(part for part, _ in layers)
    words = [f"{counted(count, 'layer')} of {PART_WORDS[part]}" for part, count in counts.items()]
    if words:
        yield "changes", listed(words)
    if names := carried_names(checkpoint.tensors):
        yield "embeddings", ", ".join(names)


def _layer(roles: Mapping[str, Sides]) -> LayerSize | None:
    """Height and width of the weight that a layer's tensors change."""
    try:
        if "down" in roles:
            return LayerSize(roles["up"][0], roles["down"][1])
        if "hada_w1_a" in roles:
            return LayerSize(
                roles["hada_w1_a"][-1 if "hada_t1" in roles else 0], roles["hada_w1_b"][1]
            )
        if any(role.startswith("lokr") for role in roles):
            sides = [_side(roles, "lokr", each) for each in "12"]
            return LayerSize(
                prod(each.outputs for each in sides), prod(each.inputs for each in sides)
            )
        return LayerSize(*roles["diff"][:2])
    except (KeyError, IndexError, TypeError):
        return None


def _side(roles: Mapping[str, Sides], kind: str, number: str) -> LayerSize:
    whole = roles.get(f"{kind}_w{number}")
    if whole:
        return LayerSize(whole[0], whole[1])
    first = roles[f"{kind}_w{number}_a"]
    return LayerSize(
        first[-1 if f"{kind}_t{number}" in roles else 0], roles[f"{kind}_w{number}_b"][1]
    )


def _rank(roles: Mapping[str, Sides]) -> int | None:
    """Of a change; None where it has none."""
    if "middle" in roles and "up" in roles and len(roles["up"]) > 1:
        return roles["up"][1]
    for role in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if roles.get(role):
            return roles[role][0]
    return None


def _controlnet(checkpoint: Checkpoint) -> FactPairs:
    view = View(checkpoint, _prefix_of_control(checkpoint))
    yield "made for", controlled(view) or in_words((), view) or UNTOLD
    yield "hint", _hint(view)


def _prefix_of_control(checkpoint: Checkpoint) -> str:
    prefix = signs.UNET_PREFIX
    return prefix if any(name.startswith(prefix) for name in checkpoint.tensors) else ""


def _hint(view: View) -> str:
    """What a ControlNet is to be shown."""
    for key, tile in _UNIONS:
        if key in view:
            kinds = view.shape(key, 2)[0]
            has = "a tile among them" if kinds > tile else "no tile among them"
            return f"union of {counted(kinds, 'kind')}, {has}"
    if signs.SD3_KIND in view:
        values = view.checkpoint.values(view.prefix + signs.SD3_KIND)
        number = 0 if values is None or not values.size else round(float(values.flat[0]))
        return signs.SD3_KINDS.get(number, "the picture itself (blur)")
    said = view.said_of(_HINTS)
    return UNTOLD if said is None else f"{said[1]} (by {said[0]})"


_UNIONS = ((signs.UNET_UNION, signs.UNET_TILE), (signs.FLUX_MODES, signs.FLUX_TILE))
_HINTS = re.compile(
    r"union|tile|upscal\w*|blur|canny|depth|normal|pose|scribble|sketch|lineart|softedge|hed|seg"
    r"|inpaint|gray|shuffle|mlsd|ip2p|brightness|qr"
)
"""What ControlNets are called by what they are shown."""


def _vae(checkpoint: Checkpoint) -> FactPairs:
    for prefix in ("", "first_stage_model.", "vae."):
        view = View(checkpoint, prefix)
        if ORIGINAL.sign in view or DIFFUSERS.sign in view:
            yield "made for", VAE
            return
        if LATENTS_IN in view:
            video = view.sides(LATENTS_IN) == 5
            channels = view.shape(LATENTS_IN, 5 if video else 4)[1]
            # What shares a number has VAEs that are built alike, but for those of videos.
            families = [
                name for name, hints in HINTS.items() if hints.latents == channels and not video
            ]
            none = "no family that tileup loads"
            yield "made for", in_words(families, view) if families else none
            yield "latent channels", str(channels)
            return


def _clip(checkpoint: Checkpoint) -> FactPairs:
    name = next(each for each in checkpoint.tensors if each.endswith("token_embedding.weight"))
    width = View(checkpoint, "").shape(name, 2)[1]
    titles = {768: "CLIP-L (--clip-l)", 1024: "OpenCLIP-H of SD 2 (--clip-l)"}
    titles[1280] = "CLIP-G (--clip-g)"
    yield "which", titles.get(width, f"of {width} features, which no family of tileup's takes")


def _t5(checkpoint: Checkpoint) -> FactPairs:
    name = next(each for each in checkpoint.tensors if each.endswith(".SelfAttention.q.weight"))
    width = View(checkpoint, "").shape(name, 2)[1]
    tables = ("shared.weight", "embed_tokens.weight")
    words = [info.shape[0] for each, info in checkpoint.tensors.items() if each.endswith(tables)]
    if words and words[0] > 40_000:
        yield "which", "umT5, as Wan and AuraFlow have it; tileup has no use for it"
        return
    yield "which", "T5-XXL" if width == 4096 else f"of {width} features, not T5-XXL"
    users = named((each for each in FAMILIES if "t5" in each.text.parts), last="and")
    yield "read by", users


def _language(checkpoint: Checkpoint) -> FactPairs:
    name = next(
        (each for each in checkpoint.tensors if each.endswith("layers.0.self_attn.q_proj.weight")),
        None,
    )
    if name is None:
        return
    view = View(checkpoint, name.removesuffix("self_attn.q_proj.weight"))
    width = view.shape("self_attn.q_proj.weight", 2)[1]
    tell = ("self_attn.q_norm.weight", "self_attn.q_proj.bias", "post_feedforward_layernorm.weight")
    title = LANGUAGE_MODELS.get((width, *(each in view for each in tell)))
    if title is None:
        yield "which", f"of {width} features, which no family of tileup's takes"
        return
    yield "which", title
    readers = (each for each in FAMILIES if each.text.llm and each.text.llm.title == title)
    yield "read by", named(readers, last="and") or KLEIN_9B


LANGUAGE_MODELS: Mapping[tuple[int, ...], str] = {
    (2560, True, False, False): "Qwen3 4B",
    (4096, True, False, False): "Qwen3 8B",
    (3584, False, True, False): "Qwen2.5-VL 7B",
    (2304, False, False, True): "Gemma 2 2B",
    (5120, False, False, False): "Mistral Small 3.2 24B",
}
"""By width, and by whether queries have a norm and a bias, and perceptrons a norm behind them."""


def _inversion(checkpoint: Checkpoint) -> FactPairs:
    tensors = {name: info.shape for name, info in checkpoint.tensors.items() if info.shape}
    widths = {each[-1] for each in tensors.values()}
    told: dict[Sides, str] = {hints.vectors: name for name, hints in HINTS.items()}
    told |= {(): UNTOLD, (1280,): "CLIP-G alone"}
    yield "made for", told.get(tuple(sorted(widths)), UNTOLD)
    yield "vectors", ", ".join(str(each[0] if each[1:] else 1) for each in tensors.values())


_LOOKS: Mapping[str, Callable[[Checkpoint], FactPairs]] = {
    "lora": _lora,
    "controlnet": _controlnet,
    "vae": _vae,
    "clip": _clip,
    "t5": _t5,
    "llm": _language,
    "inversion": _inversion,
}
"""By the name of the kind."""
