"""The runs: what is asked of the program, by group. Each begins in a fresh copy of the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Run:
    """Commands that follow one another in one folder."""

    group: str
    """The record's file."""
    name: str
    """Names the block."""
    commands: tuple[str, ...]
    """As in a shell, without `tileup`; `rm FILE` and `write FILE TEXT` change the folder."""
    metadata: str = ""
    """What the record holds of what pictures say about themselves: see `described`."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables that are set."""

    @property
    def exact(self) -> bool:
        """Whether no network draws: pixels are then the same on every machine."""
        return any("--denoise 0 " in f"{command} " for command in self.commands)


def _group(group: str, **runs: str | tuple[str, ...]) -> list[Run]:
    return [
        Run(group, name.replace("_", " "), (each,) if isinstance(each, str) else each)
        for name, each in runs.items()
    ]


KEPT = "--denoise 0 -q --json"
"""Nothing is redrawn: the picture enlarged by Lanczos."""
FORMATS_WRITTEN = ("png", "jpg", "webp", "tif", "avif", "jp2", "bmp")
DRAWN = "--steps 2 --dtype float32 -d cpu"

USAGE = _group(
    "usage",
    no_arguments="",
    help="--help",
    help_of_upscale="upscale --help",
    help_of_plan="plan --help",
    help_of_info="info --help",
    version="--version",
    presets="presets",
    unknown_command="upscal in.png",
    unknown_flag="upscale in.png --scal 2",
    no_input="upscale",
    not_a_number="upscale in.png --scale two",
    scale_out_of_range="upscale in.png --scale 17",
    denoise_out_of_range="upscale in.png --denoise 2",
    min_above_max="upscale in.png --min-denoise 0.9",
    two_sizes="upscale in.png --size 9x9 --long-edge 9",
    size_that_is_none="upscale in.png --size 9by9",
    smaller_than_the_input="upscale in.png --long-edge 9",
    more_than_16_times="upscale dot.png --long-edge 99",
    unknown_sampler="upscale in.png --sampler eulr",
    unknown_scheduler="plan in.png --scheduler karas",
    unknown_mode="upscale in.png --denoise-mode shedule",
    unknown_weights="upscale in.png --weights fether",
    unknown_preset="upscale in.png --preset phot",
    unknown_format="upscale in.png --format gif",
    unknown_extension="upscale in.png -o out.gif",
    unknown_device="upscale in.png --device gpu",
    unknown_field_of_a_name="upscale in.png --name {stm}.png",
    quality_out_of_range="upscale in.png --quality 0",
    overlap_too_large="upscale in.png --overlap 5000",
    adaptive_sampler_and_steps="plan in.png --sampler dpm_adaptive --denoise-mode passes --steps 3",
    adaptive_sampler_and_schedule="upscale in.png --sampler dpm_adaptive",
    no_config="upscale in.png -c absent.yaml",
    config_out_of_range="upscale in.png -c wrong.yaml",
    config_with_an_unknown_name="plan in.png -c unknown.yaml",
    config_that_is_torn="plan in.png -c torn.yaml",
    config_that_is_a_list="plan in.png -c list.yaml",
    no_mask="upscale in.png --mask absent.png",
    mask_and_map="plan in.png --mask mask.png --denoise-map map.png --json",
    mask_that_is_no_picture="upscale in.png --mask notes.txt",
    output_is_the_input="upscale in.png -o in.png --overwrite",
    output_is_the_mask="upscale in.png --mask mask.png -o mask.png",
    many_into_one_file="upscale in.png wide.png -o out.png",
    many_to_standard_output="upscale in.png wide.png -o -",
    json_and_picture_to_standard_output="upscale in.png --json -o -",
    two_inputs_of_one_name="upscale in.png in.jpg -o out -f png",
    inputs_of_one_name_but_for_case=(
        "copy in.png twin/A.png",
        "upscale twin/A.png photos/a.png -o out --dtype float32",
    ),
    budget_out_of_range="plan in.png --budget 2",
    skip_that_is_none="plan in.png --skip-smaller many",
    upscale_flag_of_plan="plan in.png --fail-fast",
)

