"""Files as people store them, from the file to a picture: `tileup info`, and two steps."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import sys
import types
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.checkpoints import whole
from tests.checkpoints.layouts.gguf import llama_language, llama_t5, save_gguf
from tests.checkpoints.layouts.lora import (
    changes,
    dotted_lora,
    kohya_lora,
    layers_of,
    relatives,
)
from tests.checkpoints.layouts.text import prefixed, t5
from tests.checkpoints.layouts.unet import PREFIX, sd1_unet
from tests.checkpoints.whole import Parts, Shelf
from tests.cli.conftest import Command, save
from tests.cli.test_every_family import saved
from tests.families.building import built_unet
from tests.tensors.test_checkpoint import Tracked
from tests.text.test_carried import GEMMAS, spiece, tekken
from tileup.families.table import FAMILIES
from tileup.tensors.checkpoint import open_checkpoint
from tileup.tensors.formats import METADATA
from tileup.tensors.gguf_file import HALVES
from tileup.tensors.packed import unpacked
from tileup.tensors.scaled import rotation
from tileup.text.carried_tokenizers import carried_tokenizer
from tileup.text.clip import renamed
from tileup.text.t5_tokens import SHIPPED

Pixels = NDArray[np.float64]
SIZE = ("--window", "64", "--overlap", "16", "--steps", "2", "-d", "cpu", "--dtype", "float32")
SIZE += ("--no-metadata",)  # the hash of the model, which takes as long as two steps


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


def half(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """A file in float16, as people have it."""
    return whole.save(path, tensors, torch.float16)


def drawn(tileup: Command, *flags: object) -> Pixels:
    """The picture that two steps make."""
    ran = tileup("upscale", "in.png", "-o", "out.png", "--overwrite", *SIZE, *flags)
    assert ran.code == 0, ran.err
    return pixels(Path("out.png"))


@pytest.fixture(scope="module")
def sd1(shelf: Shelf) -> Path:
    return shelf.path("sd1", torch.float16)


@pytest.fixture(scope="module")
def sdxl(shelf: Shelf) -> Path:
    return shelf.path("sdxl", torch.float16)


@pytest.fixture(scope="module")
def attention() -> dict[str, tuple[int, ...]]:
    """The matrices of the small SD 1 that adapters change."""
    layers = layers_of(built_unet(sd1_unet(32)).module)
    return {name: shape for name, shape in layers.items() if ".attn" in name and "to_" in name}


@pytest.fixture(scope="module")
def known() -> dict[str, Pixels]:
    """Pictures by the names of their models, drawn by the first test that asks for them."""
    return {}


@pytest.fixture
def plain(tileup: Command, known: dict[str, Pixels]) -> Callable[[Path], Pixels]:
    """The picture of a model as it is."""

    def draw(path: Path) -> Pixels:
        if path.name not in known:
            known[path.name] = drawn(tileup, "-m", path)
        return known[path.name]

    return draw


ADAPTERS = {
    "LoRA": "a LoRA",
    "PEFT": "a LoRA",
    "LoHa": "a LoHa",
    "LoKr": "a LoKr",
    "DoRA": "a DoRA",
    "differences": "a file of differences",
    "norms": "a file of differences",
}
"""What `info` calls each kind."""


def save_adapter(kind: str, layers: dict[str, tuple[int, ...]], folder: Path) -> str:
    """An adapter of the small SD 1; what it is given by."""
    name = "adapter.safetensors"
    if kind == "PEFT":  # a folder, with alpha in its configuration
        (folder / "adapter").mkdir()
        tensors = dotted_lora(changes(layers), "base_model.model.", alpha=2)
        save_file(tensors, folder / "adapter" / "adapter_model.safetensors")
        config = {"r": 2, "lora_alpha": 4, "use_rslora": True}
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
        return "adapter"
    if kind == "norms":
        blocks = {layer.partition(".attn")[0] for layer in layers}
        widths = {block: layers[f"{block}.attn1.to_q"][0] for block in blocks}
        norms = {
            f"lora_unet_{block.replace('.', '_')}_norm1.{part}_norm": torch.randn(width)
            for block, width in widths.items()
            for part in "wb"
        }
        save_file(norms, folder / name)
        return name
    made = {"LoRA": kohya_lora(changes(layers)), **relatives(layers)}
    save_file(made[kind], folder / name)
    return name


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_is_described_and_draws(
    tileup: Command,
    folder: Path,
    sd1: Path,
    attention: dict[str, tuple[int, ...]],
    plain: Callable[[Path], Pixels],
    kind: str,
) -> None:
    file = save_adapter(kind, attention, folder)
    told = tileup("info", file)
    assert told.code == 0, told.err
    assert ADAPTERS[kind] in told.out
    assert kind == "norms" or "SD 1.x" in told.out
    changed = drawn(tileup, "-m", sd1, "--lora", file)
    assert np.abs(changed - plain(sd1)).max() > 5


def test_what_does_not_belong_is_named_and_left_out(
    tileup: Command, folder: Path, sd1: Path, attention: dict[str, tuple[int, ...]]
) -> None:
    """Stray tensors in a checkpoint and in a LoRA: the picture is the one without them."""
    save(folder / "in.png")
    strays = {"model.diffusion_model.mine.weight": torch.zeros(3)}
    half(folder / "strays.safetensors", load_file(sd1) | strays)
    lora = kohya_lora(changes(attention))
    other = kohya_lora(changes({"elsewhere": (4, 4)}))
    save_file(lora, folder / "lora_a.safetensors")
    save_file(lora | other, folder / "lora_b.safetensors")

    def ran(model: Path, flags: Sequence[str] = ()) -> tuple[Pixels, str]:
        out = f"{model.stem}.png"
        ran = tileup("upscale", "in.png", "-o", out, *SIZE, "-m", model, *flags)
        assert ran.code == 0, ran.err
        return pixels(folder / out), ran.err

    plain, _ = ran(sd1, ["--lora", "lora_a.safetensors"])
    with_strays, said = ran(Path("strays.safetensors"), ["--lora", "lora_b.safetensors"])
    assert np.array_equal(plain, with_strays)
    assert "no place for: mine.weight; they are left out" in said.replace("\n", " ")
    assert "find no layer, and are left out: lora_unet_elsewhere" in said.replace("\n", " ")


QUANTISED: Mapping[str, tuple[Callable[[], Parts], tuple[str, ...], str]] = {
    "flux-dev": (whole.flux_parts, ("Q4_K", "Q5_K", "Q8_0"), "flux"),
    "flux-schnell": (lambda: whole.flux_parts(guidance=False), ("Q2_K",), "flux"),
    "sd3": (whole.sd3_parts, ("Q5_1", "Q4_0"), "sd3"),
    "chroma": (whole.chroma_parts, ("IQ4_XS", "IQ4_NL"), "chroma"),
    "z-image": (whole.z_image_parts, ("Q6_K",), "lumina2"),
    "qwen-image": (whole.qwen_image_parts, ("Q5_0", "Q4_1"), "qwen_image"),
    "flux2-klein": (whole.flux2_parts, ("Q3_K",), "flux2"),
}
"""Families whose transformers people own in GGUF: the parts, the formats, and the architecture."""


def test_every_format_of_gguf_is_drawn() -> None:
    assert {kind for _, kinds, _ in QUANTISED.values() for kind in kinds} == HALVES.keys()


@pytest.mark.parametrize("name", QUANTISED)
def test_gguf_is_described_and_draws(tileup: Command, folder: Path, name: str) -> None:
    """The picture is that of the same file with the values in it; T5 is in GGUF too."""
    make, kinds, architecture = QUANTISED[name]
    parts = make()
    flags = saved(folder, parts, f"{name}.safetensors")
    network = {each.removeprefix(PREFIX): tensor for each, tensor in parts["network"].items()}
    values = save_gguf(folder / f"{name}.gguf", network, kinds, architecture)
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
    assert all(kind in told.out for kind in kinds)
    assert next(each.title for each in FAMILIES if each.name == name) in told.out
    expected = drawn(tileup, *flags)
    names = {f"{name}.safetensors": f"{name}.gguf", f"{encoder}.safetensors": "encoder.gguf"}
    found = drawn(tileup, *[names.get(each, each) for each in flags])
    assert np.abs(found - expected).max() <= 1


ENCODERS = {
    "t5": ("t5", llama_t5, "t5encoder"),
    "text_encoder": ("text_encoder", llama_language, "qwen3"),
}
"""The encoder that is stored in GGUF: its part, llama.cpp's names and its word for it."""


