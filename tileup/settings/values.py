"""Everything that decides what one picture becomes, and what each value must be."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tileup.errors import UsageError

DENOISE_MODES = ("schedule", "sigma", "passes", "blend", "scale")
DENOISE_BY = ("depth", "detail", "area")
DETAIL_METRICS = ("gradient", "variance")
WEIGHTS = ("feather", "gaussian", "uniform")
WINDOWS = ("cover", "spot")
PREDICTIONS = ("eps", "v", "x0", "flow")
DTYPES = ("auto", "float32", "bfloat16", "float16")
LANCZOS = "lanczos"
"""The upscaler that needs no file."""
COLOR_FIXES = ("wavelet", "adain", "none")
FORMATS = {
    "png": "png",
    "jpg": "jpg",
    "jpeg": "jpg",
    "webp": "webp",
    "tif": "tif",
    "tiff": "tif",
    "avif": "avif",
    "bmp": "bmp",
    "jp2": "jp2",
}
"""Formats that are written, by each extension that stands for them."""
NAME = "{stem}_{scale}x.{ext}"
"""Template of output names unless another is given."""
ALIASES = {"denoise": ("min_denoise", "max_denoise")}
"""Names that set several settings at once."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides what one picture becomes. Sizes are output pixels."""

    scale: float = 2.0
    """Output side / input side, 1 to 16. One of the four sizes below replaces it."""
    size: str | None = None
    """Exact output size as WIDTHxHEIGHT; the aspect ratio is the user's business."""
    long_edge: int | None = None
    """Longer side of the output."""
    short_edge: int | None = None
    """Shorter side of the output."""
    max_pixels: int | None = None
    """`scale` is lowered until the output has at most this many pixels (never below 1)."""

    min_denoise: float = 0.2
    """Strength of the largest, flattest tiles, 0 to 1. Not noise removal."""
    max_denoise: float = 0.8
    """Strength of the smallest, most detailed tiles, 0 to 1."""
    denoise_mode: str = "schedule"
    """How a tile's own strength is brought about: schedule, sigma or passes; blend and scale only
    approximate it."""
    denoise_by: str = "depth"
    """What a tile's strength follows: its depth, its detail, or its area."""
    min_scale: float = 0.7
    """Mode scale: factor of the prediction at strength 0, 0.5 to 1."""
    scale_range: float = 0.25
    """Mode scale: how much strength 1 adds to that factor, 0 to 1."""
    ramp: float = 1.0
    """Mode scale: how the factor grows to 1 over the run, 0.5 to 2."""
    skip_smaller: str | None = None
    """Tiles smaller than this are kept: pixels, or a percentage of `tile` as in 50%."""
    skip_larger: str | None = None
    """Tiles larger than this are kept: pixels or a percentage."""
    skip_below: float | None = None
    """Tiles weaker than this strength are kept."""
    mask: str | None = None
    """Picture of any size whose white parts are kept."""
    denoise_map: str | None = None
    """Picture of any size whose grey is the strength, black 0, white 1; in place of the tiles'."""

    tile: int = 256
    """Side of the largest tiles."""
    min_tile: int = 32
    """Side of the smallest tiles."""
    detail_threshold: float | str = "auto"
    """A tile with more detail than this splits; `auto` chooses it per picture."""
    detail_metric: str = "gradient"
    """How detail is measured."""
    budget: float | None = None
    """Share of the cost of uniform max_denoise, above 0 to 1: chooses the detail threshold."""

    window: int | None = None
    """Side of the window that the network is shown; None: what the model was trained on."""
    overlap: int = 32
    """How far neighbouring windows overlap, and how wide strengths fade into one another."""
    weights: str = "feather"
    """How overlapping windows are blended."""
    windows: str = "cover"
    """How windows are laid: cover, the fewest with overlap; spot, without overlap, moved in each
    step."""
    batch: int = 4
    """Windows evaluated at once; does not change the picture beyond rounding."""

    steps: int = 8
    """Sampler steps that the strongest tile takes; weaker tiles take their share of them."""
    sampler: str = "euler"
    """A sampler of k-diffusion."""
    scheduler: str = "sgm_uniform"
    """How the noise levels of the steps are spaced."""
    eta: float | None = None
    """Share of fresh noise of ancestral and SDE samplers, 0 to 1; None: the sampler's own."""
    s_noise: float = 1.0
    """Factor of that noise, 0 to 2."""
    s_churn: float = 0.0
    """Noise that euler, heun and dpm_2 add over the whole run, 0 to 100."""
    prompt: str = ""
    """What the picture shows; models that take no text ignore it."""
    negative: str = ""
    """What it shall not look like; counts only where `cfg` is not 1."""
    cfg: float = 1.0
    """Classifier-free guidance, 0 to 30; 1 leaves it out and takes half the time."""
    guidance: float | None = None
    """What a guidance-distilled model (FLUX dev) is told, 0 to 30; None: its family's own."""
    prompt_file: bool = False
    """Whether the text file beside a picture (a.txt for a.png) is its prompt."""
    prompt_embeds: str | None = None
    """A .safetensors file of encoded prompts, in place of text encoders."""
    seed: int = 0
    """Same seed, settings and picture: same result."""

    model: str | None = None
    """A file, or the name of a model in TILEUP_MODELS or among the shipped ones; None: bundled."""
    prediction: str | None = None
    """What the network predicts, where its file does not say: eps, v, x0 or flow."""
    vae: str | None = None
    """A file with the VAE, in place of the checkpoint's own."""
    clip_l: str | None = None
    """A file with the CLIP-L text encoder."""
    clip_g: str | None = None
    """A file with the CLIP-G text encoder."""
    t5: str | None = None
    """A file with the T5-XXL text encoder."""
    tokenizer: str | None = None
    """T5's tokenizer: its folder, tokenizer.json or spiece.model."""
    control: str | None = None
    """A ControlNet that sees the enlarged picture."""
    control_scale: float = 1.0
    """How much the ControlNet counts, 0 to 2."""
    control_end: float = 1.0
    """Share of the steps in which the ControlNet acts, 0 to 1."""
    lora: tuple[str, ...] = ()
    """LoRA files, each as FILE or FILE:WEIGHT."""
    upscaler: str = LANCZOS
    """What enlarges before diffusion: lanczos, or the file of an ESRGAN-like model."""
    color_fix: str = "none"
    """How the tones of the source are kept: wavelet, adain or none."""
    vae_tile: int | None = None
    """Larger pictures go through the VAE in tiles of this side, pixels; None: 256. It decides the
    memory that takes and not the picture."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    dtype: str = "auto"
    """Precision the network computes in: auto, float32, bfloat16 or float16."""
    threads: int | None = None
    """Threads the network computes with on a CPU; None: one for each core."""
    low_memory: bool = False
    """Whether text encoder, network and VAE are on the device in turn only."""

    format: str | None = None
    """File format of the output; None: the output's extension, else the input's, else PNG."""
    quality: int = 92
    """JPEG, WebP and AVIF quality, 1 to 100."""
    name: str = NAME
    """Template of output names."""
    suffix: str | None = None
    """What follows the input's stem in output names, fields allowed; in place of `name`."""
    metadata: bool = True
    """Whether prompt-style metadata is written into the output."""
    strip_exif: bool = False
    """Whether EXIF and XMP of the input (date, place, camera, author) are left away."""
    max_input_pixels: int = 200_000_000
    """Larger inputs are refused before they are decoded."""

    def __post_init__(self) -> None:
        for check in _RULES:
            check(self)

    def to_dict(self) -> dict[str, object]:
        """Every setting by name, in order; JSON and YAML can hold all values."""
        values = dataclasses.asdict(self)
        return {name: [*each] if isinstance(each, tuple) else each for name, each in values.items()}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