CONFIG = [
    *_group(
        "config",
        defaults="upscale --print-config",
        preset_hybrid="upscale --print-config --preset hybrid",
        preset_photo="upscale --print-config --preset photo",
        preset_smoke="upscale --print-config --preset smoke",
        preset_subtle="upscale --print-config --preset subtle",
        preset_uniform="upscale --print-config --preset uniform",
        file_over_preset="upscale --print-config --preset smoke -c some.yaml",
        flags_over_file="upscale --print-config -c some.yaml --steps 5 --lora a:0.5 --lora b",
        of_plan="plan --print-config --denoise 0.4",
        of_sd1="plan --print-config -m models/sd1-head.safetensors",
        of_sdxl="plan --print-config -m models/sdxl-head.safetensors",
        of_sd3="plan --print-config -m models/sd3-head.safetensors",
        of_flux="plan --print-config -m models/flux-head.safetensors",
    ),
    Run(
        "config",
        "variables over file",
        ("upscale --print-config -c some.yaml --seed 3",),
        environment={"TILEUP_STEPS": "7", "TILEUP_SEED": "5", "TILEUP_MASK": "m.png"},
    ),
    Run(
        "config",
        "wrong variable",
        ("upscale --print-config",),
        environment={"TILEUP_STEPS": "many"},
    ),
    Run(
        "config",
        "unknown variable",
        ("plan wide.png --json",),
        environment={"TILEUP_STEPZ": "3"},
    ),
    Run(
        "config",
        "model by variable",
        ("plan in.png",),
        environment={"TILEUP_MODEL": "models/sd1-head.safetensors"},
    ),
    Run(
        "config",
        "model by name",
        ("plan in.png -m sdxl-head",),
        environment={"TILEUP_MODELS": "models"},
    ),
]

PLAN = _group(
    "plan",
    small="plan in.png",
    wide="plan wide.png -s 4",
    json="plan wide.png -s 3 --json",
    json_of_photo="plan wide.png --preset photo --json",
    json_of_hybrid="plan wide.png -s 4 --preset hybrid --json",
    json_of_subtle="plan wide.png --preset subtle --json",
    json_of_uniform="plan wide.png --preset uniform --json",
    by_detail="plan wide.png --denoise-by detail --detail-metric variance --json",
    by_area="plan wide.png --denoise-by area --json",
    threshold="plan wide.png --detail-threshold 0.02 --tile 64 --min-tile 16",
    skips="plan wide.png --skip-smaller 20% --skip-below 0.3 --tile 64 --min-tile 16",
    mask="plan wide.png --mask mask.png",
    map="plan wide.png --denoise-map map.png",
    budget="plan wide.png -s 4 --budget 0.6 --tile 64 --min-tile 16",
    one_strength="plan in.png --denoise 0.3",
    windows="plan wide.png -s 4 --window 64 --overlap 8 --batch 2",
    spot="plan wide.png -s 4 --windows spot",
    karras="plan wide.png --scheduler karras --steps 8",
    heun="plan wide.png --sampler heun --steps 4 --denoise-mode sigma",
    passes="plan wide.png --denoise-mode passes",
    heatmap=("plan wide.png --heatmap map2.png", "plan wide.png --heatmap map2.png"),
    heatmap_auto="plan in.png --heatmap auto",
    sd1="plan in.png -m models/sd1-head.safetensors -p boat",
    sd1_json="plan in.png -m models/sd1-head.safetensors --json --cfg 1",
    sd2="plan in.png -m models/sd2-head.safetensors --prediction v",
    sdxl="plan in.png -m models/sdxl-head.safetensors",
    sd3="plan in.png -m models/sd3-head.safetensors",
    flux="plan in.png -m models/flux-head.safetensors --guidance 4",
    words_without_a_reader="plan in.png -p boat --cfg 3 --guidance 2",
    two_inputs="plan in.png wide.png",
    missing="plan absent.png",
    cut="plan cut.png",
    too_many_pixels="plan in.png --max-input-pixels 10",
)

INFO = _group(
    "info",
    png="info in.png",
    told_jpeg="info told.jpg",
    told_png="info told.png",
    deep_tiff="info deep.tif",
    cmyk="info cmyk.jpg",
    alpha="info alpha.png",
    text="info notes.txt",
    empty="info empty.png",
    missing="info absent.png",
    sd1="info models/sd1-head.safetensors",
    sd2="info models/sd2-head.safetensors",
    sdxl="info models/sdxl-head.safetensors",
    refiner="info models/refiner-head.safetensors",
    sd3="info models/sd3-head.safetensors",
    flux="info models/flux-head.safetensors",
    vae="info models/vae-head.safetensors",
    lora="info models/lora.safetensors",
    foreign="info models/foreign-head.safetensors",
    bundled="info tileup-small",
)

MODELS = _group(
    "models",
    unknown_name="upscale in.png -m nonesuch",
    a_picture="upscale in.png -m in.png",
    a_lora="upscale in.png -m models/lora.safetensors",
    a_vae="upscale in.png -m models/vae-head.safetensors",
    pix2pix="upscale in.png -m models/pix2pix-head.safetensors",
    foreign="upscale in.png -m models/foreign-head.safetensors",
    web_page="upscale in.png -m models/page.safetensors",
    pointer="upscale in.png -m models/pointer.safetensors",
    empty="upscale in.png -m models/empty.safetensors",
    gguf="upscale in.png -m models/gguf.gguf",
    shards_missing="upscale in.png -m models/shards.safetensors.index.json",
    undecided="upscale in.png -m models/sd2-head.safetensors",
    wrong_prediction="plan in.png -m models/flux-head.safetensors --prediction eps",
    parts_missing="upscale in.png -m models/flux-head.safetensors",
    control_of_the_bundled="upscale in.png --control x.safetensors",
    lora_of_the_bundled="upscale in.png --lora x.safetensors",
    no_upscaler="upscale in.png --upscaler absent.safetensors",
    missing_lora="upscale in.png -m models/sd1-head.safetensors --lora absent.safetensors",
    missing_control="upscale in.png -m models/sd1-head.safetensors --control absent.safetensors",
)

