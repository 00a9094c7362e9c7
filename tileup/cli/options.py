"""The flags, each written once: commands take them as annotated parameters.

A flag that was not given is None, so that presets, config files and the environment show through.
Defaults are therefore said in the help, and only where no family changes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

OUTPUT = "Output"
SIZE = "Size"
STRENGTH = "Strength (how much is redrawn)"
PLAN = "Plan"
SAMPLING = "Sampling"
TEXT = "Text (for models that take it)"
PARTS = "Parts of a model, and what is added to it"
MODEL = "Model and device"
SETTINGS = "Settings"
WORDS = "What is shown"


def _flag(panel: str, names: str, metavar: str, help: str, count: bool = False) -> Any:  # noqa: ANN401
    """An option.

    Args:
        panel: heading it stands under.
        names: its spellings, apart by blanks.
        metavar: what stands for its value; empty for a switch.
        help: what it does.
        count: whether it can be repeated for more of the same.
    """
    return typer.Option(
        *names.split(),
        metavar=metavar,
        rich_help_panel=panel,
        help=help,
        show_default=False,
        count=count,
    )


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Pictures, folders, patterns such as 'shots/*.jpg', or - for standard input.",
        show_default=False,
    ),
]
Input = Annotated[
    str | None,
    typer.Argument(metavar="INPUT", help="A picture, or - for standard input.", show_default=False),
]

Output = Annotated[
    str | None,
    _flag(
        OUTPUT,
        "--output -o",
        "PATH",
        "A file, a folder, or - for standard output. Without it: beside the input.",
    ),
]
Recursive = Annotated[
    bool, _flag(OUTPUT, "--recursive -r", "", "Folders below too, mirrored under -o.")
]
Name = Annotated[
    str | None,
    _flag(
        OUTPUT,
        "--name",
        "TEMPLATE",
        "Names of outputs, from {stem} {scale} {ext} {seed} {width} {height} {parent} "
        "(default: {stem}_{scale}x.{ext}).",
    ),
]
Suffix = Annotated[
    str | None,
    _flag(
        OUTPUT,
        "--suffix",
        "TEXT",
        "Names of outputs are the input's with this behind it; in place of --name.",
    ),
]
SkipExisting = Annotated[
    bool,
    _flag(
        OUTPUT,
        "--skip-existing",
        "",
        "Leave alone whatever is there, even when it is damaged or made with other settings.",
    ),
]
RetryFailed = Annotated[
    bool, _flag(OUTPUT, "--retry-failed", "", "Try again what is on record as failed.")
]
FailFast = Annotated[bool, _flag(OUTPUT, "--fail-fast", "", "Stop at the first failure.")]
DryRun = Annotated[
    bool, _flag(OUTPUT, "--dry-run", "", "Say what would be made, and make nothing.")
]
Format = Annotated[
    str | None,
    _flag(
        OUTPUT,
        "--format -f",
        "EXT",
        "png, jpg, webp, tif, avif, bmp, jp2 (default: the output's extension, else the input's).",
    ),
]
Quality = Annotated[
    int | None, _flag(OUTPUT, "--quality", "1..100", "Of JPEG, WebP and AVIF (default: 92).")
]
Overwrite = Annotated[
    bool, _flag(OUTPUT, "--overwrite", "", "Replace files that are there already.")
]
MetadataFlag = Annotated[
    bool | None,
    _flag(
        OUTPUT,
        "--metadata/--no-metadata",
        "",
        "Whether the picture says how it was made (default: metadata).",
    ),
]
StripExif = Annotated[
    bool | None,
    _flag(
        OUTPUT,
        "--strip-exif/--keep-exif",
        "",
        "Leave away date, place, camera and author of the input (default: keep).",
    ),
]
Heatmap = Annotated[
    str | None,
    _flag(
        OUTPUT,
        "--heatmap",
        "PATH|auto",
        "A picture of the strengths; auto for beside the output, a folder for those of many.",
    ),
]
PlanJson = Annotated[
    str | None,
    _flag(
        OUTPUT,
        "--plan-json",
        "PATH|auto",
        "The tiles and their cost as JSON; a folder for many.",
    ),
]

Scale = Annotated[
    float | None,
    _flag(
        SIZE,
        "--scale -s",
        "NUMBER",
        "Output side / input side, any number from 1 to 16 (default: 2).",
    ),
]
Size = Annotated[str | None, _flag(SIZE, "--size", "WxH", "Exact output size, such as 1920x1080.")]
LongEdge = Annotated[int | None, _flag(SIZE, "--long-edge", "PX", "Longer side of the output.")]
ShortEdge = Annotated[int | None, _flag(SIZE, "--short-edge", "PX", "Shorter side of the output.")]
MaxPixels = Annotated[
    int | None,
    _flag(
        SIZE, "--max-pixels", "N", "Enlarge less where the output would have more pixels than this."
    ),
]

MinDenoise = Annotated[
    float | None,
    _flag(
        STRENGTH,
        "--min-denoise",
        "0..1",
        "For the largest, flattest tiles; 0 keeps them (default: 0.2).",
    ),
]
MaxDenoise = Annotated[
    float | None,
    _flag(
        STRENGTH,
        "--max-denoise",
        "0..1",
        "For the smallest, most detailed tiles; 1 redraws them freely (default: 0.8).",
    ),
]
Denoise = Annotated[
    float | None,
    _flag(
        STRENGTH,
        "--denoise --strength",
        "0..1",
        "Both at once: one strength everywhere. It says how freely the model redraws; "
        "it is not noise removal.",
    ),
]
DenoiseMode = Annotated[
    str | None,
    _flag(
        STRENGTH,
        "--denoise-mode",
        "MODE",
        "How each tile gets its strength: schedule, sigma or passes. blend and scale are "
        "approximations: scale modulates how strong the model's prediction is and is not "
        "per-tile scheduling (default: schedule).",
    ),
]
DenoiseBy = Annotated[
    str | None,
    _flag(
        STRENGTH,
        "--denoise-by",
        "WHAT",
        "What a tile's strength follows: depth, detail or area (default: depth).",
    ),
]
Mask = Annotated[
    str | None, _flag(STRENGTH, "--mask", "FILE", "A picture whose white parts are kept.")
]
DenoiseMap = Annotated[
    str | None,
    _flag(
        STRENGTH,
        "--denoise-map",
        "FILE",
        "A picture whose grey is the strength, instead of a plan: black 0, white 1.",
    ),
]
SkipSmaller = Annotated[
    str | None,
    _flag(
        STRENGTH,
        "--skip-smaller",
        "PX|P%",
        "Keep tiles smaller than this: pixels, or a share of the largest tile.",
    ),
]
SkipLarger = Annotated[
    str | None,
    _flag(STRENGTH, "--skip-larger", "PX|P%", "Keep tiles larger than this."),
]
SkipBelow = Annotated[
    float | None, _flag(STRENGTH, "--skip-below", "0..1", "Keep tiles weaker than this.")
]
MinScale = Annotated[
    float | None,
    _flag(STRENGTH, "--min-scale", "0.5..1", "Mode scale: factor at strength 0 (default: 0.7)."),
]
ScaleRange = Annotated[
    float | None,
    _flag(
        STRENGTH, "--scale-range", "0..1", "Mode scale: what strength 1 adds to it (default: 0.25)."
    ),
]
Ramp = Annotated[
    float | None,
    _flag(STRENGTH, "--ramp", "0.5..2", "Mode scale: how it grows over the run (default: 1)."),
]

Tile = Annotated[
    int | None, _flag(PLAN, "--tile -t", "PX", "Side of the largest tiles, output pixels.")
]
MinTile = Annotated[
    int | None, _flag(PLAN, "--min-tile", "PX", "Side of the smallest tiles, output pixels.")
]
DetailThreshold = Annotated[
    str | None,
    _flag(
        PLAN,
        "--detail-threshold",
        "NUMBER|auto",
        "A tile with more detail splits; auto chooses per picture (default: auto).",
    ),
]
DetailMetric = Annotated[
    str | None,
    _flag(PLAN, "--detail-metric", "METRIC", "gradient or variance (default: gradient)."),
]
Budget = Annotated[
    float | None,
    _flag(
        PLAN,
        "--budget",
        "0..1",
        "Choose the threshold by cost: this share of the cost of the strongest everywhere.",
    ),
]

Steps = Annotated[
    int | None,
    _flag(SAMPLING, "--steps", "N", "Steps of the strongest tiles; weaker ones take their share."),
]
Sampler = Annotated[
    str | None,
    _flag(
        SAMPLING,
        "--sampler",
        "NAME",
        "By k-diffusion's names: euler, heun, dpmpp_2m, dpmpp_sde ...",
    ),
]
Scheduler = Annotated[
    str | None,
    _flag(
        SAMPLING,
        "--scheduler",
        "NAME",
        "Spacing of the noise levels: sgm_uniform, karras, exponential ...",
    ),
]
Seed = Annotated[
    int | None,
    _flag(SAMPLING, "--seed", "N", "Same seed, settings and picture: same result (default: 0)."),
]
Eta = Annotated[
    float | None,
    _flag(SAMPLING, "--eta", "0..1", "Fresh noise of ancestral and SDE samplers."),
]
SNoise = Annotated[
    float | None, _flag(SAMPLING, "--s-noise", "0..2", "Factor of that noise (default: 1).")
]
SChurn = Annotated[
    float | None,
    _flag(SAMPLING, "--s-churn", "N", "Noise that euler, heun and dpm_2 add (default: 0)."),
]
Window = Annotated[
    int | None,
    _flag(
        SAMPLING,
        "--window",
        "PX",
        "Side of what the network sees at once, output pixels (default: the model's own).",
    ),
]
Windows = Annotated[
    str | None,
    _flag(
        SAMPLING,
        "--windows",
        "HOW",
        "cover: the fewest, overlapping; spot: side by side, moved in each step (default: cover).",
    ),
]
Overlap = Annotated[
    int | None,
    _flag(
        SAMPLING,
        "--overlap",
        "PX",
        "How far windows overlap, and strengths fade into one another.",
    ),
]
Weights = Annotated[
    str | None,
    _flag(
        SAMPLING,
        "--weights",
        "NAME",
        "How windows are blended: feather, gaussian or uniform (default: feather).",
    ),
]
Batch = Annotated[
    int | None,
    _flag(
        SAMPLING, "--batch", "N", "Windows evaluated at once: speed and memory, not the picture."
    ),
]

Prompt = Annotated[
    str | None,
    _flag(TEXT, "--prompt -p", "TEXT", "What the picture shows (default: the family's own)."),
]
Negative = Annotated[str | None, _flag(TEXT, "--negative", "TEXT", "What it shall not look like.")]
Cfg = Annotated[
    float | None,
    _flag(TEXT, "--cfg", "0..30", "Classifier-free guidance; 1 leaves it out, at half the cost."),
]
Guidance = Annotated[
    float | None, _flag(TEXT, "--guidance", "0..30", "What FLUX dev is told (default: 3.5).")
]
PromptFile = Annotated[
    bool | None,
    _flag(
        TEXT,
        "--prompt-file/--no-prompt-file",
        "",
        "A text file beside a picture, a.txt for a.png, is its prompt.",
    ),
]
PromptEmbeds = Annotated[
    str | None,
    _flag(TEXT, "--prompt-embeds", "FILE", "Encoded prompts, so that no text encoder is loaded."),
]

Model = Annotated[
    str | None,
    _flag(
        MODEL,
        "--model -m",
        "FILE|NAME",
        "A checkpoint (.safetensors, .ckpt, a diffusers folder), or the name of one in the folders "
        "of TILEUP_MODELS (default: the one that ships with tileup).",
    ),
]
Device = Annotated[
    str | None, _flag(MODEL, "--device -d", "NAME", "auto, cpu, cuda, cuda:1, mps (default: auto).")
]
Dtype = Annotated[
    str | None,
    _flag(
        MODEL,
        "--dtype",
        "NAME",
        "Precision of the network: auto, float32, bfloat16 or float16 (default: auto).",
    ),
]
Threads = Annotated[
    int | None,
    _flag(
        MODEL,
        "--threads",
        "N",
        "Threads the network computes with on a CPU (default: one for each core).",
    ),
]
LowMemory = Annotated[
    bool | None,
    _flag(
        MODEL,
        "--low-memory/--high-memory",
        "",
        "Text encoder, network and VAE are on the device in turn.",
    ),
]
VaeTile = Annotated[
    int | None,
    _flag(MODEL, "--vae-tile", "PX", "Larger pictures go through the VAE in tiles of this side."),
]
Prediction = Annotated[
    str | None,
    _flag(
        MODEL,
        "--prediction",
        "KIND",
        "What the network predicts where its file does not say: eps, v, x0 or flow.",
    ),
]

Vae = Annotated[str | None, _flag(PARTS, "--vae", "FILE", "The VAE, in place of the file's own.")]
ClipL = Annotated[str | None, _flag(PARTS, "--clip-l", "FILE", "The CLIP-L text encoder.")]
ClipG = Annotated[str | None, _flag(PARTS, "--clip-g", "FILE", "The CLIP-G text encoder.")]
T5 = Annotated[str | None, _flag(PARTS, "--t5", "FILE", "The T5-XXL text encoder.")]
Tokenizer = Annotated[
    str | None,
    _flag(PARTS, "--tokenizer", "PATH", "T5's: tokenizer.json, spiece.model or their folder."),
]
Control = Annotated[
    str | None,
    _flag(PARTS, "--control", "FILE", "A tile ControlNet for SD 1.5 or SDXL: keeps the structure."),
]
ControlScale = Annotated[
    float | None, _flag(PARTS, "--control-scale", "0..2", "How much it counts (default: 1).")
]
ControlEnd = Annotated[
    float | None,
    _flag(PARTS, "--control-end", "0..1", "Share of the steps in which it acts (default: 1)."),
]
Lora = Annotated[
    list[str] | None,
    _flag(PARTS, "--lora", "FILE[:WEIGHT]", "A LoRA; can be given several times."),
]
Upscaler = Annotated[
    str | None,
    _flag(
        PARTS,
        "--upscaler",
        "lanczos|FILE",
        "What enlarges before diffusion: lanczos, or an ESRGAN-like model (default: lanczos).",
    ),
]
ColorFix = Annotated[
    str | None,
    _flag(
        PARTS,
        "--color-fix",
        "HOW",
        "Keep the tones of the source: wavelet, adain or none (default: the family's own).",
    ),
]

Preset = Annotated[str | None, _flag(SETTINGS, "--preset", "NAME", "See tileup presets.")]
Config = Annotated[
    Path | None,
    _flag(
        SETTINGS,
        "--config -c",
        "FILE",
        "YAML with lines such as `max-denoise: 0.6`. Flags win over TILEUP_* variables, "
        "those over this file, and this file over the preset.",
    ),
]
PrintConfig = Annotated[
    bool,
    _flag(SETTINGS, "--print-config", "", "Print all settings as YAML for --config, and stop."),
]
MaxInputPixels = Annotated[
    int | None,
    _flag(
        SETTINGS,
        "--max-input-pixels",
        "N",
        "Refuse larger inputs before they are decoded (default: 200000000).",
    ),
]

Json = Annotated[
    bool, _flag(WORDS, "--json", "", "One line of JSON per picture on standard output.")
]
PlanAsJson = Annotated[
    bool, _flag(WORDS, "--json", "", "The plan and its cost as JSON on standard output.")
]
Quiet = Annotated[bool, _flag(WORDS, "--quiet -q", "", "Nothing but errors.")]
Verbose = Annotated[
    int, _flag(WORDS, "--verbose -v", "", "More words; -vv shows where errors come from.", True)
]
NoProgress = Annotated[bool, _flag(WORDS, "--no-progress", "", "No progress bar.")]
LogFile = Annotated[
    Path | None, _flag(WORDS, "--log-file", "FILE", "Append everything to this file.")
]
