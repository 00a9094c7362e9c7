"""Commands whose parameters are fields of dataclasses: a flag is written where its value lives."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, TypeVar

import typer

from tileup.cli.console import set_up_logging
from tileup.cli.options import Options
from tileup.errors import UsageError
from tileup.settings.setting import NamedFlag, Panel, dashed, flags_of, in_order
from tileup.settings.values import ALIASES, FLAGS

Given = Mapping[str, object]
"""Settings among the flags that were given, by name."""
Asked = TypeVar("Asked", bound=Options)


def with_flags(
    run: Callable[[Asked, Given], int], options: type[Asked], without: tuple[Panel, ...] = ()
) -> Callable[..., int]:
    """A command for Typer, with a parameter for each option and each setting.

    Args:
        run: takes the options, and the settings that were given; returns the exit code. Its
            docstring is the command's help.
        options: a dataclass of flags.
        without: panels whose settings the command does not take.
    """
    asked = flags_of(options)
    settings = [each for each in _settings() if each.flag.panel not in without]

    def command(**values: Any) -> int:  # noqa: ANN401
        own = options(**{each.name: _value(each, values.pop(each.name)) for each in asked})
        set_up_logging(own.verbose, own.quiet, own.log_file)
        given = {name: value for name, value in values.items() if value not in (None, [])}
        for name, value in ({each.name: getattr(own, each.name) for each in asked} | given).items():
            _refuse_empty(name, value)
        return run(own, given)

    command.__name__, command.__doc__ = run.__name__, run.__doc__
    parameters = [_parameter(each, each not in asked) for each in in_order((*asked, *settings))]
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


def _settings() -> tuple[NamedFlag, ...]:
    """All settings, and the names that set several of them."""
    kinds = {each.name: each.hint for each in FLAGS}
    aliases = (
        NamedFlag(name, kinds[alias.targets[0]], None, alias.flag)
        for name, alias in ALIASES.items()
    )
    return (*FLAGS, *aliases)


def _value(flag: NamedFlag, given: Any) -> Any:  # noqa: ANN401
    """What was given for an option, as the type of its field."""
    given = flag.flag.at_home(given)
    return tuple(given or ()) if isinstance(flag.default, tuple) else given


def _refuse_empty(name: str, value: object) -> None:
    """An empty name is a mistake: a shell's unset variable, which would mean the current folder.

    Raises:
        UsageError: names the flag.
    """
    texts: list[object] = [*value] if isinstance(value, list | tuple) else [value]  # pyright: ignore[reportUnknownArgumentType]
    if any(text == "" for text in texts):
        shown = "INPUT" if name == "inputs" else f"--{dashed(name)}"
        raise UsageError(f"{shown} is empty; is a variable of your shell not set?")


def _parameter(flag: NamedFlag, is_setting: bool) -> inspect.Parameter:
    """A parameter as Typer reads it.

    A setting that was not given is None, so that presets, config files and the environment show
    through.
    """
    default = None if is_setting or isinstance(flag.default, tuple) else flag.default
    kind = _kind(flag.hint)
    annotation = Annotated[kind if default is not None else kind | None, _typer(flag)]
    return inspect.Parameter(
        flag.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _kind(hint: Any) -> Any:  # noqa: ANN401
    """The type of a field as one that Typer parses: no None, lists for tuples, text if in doubt."""
    kinds = [each for each in typing.get_args(hint) if each is not types.NoneType]
    if typing.get_origin(hint) is tuple:
        return list[str]
    if str in kinds:
        return str
    return reduce(or_, kinds) if kinds else hint


def _typer(flag: NamedFlag) -> Any:  # noqa: ANN401
    """An argument or an option of Typer."""
    if flag.flag.panel is None:
        return typer.Argument(metavar=flag.flag.metavar, help=flag.help, show_default=False)
    return typer.Option(
        *flag.names,
        metavar=flag.flag.metavar,
        rich_help_panel=flag.flag.panel.value,
        help=flag.help,
        show_default=False,
        count=flag.flag.count,
    )
