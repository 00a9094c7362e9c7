"""FLUX.2 dev and klein: how their files are told, and their transformer.

As FLUX.1, but all blocks share their modulations, no layer has a bias, and a language model reads
the prompt, of which three layers are taken side by side (black-forest-labs/flux2, Apache-2.0).
Latents are those of the VAE in patches of 2 x 2, normalised by statistics in its file, so a cell is
16 pixels wide. A token has four positions: number, row and column of the picture, counted from
(0, 0) in every window, and place in the text.

The distilled klein and its base have the same tensors. A file is taken for the distilled one unless
its configuration, its metadata or its name says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tileup.errors import ModelError
from tileup.families.family import Building, Built, Detected, Family, Hints, Latents, growing_levels
from tileup.families.flux import DOUBLE, QKV, SINGLE, TEXT_QKV, as_published, norm_rules
from tileup.families.view import RelativeError, View
from tileup.plan.noise_levels import Growth
from tileup.tensors.renaming import Rule, converted
from tileup.tensors.shapes import block_count, shape
from tileup.text.recipes import LlmUse, Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tileup.families.transformer import Seen

ROTATED = (32, 32, 32, 32)
"""Features of a head that turn with the picture's number, the row, the column and the word."""
MLP = 3
"""Width of the perceptrons in units of the network's."""
GUIDANCE = 4.0
"""What dev is told where the user says nothing: the model card's."""
LARGER = 12288
"""Features of three layers of Qwen3 8B, which reads for klein 9B; klein 4B has Qwen3 4B."""
MODULATIONS = ("double_stream_modulation_img", "double_stream_modulation_txt")
SYSTEM = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing on"
    " object relationships, object\nattribution and actions without speculation."
)
"""What the language model of dev is told first: flux2, system_messages.py."""


def growth(steps: int) -> Growth:
    """How the shift grows with the tokens for a number of steps: flux2, sampling.py.

    Between 10 and 200 steps mu is interpolated; above 4300 tokens it depends on them alone. The
    number is the model card's and not that of a run, so that a strength means the same noise
    whatever the steps.
    """
    few, many = (8.73809524e-05, 1.89833333), (0.00016927, 0.45666666)
    share = (steps - 10) / 190
    slope, offset = (a + share * (b - a) for a, b in zip(few, many, strict=True))
    return Growth(slope, offset, large=4300, large_slope=many[0], large_offset=many[1])


def _original(view: View) -> Detected:
    return _found(view, "original", "img_in.weight", "txt_in.weight", "guidance_in.")


def _diffusers(view: View) -> Detected:
    guidance = "time_guidance_embed.guidance_embedder."
    return _found(view, "diffusers", "x_embedder.weight", "context_embedder.weight", guidance)


def _found(view: View, layout: str, image: str, text: str, guidance: str) -> Detected:
    features = view.shape(image, 2)[1]
    if features != 128:
        raise RelativeError(f"like FLUX.2, but whose cells have {features} features, not 128")
    context = view.shape(text, 2)[1]
    if any(view.names(guidance)):
        family, variant = DEV, DEV.title
    else:
        family, told_by = _klein(view)
        reader = "Qwen3 8B" if context == LARGER else "Qwen3 4B"
        variant = f"{family.title} {'9B' if context == LARGER else '4B'} (by {told_by})"
        family = replace(family, text=_klein_text(reader))
    return Detected(family, variant, view.prefix, layout, features, context, 1)


def _klein(view: View) -> tuple[Family, str]:
    """Distilled or base, and what says so."""
    config = view.checkpoint.configs.get("", {})
    if "is_distilled" in config:
        return KLEIN if config["is_distilled"] else KLEIN_BASE, "its configuration"
    for where, text in view.said():
        if "klein" in text:
            return KLEIN_BASE if "base" in text else KLEIN, where
    return KLEIN, "default, as nothing in its file tells"


