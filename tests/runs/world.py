"""What the runs are given: a folder of small pictures and settings, and small checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import torch
from PIL import Image, ImageCms, PngImagePlugin
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoints import headers, whole
from tests.checkpoints.headers import save_head
from tests.checkpoints.layouts.compact import compact_state_dict
from tests.checkpoints.layouts.text import prefixed
from tests.checkpoints.layouts.unet import PREFIX, sd1_unet
from tests.checkpoints.layouts.vae import vae_state_dict


def scene(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Smooth on the left, busy on the right: 8 bits, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(40, 200, width), np.linspace(60, 180, height))
    smooth = np.stack([x, y, 240 - x], axis=-1)
    busy = rng.integers(-60, 60, (height, width, 3)) * (x > 120)[..., None]
    return np.clip(smooth + busy, 0, 255).round().astype(np.uint8)


def make_pictures(folder: Path) -> None:
    """Pictures of each kind, damaged ones, a tree of them, texts and settings."""
    picture = Image.fromarray(scene(24, 20))
    picture.save(folder / "in.png")
    Image.fromarray(scene(96, 64, 1)).save(folder / "wide.png")
    picture.save(folder / "in.jpg", quality=95)
    picture.save(folder / "in.webp", lossless=True)
    picture.save(folder / "in.tif")
    picture.save(folder / "in.bmp")
    _modes(folder, picture)
    _deep(folder)
    _metadata(folder, picture)
    _damaged(folder)
    _tree(folder)
    _settings(folder)


def _modes(folder: Path, picture: Image.Image) -> None:
    grey = picture.convert("L")
    grey.save(folder / "grey.png")
    picture.convert("1").save(folder / "bilevel.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    picture.convert("CMYK").save(folder / "cmyk.tif")
    alpha = picture.copy()
    alpha.putalpha(grey)
    alpha.save(folder / "alpha.png")
    Image.merge("LA", (grey, grey)).save(folder / "grey-alpha.png")
    mask = np.zeros((20, 24), np.uint8)
    mask[:, 12:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.repeat([[0, 102, 204]], 8, 1).astype(np.uint8)).save(folder / "map.png")
    picture.save(folder / "animated.webp", save_all=True, append_images=[picture.rotate(180)])


def _deep(folder: Path) -> None:
    deep = scene(24, 20).astype(np.uint16) * 257 + 3
    (folder / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    wide = scene(96, 64, 1).astype(np.uint16) * 257
    (folder / "wide16.png").write_bytes(imagecodecs.png_encode(wide))
    (folder / "deep.tif").write_bytes(_tiff16(deep))
    (folder / "deep-grey.png").write_bytes(imagecodecs.png_encode(deep[..., 0].copy()))
    (folder / "deep.jp2").write_bytes(imagecodecs.jpeg2k_encode(deep, level=0, codecformat="jp2"))
    (folder / "ten.avif").write_bytes(
        imagecodecs.avif_encode(deep >> 6, level=90, bitspersample=10)
    )


def _tiff16(pixels: np.ndarray) -> bytes:
    """An uncompressed TIFF of 16 bits per channel, one strip."""
    height, width, channels = pixels.shape
    data = pixels.astype("<u2").tobytes()
    bits = 8 + len(data)
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    directory = bits + 2 * channels
    body = b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, count, value in entries
    )  # fmt: skip
    return (
        b"II*\0"
        + directory.to_bytes(4, "little")
        + data
        + (16).to_bytes(2, "little") * channels
        + len(entries).to_bytes(2, "little")
        + body
        + bytes(4)
    )


def _metadata(folder: Path, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x013B], exif[0x0112] = "A camera", "A person", 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
        '22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/'
        '1.1/"><dc:creator><rdf:Seq><rdf:li>A person</rdf:li></rdf:Seq></dc:creator>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    picture.save(folder / "told.jpg", exif=exif, icc_profile=profile, xmp=packet.encode())
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "A person")
    text.add_text("parameters", "a red boat\nSteps: 20, Sampler: Euler a, Seed: 7, Size: 24x20")
    picture.save(folder / "told.png", pnginfo=text, exif=exif, icc_profile=profile)


def _damaged(folder: Path) -> None:
    (folder / "notes.txt").write_text("no picture")
    (folder / "bad.png").write_text("no picture")
    (folder / "empty.png").write_bytes(b"")
    whole_file = (folder / "wide.png").read_bytes()
    (folder / "cut.png").write_bytes(whole_file[: len(whole_file) // 2])
    Image.new("LAB", (4, 4)).save(folder / "lab.tif")
    Image.new("RGB", (1, 1), (9, 99, 199)).save(folder / "dot.png")


def _tree(folder: Path) -> None:
    for seed, name in enumerate(("a.png", "b.jpg", "sub/c.png"), start=2):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(12, 10, seed)).save(path)
    (folder / "photos" / "a.txt").write_text("a red boat\n")
    (folder / "photos" / "notes.md").write_text("no picture\n")
    (folder / "none").mkdir()


def _settings(folder: Path) -> None:
    (folder / "some.yaml").write_text("max-denoise: 0.6\nsteps: 2\nseed: 9\n")
    (folder / "wrong.yaml").write_text("max-denoise: 1.6\n")
    (folder / "unknown.yaml").write_text("max-denoize: 0.6\n")
    (folder / "torn.yaml").write_text("max-denoise: [0.6\n")
    (folder / "list.yaml").write_text("- 1\n- 2\n")


def _lora(path: Path) -> None:
    save_head(path, {"lora_unet_a.lora_up.weight": (4, 4)})


def _page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>" * 9)


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")


def _without_words() -> dict[str, Tensor]:
    """SD 1.5 without the text encoder, most of which is a vocabulary."""
    vae = prefixed("first_stage_model.", vae_state_dict(32))
    return prefixed(PREFIX, sd1_unet(32)) | vae


def _words(width: int) -> dict[str, Tensor]:
    """Prompts that are encoded already, and one vector for all of their words."""
    words = torch.linspace(-1, 1, 5 * width).reshape(5, width)
    words = {"prompt_embeds": words, "pooled_prompt_embeds": words[0].clone()}
    return words | {f"negative_{name}": -each for name, each in words.items()}


MODELS: dict[str, Callable[[Path], object]] = {
    "sd1-head": lambda path: save_head(path, headers.sd1_file()),
    "sd2-head": lambda path: save_head(path, headers.sd2_file()),
    "sdxl-head": lambda path: save_head(path, headers.sdxl_file()),
    "refiner-head": lambda path: save_head(path, headers.refiner_file()),
    "sd3-head": lambda path: save_head(path, headers.sd3_file()),
    "flux-head": lambda path: save_head(path, headers.flux()),
    "pix2pix-head": lambda path: save_head(path, headers.sd1_file(inputs=8)),
    "vae-head": lambda path: save_head(path, headers.vae()),
    "foreign-head": lambda path: save_head(path, {"a.weight": (4, 4), "b.weight": (2,)}),
    "lora": _lora,
    "page": _page,
    "pointer": _pointer,
    "empty": lambda path: path.write_bytes(b""),
    "gguf": lambda path: path.write_bytes(b"GGUF" + b"\3" * 60),
    "shards": lambda path: path.write_text(json.dumps({"weight_map": {"a": "1.safetensors"}})),
    "compact": lambda path: save_file(compact_state_dict(gain=1.0), path),
    "sd1": lambda path: whole.save(path, _without_words()),
    "words768": lambda path: save_file(_words(768), path),
    "words64": lambda path: save_file(_words(64), path),
}
"""Files under models/ by their name without extension; the heads have no weights."""


def make_model(path: Path) -> None:
    """Write a checkpoint, unless it is there; SD 3 and FLUX by parts, `flux-vae` and so on."""
    path.parent.mkdir(exist_ok=True)
    family, _, part = path.name.partition(".")[0].partition("-")
    if path.exists():
        return
    if f"{family}-{part}" not in MODELS and family in ("sd3", "flux"):
        parts = whole.sd3_parts() if family == "sd3" else whole.flux_parts()
        parts["vae"] = vae_state_dict(32, 16, quant=False)  # the one that was recorded
        whole.save(path, parts[part])
    else:
        MODELS[path.name.partition(".")[0]](path)
