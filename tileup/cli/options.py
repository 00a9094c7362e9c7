"""What a command is asked beside settings: inputs, where results go, and what is shown.

Each is written once, as settings are: a field with its flag.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tileup.engine.engine import ENGINES
from tileup.settings.setting import TOP, Panel, setting
from tileup.wording import listed


@dataclass(frozen=True, slots=True)
class Options:
    """What all commands that take settings are asked."""

    heatmap: str | None = setting(
        None,
        Panel.OUTPUT,
        "PATH|auto",
        "A picture of the strengths; auto for beside the output, a folder for those of many.",
        behind="strip_exif",
    )
    overwrite: bool = setting(
        False,
        Panel.OUTPUT,
        "",
        "Replace files that are there already.",
        behind="quality",
    )
    preset: str | None = setting(None, Panel.SETTINGS, "NAME", "See tileup presets.")
    config: Path | None = setting(
        None,
        Panel.SETTINGS,
        "FILE",
        "YAML with lines such as `max-denoise: 0.6`. Flags win over TILEUP_* variables, "
        "those over this file, and this file over the preset.",
        names="--config -c",
    )
    print_config: bool = setting(
        False, Panel.SETTINGS, "", "Print all settings as YAML for --config, and stop."
    )
    json: bool = setting(
        False, Panel.WORDS, "", "Each plan and its cost as a line of JSON on standard output."
    )
    quiet: bool = setting(False, Panel.WORDS, "", "Nothing but errors.", names="--quiet -q")
    verbose: int = setting(
        0,
        Panel.WORDS,
        "",
        "More words; -vv shows where errors come from.",
        names="--verbose -v",
        count=True,
    )
    log_file: Path | None = setting(None, Panel.WORDS, "FILE", "Append everything to this file.")


@dataclass(frozen=True, slots=True)
class PlanOptions(Options):
    """What `tileup plan` is asked."""

    inputs: tuple[str, ...] = setting(
        (),
        None,
        "INPUT",
        "Pictures, folders, patterns such as 'shots/*.jpg', URLs, or - for standard input.",
    )
    recursive: bool = setting(
        False, Panel.OUTPUT, "", "Folders below too.", names="--recursive -r", behind=TOP
    )


@dataclass(frozen=True, slots=True)
class UpscaleOptions(Options):
    """What `tileup upscale` is asked."""

    inputs: tuple[str, ...] = setting(
        (),
        None,
        "INPUT",
        "Pictures, folders, patterns such as 'shots/*.jpg', URLs, or - for standard input.",
    )
    output: str | None = setting(
        None,
        Panel.OUTPUT,
        "PATH",
        "A file, a folder, or - for standard output. Without it: beside the input.",
        names="--output -o",
        behind=TOP,
    )
    recursive: bool = setting(
        False,
        Panel.OUTPUT,
        "",
        "Folders below too, mirrored under -o.",
        names="--recursive -r",
    )
    skip_existing: bool = setting(
        False,
        Panel.OUTPUT,
        "",
        "Count as done whatever is there, even when it is unreadable or made with other settings.",
        behind="overwrite",
    )
    retry_failed: bool = setting(False, Panel.OUTPUT, "", "Try again what is on record as failed.")
    shard: str | None = setting(
        None,
        Panel.OUTPUT,
        "K/N",
        "Only the K-th of N shares of the pictures, for as many machines or jobs.",
    )
    workers: int | None = setting(
        None,
        Panel.OUTPUT,
        "N",
        "Pictures drawn at once, each in a process with a model of its own: for several GPUs, or "
        "many cores (default: 1). A large picture alone is shared by all. --threads is for each.",
    )
    engine: str = setting(
        "local", Panel.OUTPUT, "NAME", f"Where pictures are drawn: {listed([*ENGINES], 'or')}."
    )
    address: str | None = setting(
        None, Panel.OUTPUT, "HOST:PORT|auto", "The Ray cluster (default: one of its own, here)."
    )
    gpus_per_worker: float | None = setting(
        None, Panel.OUTPUT, "N", "GPUs of the cluster for each worker, such as 0.5 (default: 1)."
    )
    fail_fast: bool = setting(False, Panel.OUTPUT, "", "Stop at the first failure.")
    dry_run: bool = setting(False, Panel.OUTPUT, "", "Say what would be made, and make nothing.")
    plan_json: str | None = setting(
        None,
        Panel.OUTPUT,
        "PATH|auto",
        "The tiles and their cost as JSON; a folder for many.",
        behind="heatmap",
    )
    json: bool = setting(False, Panel.WORDS, "", "One line of JSON per picture on standard output.")
    no_progress: bool = setting(False, Panel.WORDS, "", "No progress bar.", behind="verbose")
