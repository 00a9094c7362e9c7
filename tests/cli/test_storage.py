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
from tests.checkpoints.layouts.unet import PREFIX, sd1_unet
from tests.cli.conftest import Command, save
from tests.cli.test_every_family import Parts, saved
from tests.families.building import built_unet
from tileup.families.table import FAMILIES

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
