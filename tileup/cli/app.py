"""The commands: what they take, and the module that does each one's work.

Those modules are imported when a command runs, so that help and wrong usage answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tileup.cli import options as o

app = typer.Typer(
    name="tileup",
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        from tileup import __version__

        typer.echo(f"tileup {__version__}")
        raise typer.Exit


@app.callback()
def tileup(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Enlarge pictures with a diffusion model, and redraw them where they have detail.

    Every region gets a strength of its own: flat ones are kept, detailed ones are redrawn.
    """


@app.command()
def upscale(
    ctx: typer.Context,
    inputs: o.Inputs = None,
    output: o.Output = None,
    recursive: o.Recursive = False,
    name: o.Name = None,
    suffix: o.Suffix = None,
    format: o.Format = None,
    quality: o.Quality = None,
    overwrite: o.Overwrite = False,
    skip_existing: o.SkipExisting = False,
    retry_failed: o.RetryFailed = False,
    fail_fast: o.FailFast = False,
    dry_run: o.DryRun = False,
    metadata: o.MetadataFlag = None,
    strip_exif: o.StripExif = None,
    heatmap: o.Heatmap = None,
    plan_json: o.PlanJson = None,
    scale: o.Scale = None,
    size: o.Size = None,
    long_edge: o.LongEdge = None,
    short_edge: o.ShortEdge = None,
    max_pixels: o.MaxPixels = None,
    min_denoise: o.MinDenoise = None,
    max_denoise: o.MaxDenoise = None,
    denoise: o.Denoise = None,
    denoise_mode: o.DenoiseMode = None,
    denoise_by: o.DenoiseBy = None,
    mask: o.Mask = None,
    denoise_map: o.DenoiseMap = None,
    skip_smaller: o.SkipSmaller = None,
    skip_larger: o.SkipLarger = None,
    skip_below: o.SkipBelow = None,
    min_scale: o.MinScale = None,
    scale_range: o.ScaleRange = None,
    ramp: o.Ramp = None,
    tile: o.Tile = None,
    min_tile: o.MinTile = None,
    detail_threshold: o.DetailThreshold = None,
    detail_metric: o.DetailMetric = None,
    budget: o.Budget = None,
    steps: o.Steps = None,
    sampler: o.Sampler = None,
    scheduler: o.Scheduler = None,
    prompt: o.Prompt = None,
    negative: o.Negative = None,
    cfg: o.Cfg = None,
    guidance: o.Guidance = None,
    prompt_file: o.PromptFile = None,
    prompt_embeds: o.PromptEmbeds = None,
    seed: o.Seed = None,
    eta: o.Eta = None,
    s_noise: o.SNoise = None,
    s_churn: o.SChurn = None,
    window: o.Window = None,
    windows: o.Windows = None,
    overlap: o.Overlap = None,
    weights: o.Weights = None,
    batch: o.Batch = None,
    model: o.Model = None,
    prediction: o.Prediction = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    threads: o.Threads = None,
    low_memory: o.LowMemory = None,
    vae_tile: o.VaeTile = None,
    vae: o.Vae = None,
    clip_l: o.ClipL = None,
    clip_g: o.ClipG = None,
    t5: o.T5 = None,
    tokenizer: o.Tokenizer = None,
    control: o.Control = None,
    control_scale: o.ControlScale = None,
    control_end: o.ControlEnd = None,
    lora: o.Lora = None,
    upscaler: o.Upscaler = None,
    color_fix: o.ColorFix = None,
    preset: o.Preset = None,
    config: o.Config = None,
    print_config: o.PrintConfig = False,
    max_input_pixels: o.MaxInputPixels = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
    no_progress: o.NoProgress = False,
    log_file: o.LogFile = None,
) -> None:
    """Enlarge pictures.

    [bold]tileup upscale in.png[/bold] makes in_2x.png beside it. Pictures of a folder that are
    finished already are skipped, so an interrupted run can simply be started again.
    """
    from tileup.cli.console import set_up_logging
    from tileup.cli.upscaling import upscale_command

    set_up_logging(verbose, quiet, log_file)
    raise typer.Exit(upscale_command(ctx.params))


@app.command()
def plan(
    ctx: typer.Context,
    input: o.Input = None,
    heatmap: o.Heatmap = None,
    overwrite: o.Overwrite = False,
    scale: o.Scale = None,
    size: o.Size = None,
    long_edge: o.LongEdge = None,
    short_edge: o.ShortEdge = None,
    max_pixels: o.MaxPixels = None,
    min_denoise: o.MinDenoise = None,
    max_denoise: o.MaxDenoise = None,
    denoise: o.Denoise = None,
    denoise_mode: o.DenoiseMode = None,
    denoise_by: o.DenoiseBy = None,
    mask: o.Mask = None,
    denoise_map: o.DenoiseMap = None,
    skip_smaller: o.SkipSmaller = None,
    skip_larger: o.SkipLarger = None,
    skip_below: o.SkipBelow = None,
    min_scale: o.MinScale = None,
    scale_range: o.ScaleRange = None,
    ramp: o.Ramp = None,
    tile: o.Tile = None,
    min_tile: o.MinTile = None,
    detail_threshold: o.DetailThreshold = None,
    detail_metric: o.DetailMetric = None,
    budget: o.Budget = None,
    steps: o.Steps = None,
    sampler: o.Sampler = None,
    scheduler: o.Scheduler = None,
    prompt: o.Prompt = None,
    negative: o.Negative = None,
    cfg: o.Cfg = None,
    guidance: o.Guidance = None,
    prompt_file: o.PromptFile = None,
    prompt_embeds: o.PromptEmbeds = None,
    seed: o.Seed = None,
    eta: o.Eta = None,
    s_noise: o.SNoise = None,
    s_churn: o.SChurn = None,
    window: o.Window = None,
    windows: o.Windows = None,
    overlap: o.Overlap = None,
    weights: o.Weights = None,
    batch: o.Batch = None,
    model: o.Model = None,
    prediction: o.Prediction = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    threads: o.Threads = None,
    low_memory: o.LowMemory = None,
    vae_tile: o.VaeTile = None,
    vae: o.Vae = None,
    clip_l: o.ClipL = None,
    clip_g: o.ClipG = None,
    t5: o.T5 = None,
    tokenizer: o.Tokenizer = None,
    control: o.Control = None,
    control_scale: o.ControlScale = None,
    control_end: o.ControlEnd = None,
    lora: o.Lora = None,
    upscaler: o.Upscaler = None,
    color_fix: o.ColorFix = None,
    preset: o.Preset = None,
    config: o.Config = None,
    print_config: o.PrintConfig = False,
    max_input_pixels: o.MaxInputPixels = None,
    json: o.PlanAsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
    log_file: o.LogFile = None,
) -> None:
    """Show what would be done to a picture and what it would cost. Loads no model."""
    from tileup.cli.console import set_up_logging
    from tileup.cli.planning import plan_command

    set_up_logging(verbose, quiet, log_file)
    plan_command(ctx.params)


@app.command()
def info(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A picture or a checkpoint.")],
) -> None:
    """Show what a picture or a checkpoint says about itself."""
    from tileup.cli.info import show_info

    show_info(file)


@app.command()
def presets() -> None:
    """List the presets and what they are for."""
    from tileup.cli.listing import list_presets

    list_presets()


@app.command()
def devices() -> None:
    """List what a model can run on."""
    from tileup.cli.listing import list_devices

    list_devices()