def _check_size(s: Settings) -> None:
    _require(1 <= s.scale <= 16, f"scale must be between 1 and 16, got {s.scale:g}")
    given = [
        name.replace("_", "-")
        for name in ("size", "long_edge", "short_edge")
        if getattr(s, name) is not None
    ]
    _require(len(given) < 2, f"only one of {' and '.join(given)} can be given")
    for name in ("long_edge", "short_edge", "max_pixels"):
        value = getattr(s, name)
        _require(
            value is None or value >= 1, f"{name.replace('_', '-')} must be at least 1, got {value}"
        )
    if s.size is not None:
        parse_size(s.size)


def _check_denoise(s: Settings) -> None:
    for name in ("min_denoise", "max_denoise"):
        _within(name.replace("_", "-"), getattr(s, name), 0, 1)
    _require(
        s.min_denoise <= s.max_denoise,
        f"min-denoise ({s.min_denoise:g}) is above max-denoise ({s.max_denoise:g})",
    )
    _one_of("denoise-mode", s.denoise_mode, DENOISE_MODES)
    _one_of("denoise-by", s.denoise_by, DENOISE_BY)
    _within("min-scale", s.min_scale, 0.5, 1)
    _within("scale-range", s.scale_range, 0, 1)
    _within("ramp", s.ramp, 0.5, 2)


def _check_skips(s: Settings) -> None:
    for name in ("skip_smaller", "skip_larger"):
        if (value := getattr(s, name)) is not None:
            parse_extent(name.replace("_", "-"), value)
    if s.skip_below is not None:
        _within("skip-below", s.skip_below, 0, 1)
    if s.budget is not None:
        _require(0 < s.budget <= 1, f"budget must be above 0 and at most 1, got {s.budget:g}")
        _require(
            s.detail_threshold == "auto",
            "budget chooses the detail threshold itself: give one of the two",
        )


