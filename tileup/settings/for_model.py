"""The checkpoint, what is added to it, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass

from tileup.settings import checks
from tileup.settings.checks import at_least, one_of, require, within
from tileup.settings.setting import Panel, setting
from tileup.wording import listed

PREDICTIONS = ("eps", "v", "v-zsnr", "x0", "flow")
"""v-zsnr is v of a network that was trained up to pure noise (zero terminal SNR)."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
RUNTIMES = ("auto", "torch", "ncnn", "int8")
LANCZOS = "lanczos"
"""The upscaler that needs no file."""
COLOR_FIXES = ("wavelet", "adain", "none")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ModelSettings:
    """The checkpoint, what is added to it, and where it runs."""

    __slots__ = ()

    model: str | None = setting(
        None,
        Panel.MODEL,
        "FILE|NAME",
        "A checkpoint (.safetensors, .ckpt, a diffusers folder), or the name of one in the folders "
        "of TILEUP_MODELS (default: the one that ships with tileup).",
        names="--model -m",
        loading=True,
    )
    prediction: str | None = setting(
        None,
        Panel.MODEL,
        "KIND",
        f"What the network predicts where its file does not say: {listed(PREDICTIONS, 'or')}"
        " (v-zsnr: v with zero terminal SNR).",
        one_of(PREDICTIONS),
        loading=True,
    )
    vae: str | None = setting(
        None, Panel.PARTS, "FILE", "The VAE, in place of the file's own.", loading=True
    )
    clip_l: str | None = setting(
        None, Panel.PARTS, "FILE", "The CLIP-L text encoder.", loading=True
    )
    clip_g: str | None = setting(
        None, Panel.PARTS, "FILE", "The CLIP-G text encoder.", loading=True
    )
    t5: str | None = setting(None, Panel.PARTS, "FILE", "The T5-XXL text encoder.", loading=True)
    text_encoder: str | None = setting(
        None,
        Panel.PARTS,
        "FILE",
        "The language model that reads prompts for Z-Image, Lumina 2, Qwen-Image and FLUX.2.",
        loading=True,
    )
    tokenizer: str | None = setting(
        None,
        Panel.PARTS,
        "PATH",
        "T5's or the language model's: tokenizer.json, spiece.model or their folder.",
        loading=True,
    )
    control: str | None = setting(
        None,
        Panel.PARTS,
        "FILE",
        "A tile ControlNet for SD 1.5, SDXL, SD 3 or FLUX.1: keeps the structure.",
        loading=True,
    )
    control_scale: float = setting(
        1.0,
        Panel.PARTS,
        "0..2",
        "How much it counts (default: {default}).",
        within(0, 2),
        loading=True,
    )
    control_end: float = setting(
        1.0,
        Panel.PARTS,
        "0..1",
        "Share of the steps in which it acts (default: {default}).",
        within(0, 1),
    )
    lora: tuple[str, ...] = setting(
        (),
        Panel.PARTS,
        "FILE[:WEIGHT]",
        "A LoRA; can be given several times.",
        checks.weighted,
        loading=True,
    )
    upscaler: str = setting(
        LANCZOS,
        Panel.PARTS,
        "lanczos|FILE",
        "What enlarges before diffusion: lanczos, or an ESRGAN-like model (default: {default}).",
    )
    color_fix: str = setting(
        "none",
        Panel.PARTS,
        "HOW",
        f"Keep the tones of the source: {listed(COLOR_FIXES, 'or')} (default: the family's own).",
        one_of(COLOR_FIXES),
    )
    vae_tile: int | None = setting(
        None,
        Panel.MODEL,
        "PX",
        "Larger pictures go through the VAE in tiles of this side.",
        at_least(64),
        behind="low_memory",
        loading=True,
    )
    device: str = setting(
        "auto",
        Panel.MODEL,
        "NAME",
        "auto, cpu, cuda, cuda:1, mps (default: {default}).",
        checks.device,
        names="--device -d",
        behind="prediction",
        loading=True,
    )
    dtype: str = setting(
        "auto",
        Panel.MODEL,
        "NAME",
        f"Precision of the network: {listed(DTYPES, 'or')} (default: {{default}}).",
        one_of(DTYPES),
        loading=True,
    )
    runtime: str = setting(
        "auto",
        Panel.MODEL,
        "NAME",
        "What computes the bundled network on a CPU: auto (the fastest one), torch, ncnn, or int8, "
        "which rounds most of it to 8 bits (default: {default}).",
        one_of(RUNTIMES),
        loading=True,
    )
    threads: int | None = setting(
        None,
        Panel.MODEL,
        "N",
        "Threads the network computes with on a CPU (default: one for each core).",
        at_least(1),
        loading=True,
    )
    compile: bool = setting(
        False,
        Panel.MODEL,
        "",
        "Compile the network when it is first used: minutes of waiting, then faster steps on a "
        "GPU.",
        names="--compile/--no-compile",
        loading=True,
    )
    low_memory: bool = setting(
        False,
        Panel.MODEL,
        "",
        "Text encoder, network and VAE are on the device in turn.",
        names="--low-memory/--high-memory",
        loading=True,
    )


def _runtimes_have_precisions(s: ModelSettings) -> None:
    require(
        s.runtime != "ncnn" or s.dtype in ("auto", "float32"),
        f"runtime ncnn computes in float32, and dtype is {s.dtype}: give one of the two",
    )
    require(
        s.runtime != "int8" or s.dtype == "auto",
        f"runtime int8 computes in integers of 8 bits, and dtype is {s.dtype}: give one of the two",
    )


RULES = (_runtimes_have_precisions,)
"""What these settings must be together."""
