"""What goes with a model is named: for which models it is, and of what kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.checkpoints import headers
from tests.checkpoints.headers import Shapes, save_head, under
from tests.checkpoints.layouts.qwen_image import qwen_image_shapes
from tileup.checkpoints.additions import LANGUAGE_MODELS
from tileup.checkpoints.describe import describe
from tileup.families.table import FAMILIES


def low_rank(layers: Mapping[str, tuple[int, int]], rank: int = 16, prefix: str = "") -> Shapes:
    """A LoRA as peft writes it."""
    made: Shapes = {}
    for name, (outputs, inputs) in layers.items():
        made[f"{prefix}{name}.lora_A.weight"] = (rank, inputs)
        made[f"{prefix}{name}.lora_B.weight"] = (outputs, rank)
    return made


def kohya(
    layers: Mapping[str, tuple[int, int]], rank: int = 16, prefix: str = "lora_unet_"
) -> Shapes:
    """The same as kohya's programs do."""
    made: Shapes = {}
    for name, (outputs, inputs) in layers.items():
        layer = prefix + name.replace(".", "_")
        made[f"{layer}.lora_down.weight"] = (rank, inputs)
        made[f"{layer}.lora_up.weight"] = (outputs, rank)
        made[f"{layer}.alpha"] = ()
    return made


def crossed(context: int) -> dict[str, tuple[int, int]]:
    """Layers of a UNet that reads texts of so many features."""
    block = "down_blocks.1.attentions.0.transformer_blocks.0"
    return {f"{block}.attn1.to_q": (640, 640), f"{block}.attn2.to_k": (640, context)}


LORAS: Mapping[str, tuple[Shapes, str]] = {
    "SD 1": (kohya(crossed(768)), "SD 1.x"),
    "SD 2": (kohya(crossed(1024)), "SD 2.x"),
    "SDXL": (low_rank(crossed(2048), prefix="unet."), "SDXL"),
    "refiner": (low_rank(crossed(1280), prefix="unet."), "the SDXL refiner"),
    "SD 3": (
        low_rank({"transformer_blocks.0.attn.to_q": (1536, 1536)}, prefix="transformer."),
        "SD 3",
    ),
    "SD 3 of ComfyUI": (
        low_rank({"joint_blocks.0.x_block.attn.qkv": (4608, 1536)}, prefix="diffusion_model."),
        "SD 3",
    ),
    "FLUX of kohya": (
        kohya({"double_blocks.0.img_mod.lin": (18432, 3072)}),
        "FLUX",
    ),
    "FLUX's attention": (
        low_rank(
            {
                "transformer_blocks.0.attn.to_q": (3072, 3072),
                "single_transformer_blocks.0.proj_mlp": (12288, 3072),
            },
            prefix="transformer.",
        ),
        "FLUX",
    ),
    "FLUX or Chroma": (
        kohya({"single_blocks.0.linear1": (21504, 3072)}),
        "Chroma or FLUX",
    ),
    "Chroma": (
        low_rank(
            {
                "distilled_guidance_layer.layers.0.in_layer": (5120, 5120),
                "double_blocks.0.img_attn.qkv": (9216, 3072),
            },
            prefix="diffusion_model.",
        ),
        "Chroma",
    ),
    "FLUX.2 klein": (
        low_rank({"single_blocks.0.linear1": (27648, 3072)}, prefix="diffusion_model."),
        "FLUX.2",
    ),
    "FLUX.2 dev": (
        low_rank({"double_blocks.0.img_attn.qkv": (18432, 6144)}, prefix="diffusion_model."),
        "FLUX.2",
    ),
    "FLUX.2 of diffusers": (
        low_rank(
            {"single_transformer_blocks.0.attn.to_qkv_mlp_proj": (27648, 3072)},
            prefix="transformer.",
        ),
        "FLUX.2",
    ),
    "Z-Image": (
        low_rank({"layers.0.attention.to_q": (3840, 3840)}, prefix="diffusion_model."),
        "Z-Image",
    ),
    "Lumina": (
        low_rank({"layers.0.attention.qkv": (4608, 2304)}, prefix="diffusion_model."),
        "Lumina 2",
    ),
    "Qwen-Image": (
        low_rank(
            {
                "transformer_blocks.0.attn.to_q": (3072, 3072),
                "transformer_blocks.0.img_mlp.net.0.proj": (12288, 3072),
            }
        ),
        "Qwen-Image",
    ),
    "of nobody": (kohya({"elsewhere.0": (4, 4)}), "not told by the file"),
}


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_says_for_which_models_it_is(tmp_path: Path, name: str) -> None:
    shapes, family = LORAS[name]
    info = describe(save_head(tmp_path / "mine.safetensors", shapes))
    assert info.title.startswith("a LoRA: ")
    assert info.facts["made for"] == family
    assert info.facts["rank"] == "16"