def _check_plan(s: Settings) -> None:
    _require(s.min_tile >= 1, f"min-tile must be at least 1, got {s.min_tile}")
    _require(s.tile >= s.min_tile, f"tile ({s.tile}) is below min-tile ({s.min_tile})")
    _one_of("detail-metric", s.detail_metric, DETAIL_METRICS)
    if isinstance(s.detail_threshold, str):
        _require(
            s.detail_threshold == "auto",
            f"detail-threshold must be a number or 'auto', got {s.detail_threshold!r}",
        )
    else:
        _require(
            0 <= s.detail_threshold < math.inf,
            f"detail-threshold must be a number from 0, got {s.detail_threshold}",
        )


def _check_windows(s: Settings) -> None:
    _require(s.window is None or s.window >= 8, f"window must be at least 8, got {s.window}")
    _require(s.overlap >= 0, f"overlap must be at least 0, got {s.overlap}")
    _require(s.batch >= 1, f"batch must be at least 1, got {s.batch}")
    _one_of("weights", s.weights, WEIGHTS)
    _one_of("windows", s.windows, WINDOWS)


def _check_sampling(s: Settings) -> None:
    _require(1 <= s.steps <= 1000, f"steps must be between 1 and 1000, got {s.steps}")
    if s.eta is not None:
        _within("eta", s.eta, 0, 1)
    _within("s-noise", s.s_noise, 0, 2)
    _within("s-churn", s.s_churn, 0, 100)
    _require(0 <= s.seed < 2**63, f"seed must be between 0 and 2^63 - 1, got {s.seed}")


def _check_text(s: Settings) -> None:
    _within("cfg", s.cfg, 0, 30)
    if s.guidance is not None:
        _within("guidance", s.guidance, 0, 30)


def _check_model(s: Settings) -> None:
    if s.prediction is not None:
        _one_of("prediction", s.prediction, PREDICTIONS)
    _one_of("dtype", s.dtype, DTYPES)
    _require(s.threads is None or s.threads >= 1, "threads must be at least 1")
    _one_of("color-fix", s.color_fix, COLOR_FIXES)
    _within("control-scale", s.control_scale, 0, 2)
    _within("control-end", s.control_end, 0, 1)
    _require(
        s.vae_tile is None or s.vae_tile >= 64, f"vae-tile must be at least 64, got {s.vae_tile}"
    )
    for each in s.lora:
        parse_weighted(each)


def _check_output(s: Settings) -> None:
    _require(1 <= s.quality <= 100, f"quality must be between 1 and 100, got {s.quality}")
    least = f"max-input-pixels must be at least 1, got {s.max_input_pixels}"
    _require(s.max_input_pixels >= 1, least)
    _require(s.suffix is None or s.name == NAME, "only one of name and suffix can be given")
    if s.format is not None:
        _one_of("format", s.format, [*FORMATS])


_RULES: tuple[Callable[[Settings], None], ...] = (
    _check_size,
    _check_denoise,
    _check_skips,
    _check_plan,
    _check_windows,
    _check_sampling,
    _check_text,
    _check_model,
    _check_output,
)


def _within(name: str, value: float, low: float, high: float) -> None:
    _require(low <= value <= high, f"{name} must be between {low:g} and {high:g}, got {value:g}")


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    _require(value in known, f"{name} {value!r} is not known{did_you_mean(value, known)}")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """End of a sentence that names the nearest known word, or all of them when none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `WIDTHxHEIGHT`, each at least 1.

    Raises:
        UsageError: the text has another form.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"size must be WIDTHxHEIGHT in pixels, such as 1920x1080, got {text!r}")
    width, height = int(parts[0]), int(parts[1])
    _require(min(width, height) >= 1, f"size must be at least 1x1, got {text!r}")
    return width, height


def parse_weighted(text: str) -> tuple[str, float]:
    """File and weight of `FILE` or `FILE:WEIGHT`; the weight is 1 unless given.

    Raises:
        UsageError: the weight is not between -4 and 4.
    """
    file, colon, number = text.rpartition(":")
    try:
        weight = float(number) if colon else math.nan
    except ValueError:
        weight = math.nan
    if not colon or (math.isnan(weight) and number.lower() != "nan"):
        return text, 1.0  # a colon of the name itself, as in C:/x.safetensors
    _require(-4 <= weight <= 4, f"lora {file}: its weight must be between -4 and 4, got {number}")
    return file, weight


def parse_extent(name: str, text: str) -> tuple[float, bool]:
    """A length as `64` (pixels) or `50%`: its number, and whether it is a percentage.

    Raises:
        UsageError: the text has another form.
    """
    percent = text.endswith("%")
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(f"{name} must be pixels or a percentage, such as 64 or 50%, got {text!r}")
    return number, percent
