"""The commands: what they take, and the module that does each one's work.

Those modules are imported when a command runs, and the flags of a command are made when that one
is asked for, so that help and wrong usage answer at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from tileup.engine.standard_output import say

if TYPE_CHECKING:
    from tileup.cli.options import PlanOptions, UpscaleOptions
    from tileup.cli.parameters import Given


class _Commands(TyperGroup):
    """All commands by name; the one that is asked for gets its flags."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401
        name, command, rest = super().resolve_command(ctx, args)
        flagged = _FLAGGED.get(name or "")
        return name, command if flagged is None else _alone(flagged), rest

    def get_help_option(self, ctx: Any) -> Any:  # noqa: ANN401
        """With a value of its own: Typer imports pydantic to read one that has none."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option


@functools.cache
def _alone(flagged: Callable[[], Callable[..., int]]) -> Any:  # noqa: ANN401
    """A command as Typer runs it, made once: each of its flags takes a schema of pydantic's."""
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command()(flagged())
    return typer.main.get_command(alone)


app = typer.Typer(
    name="tileup",
    cls=_Commands,
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


def _upscale_with_flags() -> Callable[..., int]:
    from tileup.cli.options import UpscaleOptions
    from tileup.cli.parameters import with_flags

    return with_flags(upscale, UpscaleOptions)


def _plan_with_flags() -> Callable[..., int]:
    from tileup.cli.options import PlanOptions
    from tileup.cli.parameters import with_flags
    from tileup.settings.setting import Panel

    return with_flags(plan, PlanOptions, without=(Panel.OUTPUT,))


_FLAGGED = {"upscale": _upscale_with_flags, "plan": _plan_with_flags}
"""Commands whose flags are settings, and what gives them those."""
# Help lists them by these; whoever asks for one gets another, see `_Commands`.
app.command("upscale", help=upscale.__doc__)(lambda: None)
app.command("plan", help=plan.__doc__)(lambda: None)


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
    redraw: Annotated[
        str | None,
        typer.Option(
            "--redraw",
            metavar="N%",
            help="Draw so many of the pictures, taken by chance, again, and compare.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON per picture.")] = False,
) -> None:
    """Check that finished pictures still are what was made."""
    from tileup.cli.verify_command import verify_command

    raise typer.Exit(verify_command(folder, redraw, json))


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