def build_flux2(tensors: Mapping[str, Tensor], how: Building) -> Built:
    """The transformer, as `Build`."""
    from tileup.families.transformer import TransformerNetwork, transformer_of

    state, origin = dict(tensors), dict[str, str]()
    if any(each.startswith("double_blocks.") for each in tensors):
        state, origin = converted(as_published(tensors), flux2_rules(tensors), how.name)
    config = flux2_config(state, how.name)
    module = transformer_of("Flux2Transformer2DModel", config, state, how, origin)
    network = TransformerNetwork(module, how.dtype, how.device, 1, velocity)
    return Built(network, module, config["joint_attention_dim"], None)


def velocity(module: nn.Module, seen: Seen) -> Tensor:
    """What the transformer says of a batch of windows."""
    import torch

    from tileup.families.transformer import grid_of, in_patches, positions

    words = torch.zeros(seen.tokens.shape[1], 4)
    words[:, 3] = torch.arange(len(words))
    cells = torch.nn.functional.pad(positions(*grid_of(seen, 1)), (0, 1))
    told = {
        "guidance": _guidance(module, seen),
        "img_ids": cells.to(seen.time),
        "txt_ids": words.to(seen.time),
    }
    return in_patches(module, seen, told, 1)


def _guidance(module: nn.Module, seen: Seen) -> Tensor | None:
    """What the network is told, where it takes a guidance at all (dev) and not (klein)."""
    if not module.config["guidance_embeds"]:  # pyright: ignore[reportIndexIssue, reportArgumentType]
        return None
    told = GUIDANCE if seen.guidance is None else seen.guidance
    return seen.time.new_full((len(seen.time),), told)


