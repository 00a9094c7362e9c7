"""Files as people store them, from the file to a picture: `tileup info`, and two steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.checkpoints import whole
from tests.checkpoints.layouts.gguf import llama_language, llama_t5, save_gguf
from tests.checkpoints.layouts.lora import RELATIVES, changes, kohya_lora, layers_of, relatives
from tests.checkpoints.layouts.text import prefixed
from tests.checkpoints.layouts.unet import PREFIX, sd1_unet
from tests.cli.conftest import Command, save
from tests.cli.test_every_family import Parts, saved
from tests.families.building import built_unet
from tileup.families.table import FAMILIES
from tileup.text.clip import renamed

SIZE = ("--window", "64", "--overlap", "16", "--steps", "2", "-d", "cpu")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


def drawn(tileup: Command, *flags: object) -> np.ndarray:
    """The picture that two steps make."""
    ran = tileup("upscale", "in.png", "-o", "out.png", "--overwrite", *SIZE, *flags)
    assert ran.code == 0, ran.err
    return pixels(Path("out.png"))


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole.save(tmp_path_factory.mktemp("models") / "mine.safetensors", whole.sd1())


@pytest.fixture(scope="module")
def attention() -> dict[str, tuple[int, ...]]:
    """The matrices of the small SD 1 that adapters change."""
    layers = layers_of(built_unet(sd1_unet(32)).module)
    return {name: shape for name, shape in layers.items() if ".attn" in name and "to_" in name}


@pytest.fixture(scope="module")
def plain(sd1: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Filled by the first test: the picture without an adapter."""
    return {}


@pytest.mark.parametrize("kind", ["LoRA", *RELATIVES])
def test_an_adapter_is_described_and_draws(
    tileup: Command,
    folder: Path,
    sd1: Path,
    attention: dict[str, tuple[int, ...]],
    plain: dict[str, np.ndarray],
    kind: str,
) -> None:
    made = {"LoRA": kohya_lora(changes(attention)), **relatives(attention)}
    save_file(made[kind], folder / "adapter.safetensors")
    told = tileup("info", "adapter.safetensors")
    assert told.code == 0, told.err
    assert kind in told.out
    if "plain" not in plain:
        plain["plain"] = drawn(tileup, "-m", sd1)
    changed = drawn(tileup, "-m", sd1, "--lora", "adapter.safetensors")
    assert np.abs(changed - plain["plain"]).max() > 5


def test_what_does_not_belong_is_named_and_left_out(
    tileup: Command, folder: Path, attention: dict[str, tuple[int, ...]]
) -> None:
    """Stray tensors in a checkpoint and in a LoRA: the picture is the one without them."""
    save(folder / "in.png")
    strays = {"model.diffusion_model.mine.weight": torch.zeros(3)}
    whole.save(folder / "a.safetensors", whole.sd1())
    whole.save(folder / "b.safetensors", whole.sd1() | strays)
    lora = kohya_lora(changes(attention))
    other = kohya_lora(changes({"elsewhere": (4, 4)}))
    save_file(lora, folder / "lora_a.safetensors")
    save_file(lora | other, folder / "lora_b.safetensors")

    def ran(model: str, flags: Sequence[str] = ()) -> tuple[np.ndarray, str]:
        out = f"{model}.png"
        ran = tileup("upscale", "in.png", "-o", out, *SIZE, "-m", f"{model}.safetensors", *flags)
        assert ran.code == 0, ran.err
        return pixels(folder / out), ran.err

    plain, _ = ran("a", ["--lora", "lora_a.safetensors"])
    with_strays, said = ran("b", ["--lora", "lora_b.safetensors"])
    assert np.array_equal(plain, with_strays)
    assert "no place for: mine.weight; they are left out" in said.replace("\n", " ")
    assert "find no layer, and are left out: lora_unet_elsewhere" in said.replace("\n", " ")


QUANTISED: Mapping[str, tuple[Callable[[], Parts], str, str]] = {
    "flux-dev": (whole.flux_parts, "Q4_K", "flux"),
    "flux-schnell": (lambda: whole.flux_parts(guidance=False), "Q2_K", "flux"),
    "sd3": (whole.sd3_parts, "Q5_1", "sd3"),
    "chroma": (whole.chroma_parts, "IQ4_XS", "chroma"),
    "z-image": (whole.z_image_parts, "Q6_K", "lumina2"),
}
"""Families whose transformers people own in GGUF: the parts, a format, and the architecture."""