def test_the_file_tells_what_its_layers_do_not(tmp_path: Path) -> None:
    shapes = kohya({"single_blocks.0.linear1": (21504, 3072)})
    for name, metadata, words in (
        ("chroma-style", {}, "Chroma (by its name)"),
        ("mine", {"modelspec.architecture": "flux-1-dev/lora"}, "FLUX (by its metadata)"),
        ("mine", {"ss_base_model_version": "chroma"}, "Chroma (by its metadata)"),
    ):
        path = save_head(tmp_path / f"{name}.safetensors", shapes, metadata=metadata)
        assert describe(path).facts["made for"] == words


def test_every_language_model_that_a_family_reads_with_is_told() -> None:
    titles = {family.text.llm.title for family in FAMILIES if family.text.llm}
    # Which of the two Qwen3 klein reads with follows from its width.
    assert {*LANGUAGE_MODELS.values()} == titles | {"Qwen3 8B"}
    assert len(titles) == 4


def test_ranks_networks_and_embeddings_of_a_lora_are_told(tmp_path: Path) -> None:
    shapes = kohya(crossed(2048), 4) | kohya(
        {"text_model.encoder.layers.0.mlp.fc1": (8, 8)}, 32, "lora_te2_"
    )
    shapes |= {"bundle_emb.mine.clip_l": (2, 768), "bundle_emb.mine.clip_g": (2, 1280)}
    facts = describe(save_head(tmp_path / "m.safetensors", shapes)).facts
    assert facts == {
        "made for": "SDXL",
        "rank": "4 to 32",
        "changes": "2 layers of the network and 1 layer of the second text encoder",
        "embeddings": "mine",
    }


RELATIVES: Mapping[str, tuple[Shapes, str]] = {
    "a LoHa": (
        {f"hada_w{n}_{e}": s for n in "12" for e, s in (("a", (640, 8)), ("b", (8, 2048)))},
        "8",
    ),
    "a LoKr": ({"lokr_w1": (8, 32), "lokr_w2_a": (80, 4), "lokr_w2_b": (4, 64)}, "4"),
    "a DoRA": (
        {"lora_down.weight": (8, 2048), "lora_up.weight": (640, 8), "dora_scale": (640, 1)},
        "8",
    ),
    "a file of differences": ({"diff": (640, 2048)}, ""),
}


@pytest.mark.parametrize("title", RELATIVES)
def test_relatives_of_lora_are_told_as_well(tmp_path: Path, title: str) -> None:
    roles, rank = RELATIVES[title]
    layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    shapes = {f"{layer}.{role}": shape for role, shape in roles.items()}
    info = describe(save_head(tmp_path / "m.safetensors", shapes))
    assert info.title.startswith(title)
    assert info.facts["made for"] == "SDXL"
    assert info.facts.get("rank", "") == rank


def half(shapes: Shapes) -> Shapes:
    """What a ControlNet has of a UNet, and a layer of its own."""
    out = ("output_blocks.", "out.")
    kept = {name: shape for name, shape in shapes.items() if not name.startswith(out)}
    return kept | {"zero_convs.0.0.weight": (4, 4, 1, 1)}