FORMATS = [
    *_group(
        "formats",
        png=f"upscale in.png grey.png bilevel.png palette.png dot.png -o out/ {KEPT}",
        png_with_alpha=f"upscale alpha.png grey-alpha.png -o out/ {KEPT}",
        png_of_16_bits=f"upscale deep.png deep-grey.png -o out/ {KEPT}",
        jpeg=f"upscale in.jpg cmyk.jpg -o out/ {KEPT}",
        tiff=f"upscale in.tif deep.tif -o out/ {KEPT}",
        tiff_in_cmyk=f"upscale cmyk.tif -o out/ {KEPT}",
        bmp=f"upscale in.bmp -o out/ {KEPT}",
        webp=f"upscale in.webp animated.webp -o out/ {KEPT}",
        jpeg_2000=f"upscale deep.jp2 -o out/ {KEPT}",
        avif=f"upscale ten.avif -o out/ {KEPT}",
        refused=f"upscale lab.tif cut.png empty.png bad.png notes.txt in.png -o out/ {KEPT}",
        alpha_in_jpeg="upscale alpha.png -o out.jpg --denoise 0",
        depth_in_jpeg="upscale deep.png -o out.jpg --denoise 0",
        quality=f"upscale wide.png -o out.jpg --quality 20 {KEPT}",
    ),
    *(
        Run("formats", f"as {format}", (f"upscale {inputs} -o out/ -f {format} {KEPT}",))
        for format, inputs in {
            "png": "deep.tif cmyk.jpg",
            "jpg": "deep.png alpha.png grey.png",
            "webp": "deep.png alpha.png grey.png",
            "tif": "deep.png alpha.png grey.png",
            "avif": "deep.png alpha.png grey.png",
            "jp2": "deep.png alpha.png grey.png",
            "bmp": "deep.png alpha.png grey.png",
        }.items()
    ),
]

TOLD = [
    *(
        Run(
            "told", f"{kind} as {format}", (f"upscale told.{kind} -o out.{format} {KEPT}",), "brief"
        )
        for kind, formats in {"jpg": FORMATS_WRITTEN, "png": ("png", "jpg", "webp")}.items()
        for format in formats
    ),
    Run("told", "exif left out", (f"upscale told.jpg -o out.png --strip-exif {KEPT}",), "brief"),
    Run("told", "no metadata", (f"upscale told.jpg -o out.png --no-metadata {KEPT}",), "brief"),
]

