"""The commands: what they take, and the module that does each one's work.

Those modules are imported when a command runs, so that help and wrong usage answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tileup.cli.options import PlanOptions, UpscaleOptions
from tileup.cli.signatures import Given, with_flags
from tileup.engine.standard_output import say
from tileup.settings.setting import Panel

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

        say(f"tileup {__version__}")
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


def upscale(options: UpscaleOptions, given: Given) -> int:
    """Enlarge pictures.

    [bold]tileup upscale in.png[/bold] makes in_2x.png beside it. Pictures of a folder that are
    finished already are skipped, so an interrupted run can simply be started again.
    """
    from tileup.cli.upscale_command import upscale_command

    return upscale_command(options, given)


def plan(options: PlanOptions, given: Given) -> int:
    """Show what would be done to pictures and what it would cost. Loads no model.

    Of one picture, its strengths; of several, a line each and what all of them cost.
    """
    from tileup.cli.plan_command import plan_command

    return plan_command(options, given)


app.command()(with_flags(upscale, UpscaleOptions))
app.command()(with_flags(plan, PlanOptions, without=(Panel.OUTPUT,)))


@app.command()
def info(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A picture or a checkpoint.")],
    json: Annotated[bool, typer.Option("--json", help="As one object of JSON.")] = False,
) -> None:
    """Show what a picture or a checkpoint says about itself."""
    from tileup.cli.info_command import show_info

    show_info(file, json)


@app.command()
def verify(
    folder: Annotated[
        str, typer.Argument(metavar="OUT", help="A folder that pictures were made into.")
    ],
    json: Annotated[bool, typer.Option("--json", help="One line of JSON per picture.")] = False,
) -> None:
    """Check that finished pictures still are what was made."""
    from tileup.cli.verify_command import verify_command

    raise typer.Exit(verify_command(folder, json))


@app.command()
def presets() -> None:
    """List the presets and what they are for."""
    from tileup.cli.list_commands import list_presets

    list_presets()


@app.command()
def devices() -> None:
    """List what a model can run on."""
    from tileup.cli.list_commands import list_devices

    list_devices()
