"""Each part comes from the checkpoint or its flag's file; what is missing is told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import headers
from tests.checkpoints.headers import save_head, under
from tests.checkpoints.layouts.flux2 import flux2_shapes
from tests.checkpoints.layouts.lumina2 import lumina2_shapes
from tests.checkpoints.layouts.qwen_image import qwen_image_shapes
from tests.checkpoints.layouts.z_image import z_image_shapes
from tileup.checkpoints.find import identified
from tileup.checkpoints.parts import Parts, inside, parts_of
from tileup.errors import ModelError
from tileup.settings.values import Settings


def _of(folder: Path, shapes: headers.Shapes, **given: str) -> Parts:
    settings = Settings(**given)  # type: ignore[arg-type]
    return parts_of(
        identified(save_head(folder / "m.safetensors", shapes), settings.prediction), settings
    )


SDXL: dict[str, Any] = {**headers.SDXL}


def _names(parts: Parts) -> dict[str, set[str]]:
    sources = {"vae": parts.vae, "network": parts.network, **parts.text}
    return {name: set(source.state_dict()) for name, source in sources.items()}


def test_parts_of_one_file(tmp_path: Path) -> None:
    assert _names(_of(tmp_path, headers.sdxl_file())) == {
        "network": {*headers.unet(**SDXL, context=2048, vector=2816)},
        "vae": {*headers.vae()},
        "clip_l": {*headers.clip()},
        "clip_g": {*headers.open_clip()},
    }
    assert _names(_of(tmp_path, headers.sd1_file())).keys() == {"network", "vae", "clip_l"}
    assert _names(_of(tmp_path, headers.sd2_file(), prediction="eps")).keys() == {
        "network",
        "vae",
        "clip_h",
    }
    assert _names(_of(tmp_path, headers.refiner_file())).keys() == {"network", "vae", "clip_g"}
    assert _names(_of(tmp_path, headers.sd3_file())).keys() == {
        "network",
        "vae",
        "clip_l",
        "clip_g",
    }


QUERIES = "layers.0.self_attn.q_proj.weight"
ALL_IN_ONE = {
    "z-image": (dict(z_image_shapes(1, 1, 256, 2560)), "text_encoders.qwen3_4b.transformer.model."),
    "lumina2": (
        dict(lumina2_shapes(1, 1, 192, 96, 2304)),
        "text_encoders.gemma2_2b.transformer.model.",
    ),
    "qwen-image": (
        dict(qwen_image_shapes(1, 256, 3584)),
        "text_encoders.qwen25_7b.transformer.model.",
    ),
    "flux2-klein": (
        dict(flux2_shapes(1, 1, False, 256, 7680)),
        "text_encoders.qwen3_4b.transformer.model.",
    ),
    "flux2-dev": (
        dict(flux2_shapes(1, 1, True, 256, 15360)),
        "text_encoders.mistral3_24b.transformer.model.",
    ),
}
"""Networks, and where files of everything in one, as ComfyUI saves them, have the text encoder."""


@pytest.mark.parametrize("name", ALL_IN_ONE)
def test_parts_of_everything_in_one(tmp_path: Path, name: str) -> None:
    network, encoder = ALL_IN_ONE[name]
    shapes = under("model.diffusion_model.", network) | under("vae.", headers.vae())
    path = save_head(tmp_path / "m.safetensors", shapes | {encoder + QUERIES: (4, 4)})
    found = inside(identified(path))
    assert {part: stored.prefix for part, stored in found.items()} == {
        "vae": "vae.",
        "llm": encoder,
    }


def test_everything_missing_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        _of(tmp_path, headers.flux())
    for flag in ("--vae", "--clip-l", "--t5", "--prompt-embeds"):
        assert flag in str(caught.value)
    assert "--clip-g" not in str(caught.value)
    with pytest.raises(ModelError) as caught:
        _of(tmp_path, headers.sd3_file(encoders=False))
    assert "--clip-l" in str(caught.value)
    assert "--clip-g" in str(caught.value)
    assert "--t5" not in str(caught.value), "SD 3 works without"


PARTS = {
    "vae": ("vae", headers.vae(channels=16, quant=False), ("", "first_stage_model.", "vae.")),
    "clip_l": ("clip_l", headers.clip(768), ("", "text_encoders.clip_l.transformer.")),
    "t5": ("t5", headers.t5(), ("", "text_encoders.t5xxl.transformer.")),
}


@pytest.mark.parametrize("number", [0, 1])
def test_flags_supply_what_is_missing(tmp_path: Path, number: int) -> None:
    given = {
        name: str(save_head(tmp_path / f"{name}.safetensors", under(prefixes[number], shapes)))
        for name, (_, shapes, prefixes) in PARTS.items()
    }
    (tmp_path / "tokenizer.json").write_text("{}")
    given["tokenizer"] = str(tmp_path / "tokenizer.json")
    parts = _of(tmp_path, headers.flux(), **given)
    assert parts.tokenizer == tmp_path / "tokenizer.json"
    names = _names(parts)
    assert names.pop("network") == {*headers.flux()}
    assert names == {name: {*shapes} for name, (_, shapes, _) in PARTS.items()}


def test_t5_needs_no_tokenizer(tmp_path: Path) -> None:
    given = {
        name: str(save_head(tmp_path / f"{name}.safetensors", shapes))
        for name, (_, shapes, _) in PARTS.items()
    }
    assert _of(tmp_path, headers.flux(), **given).tokenizer is None


def test_a_flag_goes_before_the_checkpoint(tmp_path: Path) -> None:
    other = save_head(tmp_path / "v.safetensors", headers.vae())
    parts = _of(tmp_path, headers.sd1_file(), vae=str(other))
    assert parts.vae.checkpoint.path == other


@pytest.mark.parametrize("flag", ["vae", "clip_l", "t5"])
def test_a_file_of_something_else_is_named(tmp_path: Path, flag: str) -> None:
    lora = save_head(tmp_path / "l.safetensors", {"lora_unet_a.lora_up.weight": (4, 4)})
    with pytest.raises(ModelError, match="it is a LoRA") as caught:
        _of(tmp_path, headers.flux(), **{flag: str(lora)})
    assert "--" + flag.replace("_", "-") in str(caught.value)


def test_encoded_prompts_stand_for_all_text_encoders(tmp_path: Path) -> None:
    vae = save_head(tmp_path / "v.safetensors", headers.vae(channels=16, quant=False))
    parts = _of(tmp_path, headers.flux(), vae=str(vae), prompt_embeds="p.safetensors")
    assert parts.text == {}
    assert parts.tokenizer is None


@pytest.mark.parametrize("form", ["v.pt", "v.ckpt", "v.bin", "vae", "v.safetensors.index.json"])
def test_a_companion_may_be_stored_in_every_form(tmp_path: Path, form: str) -> None:
    """Pickles, bare and wrapped; a folder of diffusers; shards with their index."""
    shapes, path = headers.vae(width=4), tmp_path / form
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    if form == "vae":
        path.mkdir()
        (path / "config.json").write_text("{}")
        save_head(path / "diffusion_pytorch_model.safetensors", shapes)
    elif form.endswith(".json"):
        shards = {
            name: f"v-{1 + number % 2}-of-2.safetensors" for number, name in enumerate(shapes)
        }
        for shard in {*shards.values()}:
            held = {name: shape for name, shape in shapes.items() if shards[name] == shard}
            save_head(tmp_path / shard, held)
        path.write_text(json.dumps({"weight_map": shards}))
    else:
        torch.save(tensors if form == "v.bin" else {"state_dict": tensors}, path)
    parts = _of(tmp_path, headers.sd1_file(), vae=str(path))
    assert set(parts.vae.state_dict()) == {*shapes}


LLM = {
    "layers.0.self_attn.q_proj.weight": (4, 4),
    "embed_tokens.weight": (9, 4),
    "norm.weight": (4,),
}


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "model.language_model.",
        "language_model.model.",
        "text_encoders.qwen3_4b.transformer.model.",
    ],
)
def test_a_language_model_is_found_under_every_name(tmp_path: Path, prefix: str) -> None:
    llm = save_head(tmp_path / "llm.safetensors", {**under(prefix, LLM), "visual.x.weight": (4,)})
    vae = save_head(tmp_path / "vae.safetensors", headers.vae(channels=16, quant=False))
    network = dict(z_image_shapes(1, 1, 128, 2560))
    given = {"vae": str(vae), "text_encoder": str(llm), "tokenizer": str(tmp_path)}
    parts = _of(tmp_path, network, **given)
    assert _names(parts)["llm"] == {*LLM}
    assert parts.tokenizer == tmp_path
    inside = under("text_encoders.qwen3_4b.transformer.model.", LLM)
    whole = {**under(headers.NET, network), **under("vae.", headers.vae()), **inside}
    assert _names(_of(tmp_path, whole, tokenizer=str(tmp_path)))["llm"] == {*LLM}


def test_a_language_model_is_asked_for_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        _of(tmp_path, dict(z_image_shapes(1, 1, 128, 2560)))
    for words in ("the text encoder Qwen3 4B (--text-encoder)", "--vae"):
        assert words in str(caught.value)
    assert "tokenizer" not in str(caught.value), "Qwen's comes with tileup"
    with pytest.raises(ModelError) as caught:
        _of(tmp_path, dict(flux2_shapes(1, 1, True, 128, 15360)))
    for words in ("Mistral Small 3.2 24B (--text-encoder)", "24B's tokenizer (--tokenizer)"):
        assert words in str(caught.value)
    t5 = save_head(tmp_path / "t5.safetensors", headers.t5())
    with pytest.raises(ModelError, match="is not the text encoder: it is a T5"):
        _of(tmp_path, dict(z_image_shapes(1, 1, 128, 2560)), text_encoder=str(t5))