def flux2_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of the network, from the shapes of its weights under diffusers' names."""
    width, inputs = shape(state, "x_embedder.weight", 2, name)
    doubles = block_count(state, "transformer_blocks")
    stack = "transformer_blocks" if doubles else "single_transformer_blocks"
    (head,) = shape(state, f"{stack}.0.attn.norm_q.weight", 1, name)
    if head != sum(ROTATED) or width % head:
        raise ModelError(
            f"{name}: attention heads of {head} features in a width of {width}, where FLUX.2 has"
            f" heads of {sum(ROTATED)}"
        )
    return {
        "patch_size": 1,
        "in_channels": inputs,
        "out_channels": shape(state, "proj_out.weight", 2, name)[0],
        "num_layers": doubles,
        "num_single_layers": block_count(state, "single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shape(state, "context_embedder.weight", 2, name)[1],
        "mlp_ratio": float(MLP),
        "axes_dims_rope": ROTATED,
        "guidance_embeds": any(".guidance_embedder." in each for each in state),
    }


def flux2_rules(names: Collection[str]) -> Iterator[Rule]:
    """Original names to diffusers', for a transformer with the blocks that the names tell of."""
    guided = any(each.startswith("guidance_in.") for each in names)
    yield from _rules(block_count(names, DOUBLE[0]), block_count(names, SINGLE[0]), guided)


def layer_rules(layers: Collection[str]) -> Iterator[Rule]:
    """The same from diffusers' names."""
    yield from _rules(block_count(layers, DOUBLE[1]), block_count(layers, SINGLE[1]), True)


def _rules(doubles: int, singles: int, guided: bool) -> Iterator[Rule]:
    yield _weight("img_in", "x_embedder")
    yield _weight("txt_in", "context_embedder")
    embed = "time_guidance_embed"
    for original, ours in (("time_in", "timestep"), ("guidance_in", "guidance")):
        if guided or original == "time_in":
            yield _weight(f"{original}.in_layer", f"{embed}.{ours}_embedder.linear_1")
            yield _weight(f"{original}.out_layer", f"{embed}.{ours}_embedder.linear_2")
    for each in (*MODULATIONS, "single_stream_modulation"):
        yield _weight(f"{each}.lin", f"{each}.linear")
    yield _weight("final_layer.linear", "proj_out")
    last = Rule("final_layer.adaLN_modulation.1.weight", ("norm_out.linear.weight",), swapped=True)
    yield last
    for index in range(doubles):
        yield from _double(f"{DOUBLE[0]}.{index}", f"{DOUBLE[1]}.{index}")
    for index in range(singles):
        block, ours = f"{SINGLE[0]}.{index}", f"{SINGLE[1]}.{index}.attn"
        yield _weight(f"{block}.linear1", f"{ours}.to_qkv_mlp_proj")
        yield _weight(f"{block}.linear2", f"{ours}.to_out")
        yield from norm_rules(f"{block}.norm", f"{ours}.norm_")


def _double(block: str, ours: str) -> Iterator[Rule]:
    for stream, parts, out, added, suffix in (
        ("img", QKV, "attn.to_out.0", "", ""),
        ("txt", TEXT_QKV, "attn.to_add_out", "added_", "_context"),
    ):
        attention, mlp = f"{block}.{stream}_attn", f"{block}.{stream}_mlp"
        yield _weight(f"{attention}.qkv", *(f"{ours}.{each}" for each in parts))
        yield _weight(f"{attention}.proj", f"{ours}.{out}")
        yield _weight(f"{mlp}.0", f"{ours}.ff{suffix}.linear_in")
        yield _weight(f"{mlp}.2", f"{ours}.ff{suffix}.linear_out")
        yield from norm_rules(f"{attention}.norm", f"{ours}.attn.norm_{added}")


def _weight(source: str, *targets: str) -> Rule:
    return Rule(f"{source}.weight", tuple(f"{target}.weight" for target in targets))


def _text(llm: LlmUse) -> Recipe:
    return Recipe((), clip_tokens=False, chunked=False, llm=llm)


def _klein_text(reader: str) -> Recipe:
    return _text(
        LlmUse(
            "qwen3",
            reader,
            "<|im_start|>user\n",
            "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
            length=512,
            layers=(9, 18, 27),
            filling="<|endoftext|>",
        )
    )


INSIDE = (
    "text_encoders.qwen3_4b.transformer.model.",
    "text_encoders.qwen3_8b.transformer.model.",
    "text_encoders.mistral3_24b.transformer.model.",
    "text_encoder.model.language_model.",
    "text_encoder.language_model.model.",
    "text_encoder.model.",
)
KLEIN_9B = "FLUX.2 (klein 9B)"
"""What reads with a language model larger than others of the family do, in words."""

KLEIN = Family(
    name="flux2-klein",
    title="FLUX.2 klein",
    short="FLUX.2",
    hints=Hints(
        layers=r".*(to_qkv_mlp_proj|_ff_linear_(in|out)|_stream_modulation)",
        widths=(3072, 4096, 6144),
        latents=32,
        growths=(6.0, 9.0),  # three times as wide, and with gates
        words=r"flux[-_. ]?2|klein",
    ),
    signs={
        "double_stream_modulation_img.lin.weight": _original,
        "double_stream_modulation_img.linear.weight": _diffusers,
    },
    latents=Latents(),
    window=1024,
    levels=growing_levels(growth(4)),
    text=_klein_text("Qwen3 4B"),
    inside={"llm": INSIDE},
    tokenizer="tokenizer",
    build=build_flux2,
    stride=16,
    rules=layer_rules,
    blocks=("double_blocks_", "single_", "transformer_blocks_"),
)
KLEIN_BASE = replace(
    KLEIN,
    name="flux2-klein-base",
    title="FLUX.2 klein base",
    levels=growing_levels(growth(50)),
)
DEV = replace(
    KLEIN,
    name="flux2-dev",
    title="FLUX.2 dev",
    levels=growing_levels(growth(50)),
    text=_text(
        LlmUse(
            "mistral",
            "Mistral Small 3.2 24B",
            f"<s>[SYSTEM_PROMPT]{SYSTEM}[/SYSTEM_PROMPT][INST]",
            "[/INST]",
            length=512,
            layers=(10, 20, 30),
            filling="<pad>",
            filled_before=True,
        )
    ),
    guided=True,
)