@pytest.mark.parametrize("name", QUANTISED)
def test_gguf_is_described_and_draws(tileup: Command, folder: Path, name: str) -> None:
    """The picture is that of the same file with the values in it; T5 is in GGUF too."""
    make, kind, architecture = QUANTISED[name]
    parts = make()
    flags = saved(folder, parts, f"{name}.safetensors")
    network = {each.removeprefix(PREFIX): tensor for each, tensor in parts["network"].items()}
    values = save_gguf(folder / f"{name}.gguf", network, kind, architecture)
    whole.save(folder / f"{name}.safetensors", tensors_of(values))
    encoder, llama, language = ENCODERS["t5" if "t5" in parts else "text_encoder"]
    own = {llama(each): each for each in parts[encoder]}
    tensors = {each: parts[encoder][ours] for each, ours in own.items()}
    read = save_gguf(folder / "encoder.gguf", tensors, "Q8_0", language)
    whole.save(
        folder / f"{encoder}.safetensors",
        tensors_of({ours: read[each] for each, ours in own.items()}),
    )
    told = tileup("info", f"{name}.gguf")
    assert told.code == 0, told.err
    assert kind in told.out
    assert next(each.title for each in FAMILIES if each.name == name) in told.out
    expected = drawn(tileup, *flags, "--dtype", "float32")
    names = {f"{name}.safetensors": f"{name}.gguf", f"{encoder}.safetensors": "encoder.gguf"}
    found = drawn(tileup, *[names.get(each, each) for each in flags], "--dtype", "float32")
    assert np.abs(found - expected).max() <= 1


ENCODERS = {
    "t5": ("t5", llama_t5, "t5encoder"),
    "text_encoder": ("text_encoder", llama_language, "qwen3"),
}
"""The encoder that is stored in GGUF: its part, llama.cpp's names and its word for it."""


def tensors_of(values: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in values.items()}


def sdxl_in_transformers_names() -> Parts:
    """Both text encoders of SDXL as transformers names them."""
    tensors = whole.sdxl()
    prefix = "conditioner.embedders.1.model."
    clip_g = {
        name.removeprefix(prefix): e for name, e in tensors.items() if name.startswith(prefix)
    }
    rest = {name: each for name, each in tensors.items() if not name.startswith(prefix)}
    other = prefixed("conditioner.embedders.1.transformer.", renamed(clip_g))
    return {"network": rest | other}


def whole_clip(tensors: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """A text encoder with the half that sees, and what joins them."""
    sees = {
        "vision_model.embeddings.class_embedding": torch.ones(8),
        "vision_model.encoder.layers.0.self_attn.q_proj.weight": torch.ones(8, 8),
        "visual_projection.weight": torch.ones(8, 8),
        "logit_scale": torch.ones(()),
    }
    return {**tensors, **prefixed(prefix, sees)}


def flux_with_a_whole_clip() -> Parts:
    parts = whole.flux_parts()
    return parts | {"clip_l": whole_clip(parts["clip_l"])}


def zeros_beside(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An inpainting model that makes nothing of the mask and the masked picture."""
    name = f"{PREFIX}input_blocks.0.0.weight"
    weight = tensors[name]
    return tensors | {name: torch.cat([weight, torch.zeros(len(weight), 5, 3, 3)], dim=1)}


SAME: Mapping[str, tuple[Callable[[], Parts], Callable[[], Parts], str]] = {
    "SDXL in transformers' names": (
        lambda: {"network": whole.sdxl()},
        sdxl_in_transformers_names,
        "",
    ),
    "a whole CLIP for a part": (whole.flux_parts, flux_with_a_whole_clip, ""),
    "a whole CLIP inside": (
        lambda: {"network": whole.sd1()},
        lambda: {"network": whole_clip(whole.sd1(), "cond_stage_model.transformer.")},
        "",
    ),
    "inpainting": (
        lambda: {"network": whole.sd1()},
        lambda: {"network": zeros_beside(whole.sd1())},
        "is an inpainting model",
    ),
}
"""Two ways to store one model, and what is said of the second."""


@pytest.mark.parametrize("name", SAME)
def test_files_with_more_in_them_draw_the_same(tileup: Command, folder: Path, name: str) -> None:
    pictures: list[np.ndarray] = []
    for number, make in enumerate(SAME[name][:2]):
        flags = saved(folder, make(), "m.safetensors")
        told = tileup("info", "m.safetensors")
        assert told.code == 0, told.err
        ran = tileup("upscale", "in.png", "-o", f"{number}.png", *SIZE, *flags)
        assert ran.code == 0, ran.err
        pictures.append(pixels(folder / f"{number}.png"))
    assert np.abs(pictures[1] - pictures[0]).max() <= 1
    said = " ".join(ran.err.split())
    assert SAME[name][2] in said
    assert "no place for" not in said


def test_an_inpainting_model_sees_its_mask(tileup: Command, folder: Path) -> None:
    tensors = zeros_beside(whole.sd1())
    whole.save(folder / "blind.safetensors", tensors)
    weight = tensors[f"{PREFIX}input_blocks.0.0.weight"]
    weight[:, 4:] = 0.1 * torch.randn(weight[:, 4:].shape, generator=torch.manual_seed(0))
    whole.save(folder / "sees.safetensors", tensors)
    told = tileup("info", "sees.safetensors")
    assert "for inpainting" in told.out
    blind, sees = (drawn(tileup, "-m", f"{each}.safetensors") for each in ("blind", "sees"))
    assert np.abs(blind - sees).max() > 5