XL = headers.unet(**headers.SDXL | {"context": 2048, "vector": 2816})
CONTROLS: Mapping[str, tuple[str, Shapes, dict[str, str]]] = {
    "SD 1": (
        "control_v11f1e_sd15_tile",
        under("control_model.", half(headers.unet())),
        {"made for": "SD 1.x", "hint": "tile (by its name)"},
    ),
    "SDXL": (
        "mine",
        half(XL),
        {"made for": "SDXL", "hint": "not told by the file"},
    ),
    "SDXL, union": (
        "promax",
        half(XL)
        | {"controlnet_cond_embedding.conv_in.weight": (4, 3, 3, 3), "task_embedding": (8, 320)},
        {"made for": "SDXL", "hint": "union of 8 kinds, a tile among them"},
    ),
    "SDXL, the first union": (
        "union",
        half(XL)
        | {"controlnet_cond_embedding.conv_in.weight": (4, 3, 3, 3), "task_embedding": (6, 320)},
        {"made for": "SDXL", "hint": "union of 6 kinds, no tile among them"},
    ),
    "FLUX, union": (
        "mine",
        {
            "controlnet_blocks.0.weight": (4, 4),
            "controlnet_x_embedder.weight": (4, 4),
            "controlnet_mode_embedder.weight": (10, 4),
        },
        {"made for": "FLUX", "hint": "union of 10 kinds, a tile among them"},
    ),
    "FLUX, upscaler": (
        "Flux.1-dev-Controlnet-Upscaler",
        {"controlnet_blocks.0.weight": (4, 4), "controlnet_x_embedder.weight": (4, 4)},
        {"made for": "FLUX", "hint": "upscaler (by its name)"},
    ),
    "SD 3": (
        "SD3-Controlnet-Tile",
        {
            "controlnet_blocks.0.weight": (4, 4),
            "pos_embed_input.proj.weight": (4, 16, 2, 2),
            "context_embedder.weight": (4, 4),
        },
        {"made for": "SD 3", "hint": "tile (by its name)"},
    ),
    "SD 3.5 large": (
        "mine",
        {
            "controlnet_blocks.0.weight": (4, 4),
            "pos_embed_input.proj.weight": (4, 16, 2, 2),
            "control_type": (1,),
        },
        {"made for": "SD 3.5 large", "hint": "the picture itself (blur)"},
    ),
    "Z-Image": (
        "Z-Image-Turbo-Fun-Controlnet-Union",
        {"control_layers.0.after_proj.weight": (4, 4)},
        {"made for": "Z-Image", "hint": "union (by its name)"},
    ),
    "Qwen-Image": (
        "mine",
        dict(qwen_image_shapes(1, 256, 3584)) | {"controlnet_blocks.0.weight": (256, 256)},
        {"made for": "Qwen-Image", "hint": "not told by the file"},
    ),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_controlnet_says_on_what_it_acts_and_what_it_is_shown(tmp_path: Path, name: str) -> None:
    file, shapes, facts = CONTROLS[name]
    info = describe(save_head(tmp_path / f"{file}.safetensors", shapes))
    assert info.title.startswith("a ControlNet")
    assert info.facts == facts
    used = "give the model with -m and this file with --control" in info.title
    assert used == (name not in ("Z-Image", "Qwen-Image"))


LANGUAGE = "model.layers.0.self_attn.q_proj.weight"
OTHERS: Mapping[str, tuple[str, Shapes, dict[str, str]]] = {
    "VAE of UNets": (
        "mine",
        headers.vae(),
        {"made for": "SD 1.x, SD 2.x or SDXL", "latent channels": "4"},
    ),
    "VAE of SDXL": (
        "sdxl_vae",
        headers.vae(),
        {"made for": "SDXL (by its name)", "latent channels": "4"},
    ),
    "VAE of FLUX": (
        "ae",
        headers.vae(channels=16, quant=False),
        {"made for": "FLUX (by its name)", "latent channels": "16"},
    ),
    "VAE of FLUX.2": (
        "mine",
        headers.vae(channels=32),
        {"made for": "FLUX.2", "latent channels": "32"},
    ),
    "VAE of videos (Mochi)": (
        "mine",
        {"decoder.conv_in.weight": (768, 12, 1, 1, 1)},
        {"made for": "no family that tileup loads", "latent channels": "12"},
    ),
    "VAE of videos with as many channels as FLUX has": (
        "ae",
        {"decoder.conv_in.weight": (512, 16, 3, 3, 3)},
        {"made for": "no family that tileup loads", "latent channels": "16"},
    ),
    "VAE of Qwen-Image": (
        "mine",
        {"decoder.middle.0.residual.0.gamma": (384, 1, 1, 1)},
        {"made for": "Qwen-Image (Wan 2.1 has the same)"},
    ),
    "CLIP-L": ("mine", headers.clip(768), {"which": "CLIP-L (--clip-l)"}),
    "CLIP-G": ("mine", headers.open_clip(1280), {"which": "CLIP-G (--clip-g)"}),
    "T5": (
        "mine",
        {
            "shared.weight": (32128, 4096),
            "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096),
        },
        {"which": "T5-XXL", "read by": "SD 3, Chroma and FLUX"},
    ),
    "Wan's T5": (
        "mine",
        {
            "shared.weight": (256384, 4096),
            "blocks.0.layer.0.SelfAttention.q.weight": (4096, 4096),
        },
        {"which": "umT5, as Wan and AuraFlow have it; tileup has no use for it"},
    ),
    "Qwen3 4B": (
        "mine",
        {
            "model.embed_tokens.weight": (9, 2560),
            LANGUAGE: (4096, 2560),
            "model.layers.0.self_attn.q_norm.weight": (128,),
        },
        {"which": "Qwen3 4B", "read by": "Z-Image and FLUX.2"},
    ),
    "Qwen3 8B": (
        "mine",
        {
            "model.embed_tokens.weight": (9, 4096),
            LANGUAGE: (4096, 4096),
            "model.layers.0.self_attn.q_norm.weight": (128,),
        },
        {"which": "Qwen3 8B", "read by": "FLUX.2 (klein 9B)"},
    ),
    "Mistral": (
        "mine",
        {"model.embed_tokens.weight": (9, 5120), LANGUAGE: (4096, 5120)},
        {"which": "Mistral Small 3.2 24B", "read by": "FLUX.2"},
    ),
    "another language model": (
        "mine",
        {"model.embed_tokens.weight": (9, 2048), LANGUAGE: (2048, 2048)},
        {"which": "of 2048 features, which no family of tileup's takes"},
    ),
    "embedding of SD 1": (
        "mine",
        {"emb_params": (3, 768)},
        {"made for": "SD 1.x", "vectors": "3"},
    ),
    "embedding of SDXL": (
        "mine",
        {"clip_l": (2, 768), "clip_g": (2, 1280)},
        {"made for": "SDXL", "vectors": "2, 2"},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_parts_and_embeddings_say_whose_they_are(tmp_path: Path, name: str) -> None:
    file, shapes, facts = OTHERS[name]
    info = describe(save_head(tmp_path / f"{file}.safetensors", shapes))
    assert info.facts == facts