FILES = _group(
    "files",
    beside_the_input=f"upscale in.png {KEPT}",
    words="upscale in.png --denoise 0",
    many_words="upscale in.png --denoise 0 -v",
    odd_scale=f"upscale in.png -s 1.37 {KEPT}",
    exact_size=f"upscale in.png --size 61x47 {KEPT}",
    long_edge=f"upscale in.png --long-edge 99 {KEPT}",
    short_edge=f"upscale in.png --short-edge 51 {KEPT}",
    max_pixels=f"upscale in.png --max-pixels 1000 {KEPT}",
    suffix=f"upscale in.png --suffix _big {KEPT}",
    name=f"upscale in.png --name {{parent}}-{{stem}}-{{seed}}-{{width}}.{{ext}} -o out/ {KEPT}",
    there_already=(f"upscale in.png {KEPT}", f"upscale in.png {KEPT}"),
    overwrite=(f"upscale in.png {KEPT}", f"upscale in.png --overwrite {KEPT}"),
    skip_existing=(f"upscale in.png {KEPT}", f"upscale in.png --skip-existing {KEPT}"),
    several=f"upscale in.png wide.png -o out/ {KEPT}",
    pattern=f"upscale deep*.png -o out/ {KEPT}",
    pattern_without_a_match=f"upscale nope*.png -o out/ {KEPT}",
    folder="upscale photos -o out --denoise 0",
    folder_in_place="upscale photos --denoise 0",
    tree=f"upscale photos -r -o out {KEPT}",
    tree_with_journal="upscale photos -r -o out --denoise 0 --log-file log.txt",
    empty_folder="upscale none",
    resumed=(f"upscale photos -r -o out {KEPT}", "upscale photos -r -o out --denoise 0 --json"),
    resumed_after_a_loss=(
        f"upscale photos -r -o out {KEPT}",
        "rm out/a_2x.png",
        "upscale photos -r -o out --denoise 0 --json",
    ),
    resumed_after_damage=(
        f"upscale photos -r -o out {KEPT}",
        "write out/a_2x.png spoilt",
        "upscale photos -r -o out --denoise 0 --json",
    ),
    resumed_with_other_settings=(
        f"upscale photos -r -o out {KEPT}",
        "upscale photos -r -o out --denoise 0 --seed 2 --json",
        "upscale photos -r -o out --denoise 0 --seed 3 --skip-existing --json",
    ),
    resumed_in_place=("upscale photos --denoise 0 -q", "upscale photos --denoise 0"),
    some_failed=(
        "upscale in.png bad.png absent.png -o out/ --denoise 0 --json",
        "upscale in.png bad.png -o out/ --denoise 0",
        "upscale in.png bad.png -o out/ --denoise 0 --retry-failed",
    ),
    folder_with_a_failure=(
        "write photos/bad.png spoilt",
        "upscale photos -o out --denoise 0",
        "upscale photos -o out --denoise 0",
        "upscale photos -o out --denoise 0 --retry-failed",
    ),
    fail_fast="upscale bad.png in.png -o out/ --denoise 0 --fail-fast --json",
    dry_run="upscale photos -r -o out --dry-run",
    dry_run_again=(f"upscale photos -o out {KEPT}", "upscale photos -r -o out --dry-run"),
    companions=f"upscale in.png wide.png -o out/ --heatmap maps --plan-json plans {KEPT}",
    companions_beside=f"upscale in.png -o out/ --heatmap auto --plan-json auto {KEPT}",
    prompt_files=f"upscale photos -o out --prompt-file {KEPT}",
    in_the_way=("write way text", f"upscale in.png -o way/out.png {KEPT}"),
    log_in_the_way=("write way text", f"upscale in.png --log-file way/log {KEPT}"),
    folder_for_one=f"upscale in.png -o out/ {KEPT}",
    name_without_extension=f"upscale in.png -o out {KEPT}",
    own_output_as_input=(f"upscale in.png {KEPT}", f"upscale in.png in_2x.png -o out/ {KEPT}"),
)  # fmt: skip


def _parts(family: str, *parts: str) -> str:
    flags = [f"--{part} models/{family}-{part.replace('-', '_')}.safetensors" for part in parts]
    return " ".join([f"-m models/{family}-network.safetensors", *flags])


CHECKPOINTS = {
    "sd1": "-m models/sd1.safetensors --prompt-embeds models/words768.safetensors --cfg 3",
    "sd3": "-p boat " + _parts("sd3", "vae", "clip-l", "clip-g"),
    "flux": "--prompt-embeds models/words64.safetensors " + _parts("flux", "vae"),
}
WINDOW = "--window 64 --overlap 16"


def _drawn(name: str, flags: str, picture: str = "deep.png", metadata: str = "") -> Run:
    """A picture of 16 bits: in 8, most samplers round to the same."""
    return Run("drawn", name, (f"upscale {picture} -o out.png {flags} {DRAWN} --json",), metadata)


DRAWING = [
    _drawn("default", "", metadata="full"),
    *(
        _drawn(f"mode {mode}", f"-s 1.5 --denoise-mode {mode}", "wide16.png")
        for mode in ("schedule", "sigma", "passes", "blend", "scale")
    ),
    *(
        _drawn(f"preset {name}", f"--preset {name} --window 48 --overlap 8")
        for name in ("hybrid", "photo", "smoke", "subtle", "uniform")
    ),
    *(
        _drawn(f"sampler {name}", f"--sampler {name} --seed 4")
        for name in ("heun", "dpmpp_2m", "dpmpp_sde", "euler_ancestral", "lms")
    ),
    _drawn("seed", "--seed 1"),
    _drawn("spot", "--windows spot", "wide16.png"),
    _drawn("mask", "--mask mask.png", "wide16.png"),
    _drawn("map", "--denoise-map map.png", "wide16.png"),
    _drawn("color fix", "--color-fix wavelet"),
    _drawn("of 8 bits", "", "in.png"),
    _drawn("alpha", "", "alpha.png"),
    _drawn("grey", "", "grey.png"),
    _drawn("gaussian", f"--weights gaussian {WINDOW}", "wide16.png"),
    _drawn("upscaler", "--upscaler models/compact.safetensors --denoise 0.1"),
    *(
        _drawn(family, f"{flags} {WINDOW}", metadata="brief")
        for family, flags in CHECKPOINTS.items()
    ),
]

RUNS = [*USAGE, *CONFIG, *PLAN, *INFO, *MODELS, *FORMATS, *TOLD, *FILES, *DRAWING]