def tensors_of(values: Mapping[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in values.items()}


CARRIED: Mapping[str, tuple[str, Callable[[], Parts], Callable[[], bytes]]] = {
    "flux2-dev": ("tekken_model", lambda: whole.flux2_parts(guidance=True), tekken),
    "lumina2": ("spiece_model", whole.lumina2_parts, lambda: spiece(GEMMAS)),
}
"""Families whose text encoders carry their tokenizers in ComfyUI's files: in which tensor."""


@pytest.mark.parametrize("name", CARRIED)
def test_a_text_encoder_that_carries_its_tokenizer_needs_no_other(
    tileup: Command, folder: Path, name: str
) -> None:
    tensor, make, content = CARRIED[name]
    flags = saved(folder, make(), f"{name}.safetensors")
    where = flags.index("--tokenizer")
    without = [*flags[:where], *flags[where + 2 :]]
    ran = tileup("upscale", "in.png", *SIZE, *without)
    assert ran.code == 4
    assert "'s tokenizer (--tokenizer)" in ran.sentence
    carried_tokenizer(content(), "the test").save("tokenizer.json")
    prompt = ("-p", "the cat")
    wanted = drawn(tileup, *without, *prompt, "--tokenizer", "tokenizer.json")
    encoder = load_file("text_encoder.safetensors")
    encoder[tensor] = torch.frombuffer(bytearray(content()), dtype=torch.uint8)
    save_file(encoder, "text_encoder.safetensors")
    assert np.array_equal(drawn(tileup, *without, *prompt), wanted)
    assert np.abs(drawn(tileup, *without, "-p", "of a theatre at th") - wanted).max() > 1


def in_transformers_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Both text encoders of SDXL as transformers names them."""
    prefix = "conditioner.embedders.1.model."
    clip_g = {
        name.removeprefix(prefix): e for name, e in tensors.items() if name.startswith(prefix)
    }
    rest = {name: each for name, each in tensors.items() if not name.startswith(prefix)}
    other = prefixed("conditioner.embedders.1.transformer.", renamed(clip_g))
    return rest | other


def whole_clip(tensors: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """A text encoder with the half that sees, and what joins them."""
    sees = {
        "vision_model.embeddings.class_embedding": torch.ones(8),
        "vision_model.encoder.layers.0.self_attn.q_proj.weight": torch.ones(8, 8),
        "visual_projection.weight": torch.ones(8, 8),
        "logit_scale": torch.ones(()),
    }
    return {**tensors, **prefixed(prefix, sees)}


def zeros_beside(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An inpainting model that makes nothing of the mask and the masked picture."""
    name = f"{PREFIX}input_blocks.0.0.weight"
    weight = tensors[name]
    return tensors | {name: torch.cat([weight, torch.zeros(len(weight), 5, 3, 3)], dim=1)}


SAME: Mapping[
    str, tuple[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]
] = {
    "SDXL in transformers' names": ("sdxl", in_transformers_names, ""),
    "a whole CLIP": (
        "sd1",
        lambda tensors: whole_clip(tensors, "cond_stage_model.transformer."),
        "",
    ),
    "inpainting": ("sd1", zeros_beside, "is an inpainting model"),
}
"""A model, another way to store it, and what is said of that."""


@pytest.mark.parametrize("name", SAME)
def test_files_with_more_in_them_draw_the_same(
    tileup: Command,
    folder: Path,
    request: pytest.FixtureRequest,
    plain: Callable[[Path], Pixels],
    name: str,
) -> None:
    usual, change, words = SAME[name]
    path: Path = request.getfixturevalue(usual)
    half(folder / "m.safetensors", change(load_file(path)))
    told = tileup("info", "m.safetensors")
    assert told.code == 0, told.err
    ran = tileup("upscale", "in.png", "-o", "m.png", *SIZE, "-m", "m.safetensors")
    assert ran.code == 0, ran.err
    said = " ".join(ran.err.split())
    wanted = plain(path)
    assert np.abs(pixels(folder / "m.png") - wanted).max() <= 1
    assert words in said
    assert "no place for" not in said


def test_a_whole_clip_for_a_part_draws_the_same(tileup: Command, folder: Path) -> None:
    parts = whole.flux_parts()
    flags = saved(folder, parts, "flux.safetensors")
    wanted = drawn(tileup, *flags)
    whole.save(folder / "clip_l.safetensors", whole_clip(parts["clip_l"]))
    ran = tileup("upscale", "in.png", "-o", "whole.png", *SIZE, *flags)
    assert ran.code == 0, ran.err
    assert "no place for" not in ran.err
    assert np.abs(pixels(folder / "whole.png") - wanted).max() <= 1


def test_an_inpainting_model_sees_its_mask(
    tileup: Command, folder: Path, sd1: Path, plain: Callable[[Path], Pixels]
) -> None:
    """One that is blind to it draws as the model that knows of none, but for a step: see above."""
    tensors = zeros_beside(load_file(sd1))
    weight = tensors[f"{PREFIX}input_blocks.0.0.weight"]
    weight[:, 4:] = 0.1 * torch.randn(weight[:, 4:].shape, generator=torch.manual_seed(0))
    half(folder / "sees.safetensors", tensors)
    told = tileup("info", "sees.safetensors")
    assert "for inpainting" in told.out
    assert np.abs(drawn(tileup, "-m", "sees.safetensors") - plain(sd1)).max() > 6


def marked(content: Mapping[str, object]) -> torch.Tensor:
    return torch.tensor([*json.dumps(content).encode()], dtype=torch.uint8)


def as_fp8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    scale = weight.abs().max() / 448
    stored = {"weight": (weight / scale).to(torch.float8_e4m3fn), "weight_scale": scale}
    return stored | {"comfy_quant": marked({"format": "float8_e4m3fn"})}


def as_old_fp8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    scale = weight.abs().max() / 448
    return {"weight": (weight / scale).to(torch.float8_e4m3fn), "scale_weight": scale}


def as_int8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    rotated = weight.shape[1] % 64 == 0
    turned = weight
    if rotated:
        turned = (weight.unflatten(1, (-1, 64)) @ rotation(64)).flatten(1)
    scale = turned.abs().amax(1, keepdim=True) / 127
    mark = {"format": "int8_tensorwise", "convrot": rotated, "convrot_groupsize": 64}
    stored = {"weight": (turned / scale).round().to(torch.int8), "weight_scale": scale}
    return stored | {"comfy_quant": marked(mark)}


def as_nvfp4(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Random numbers of about the spread of the weight's."""
    rows, columns = weight.shape
    halves = torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8)
    tiles = torch.ones(-(-rows // 128) * 128, -(-columns // 64) * 4).to(torch.float8_e4m3fn)
    stored = {"weight": halves, "weight_scale": tiles, "weight_scale_2": weight.std() / 2.9}
    return stored | {"comfy_quant": marked({"format": "nvfp4"})}


EIGHT: Mapping[str, tuple[Callable[[torch.Tensor], dict[str, torch.Tensor]], str]] = {
    "fp8": (as_fp8, "F8_E4M3 with scales"),
    "fp8 of before": (as_old_fp8, "F8_E4M3"),
    "int8": (as_int8, "INT8, rotated (ConvRot)"),
    "int8, marked in the metadata": (as_int8, "INT8, rotated (ConvRot)"),
    "nvfp4": (as_nvfp4, "NVFP4"),
}
"""How a matrix is stored, and what `info` calls it."""


def moved_marks(stored: dict[str, torch.Tensor]) -> dict[str, str]:
    """The marks of layers as the metadata of a file has them; they are taken from the tensors."""
    keys = [key for key in stored if key.endswith(".comfy_quant")]
    assert keys
    layers = {
        key.removesuffix(".comfy_quant"): json.loads(bytes(stored.pop(key).tolist()))
        for key in keys
    }
    return {METADATA: json.dumps({"format_version": "1.0", "layers": layers})}


@pytest.mark.parametrize("name", EIGHT)
def test_comfyuis_formats_are_described_and_draw(tileup: Command, folder: Path, name: str) -> None:
    """FLUX and its T5; the picture is that of the same files with the values in them."""
    store, title = EIGHT[name]
    parts = whole.flux_parts()
    flags = saved(folder, parts, "flux.safetensors")
    torch.manual_seed(0)
    for part in ("flux", "t5"):
        stored: dict[str, torch.Tensor] = {}
        for key, tensor in parts["network" if part == "flux" else part].items():
            if tensor.ndim == 2 and min(tensor.shape) >= 32 and key.endswith(".weight"):
                layer = key.removesuffix("weight")
                stored |= {layer + end: each for end, each in store(tensor).items()}
            else:
                stored[key] = tensor
        metadata = moved_marks(stored) if "metadata" in name else None
        save_file(stored, folder / f"{part}_small.safetensors", metadata)
        read = open_checkpoint(folder / f"{part}_small.safetensors").state_dict()
        save_file(
            {each: unpacked(tensor).contiguous() for each, tensor in read.items()},
            folder / f"{part}.safetensors",
        )
    told = tileup("info", "flux_small.safetensors")
    assert told.code == 0, told.err
    assert title in " ".join(told.out.split())
    assert "FLUX.1 dev" in told.out
    expected = drawn(tileup, *flags)
    small = {f"{part}.safetensors": f"{part}_small.safetensors" for part in ("flux", "t5")}
    found = drawn(tileup, *[small.get(each, each) for each in flags])
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({"img_in.wscales": torch.ones(4)}, "SVDQuant"),
        ({"img_in.comfy_quant": marked({"format": "svdquant_w4a4"})}, "svdquant_w4a4"),
        ({"img_in.comfy_quant": marked({"format": "mxfp8"})}, "mxfp8"),
        ({"img_in.qweight": torch.ones(4)}, "GPTQ"),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(
    tileup: Command, folder: Path, stored: dict[str, torch.Tensor], words: str
) -> None:
    flags = saved(folder, whole.flux_parts(), "flux.safetensors")
    save_file(whole.flux_parts()["network"] | stored, folder / "flux.safetensors")
    for command in (("info", "flux.safetensors"), ("upscale", "in.png", *flags)):
        ran = tileup(*command)
        assert ran.code == 4
        assert words in ran.sentence


@contextlib.contextmanager
def known_to_python(kind: type) -> Generator[None]:
    """While it lasts, a class can be found where it says that it lies."""
    parts = kind.__module__.split(".")
    names = [".".join(parts[: count + 1]) for count in range(len(parts))]
    with pytest.MonkeyPatch.context() as patch:
        for each in names:
            patch.setitem(sys.modules, each, types.ModuleType(each))
        setattr(sys.modules[names[-1]], kind.__qualname__, kind)
        yield


def test_a_checkpoint_of_a_training_program_is_described_and_draws(
    tileup: Command, folder: Path, sd1: Path, plain: Callable[[Path], Pixels]
) -> None:
    """With what such a program leaves beside the weights: a callback of Lightning's by its class,
    and what it remembers, settings and figures."""
    content = {
        "state_dict": load_file(sd1),
        "callbacks": {Tracked: {"best": np.float64(3.0)}, "last": Tracked()},
        "settings": argparse.Namespace(rate=1e-4),
        "global_step": 7,
    }
    with known_to_python(Tracked):
        torch.save(content, folder / "trained.ckpt")
    Tracked.made.clear()
    told = tileup("info", "trained.ckpt")
    assert told.code == 0, told.err
    assert "Stable Diffusion 1.x" in told.out
    assert np.array_equal(drawn(tileup, "-m", "trained.ckpt"), plain(sd1))
    assert Tracked.made == []
    with known_to_python(Tracked):
        torch.load(folder / "trained.ckpt", weights_only=False)
    assert Tracked.made == ["filled"], "the code was there to be run"


def test_an_embedding_in_a_lora_is_read_by_prompts(
    tileup: Command, folder: Path, sd1: Path, attention: dict[str, tuple[int, ...]]
) -> None:
    """The picture is that of the same LoRA without it, and the embedding in a file of its own."""
    lora, vectors = (
        kohya_lora(changes(attention)),
        torch.randn(3, 768, generator=torch.manual_seed(3)),
    )
    save_file(lora | {"bundle_emb.mine.string_to_param.*": vectors}, folder / "both.safetensors")
    save_file(lora, folder / "lora.safetensors")
    save_file({"emb_params": vectors}, folder / "mine.safetensors")
    told = tileup("info", "both.safetensors")
    assert "embeddings  mine" in told.out
    flags = ("-m", sd1, "-p", "a cat, mine", "--lora")
    found = drawn(tileup, *flags, "both.safetensors")
    wanted = drawn(tileup, *flags, "lora.safetensors", "--embedding", "mine.safetensors")
    assert np.array_equal(found, wanted)
    assert np.abs(found - drawn(tileup, *flags, "lora.safetensors")).max() > 2


ALL_IN_ONE: Mapping[str, tuple[Callable[[], Parts], Mapping[str, str]]] = {
    "flux-dev": (
        whole.flux_parts,
        {
            "network": PREFIX,
            "vae": "vae.",
            "clip_l": "text_encoders.clip_l.transformer.",
            "t5": "text_encoders.t5xxl.transformer.",
        },
    ),
    "sd3": (
        whole.sd3_parts,
        {
            "network": "",  # it has its prefix
            "vae": "first_stage_model.",
            "clip_l": "text_encoders.clip_l.transformer.",
            "clip_g": "text_encoders.clip_g.transformer.",
            "t5": "text_encoders.t5xxl.transformer.",
        },
    ),
}
"""Families whose files hold everything, with the prefixes of the parts."""


@pytest.mark.parametrize("name", ALL_IN_ONE)
def test_a_file_with_everything_in_it_needs_no_tokenizer(
    tileup: Command, folder: Path, name: str
) -> None:
    """The picture is that of its parts in files of their own, with T5's tokenizer given."""
    make, prefixes = ALL_IN_ONE[name]
    parts = dict(make())
    parts["t5"] = t5(parts["t5"]["shared.weight"].shape[1], vocabulary=32128)
    flags = saved(folder, parts, f"{name}.safetensors")
    whole.save(
        folder / "everything.safetensors",
        {k: e for part, each in parts.items() for k, e in prefixed(prefixes[part], each).items()},
    )
    (folder / "t5").mkdir()
    (folder / "t5" / "tokenizer.json").write_bytes(gzip.decompress(SHIPPED.read_bytes()))
    flags[flags.index("--tokenizer") + 1] = "t5"
    told = tileup("info", "everything.safetensors")
    assert "not in the file" not in told.out
    prompt = ("-p", "an old stone bridge")
    found = drawn(tileup, "-m", "everything.safetensors", *prompt)
    assert np.array_equal(found, drawn(tileup, *flags, *prompt))
    assert np.abs(found - drawn(tileup, "-m", "everything.safetensors", "-p", "a cat")).max() > 2


def test_v_with_zero_terminal_snr_can_be_asked_for(
    tileup: Command, folder: Path, sdxl: Path
) -> None:
    """The picture is that of the same file with the marks that say so, and not that of plain v."""
    marks = {name: torch.zeros(0) for name in ("v_pred", "ztsnr")}
    half(folder / "marked.safetensors", load_file(sdxl) | marks)
    flags = ("-m", str(sdxl), "--denoise", "1", "--prediction")
    marked = drawn(tileup, "-m", "marked.safetensors", "--denoise", "1")
    assert np.array_equal(drawn(tileup, *flags, "v-zsnr"), marked)
    assert np.abs(drawn(tileup, *flags, "v") - marked).max() > 5
