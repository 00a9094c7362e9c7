"""One setting, written once: its default, its flag, what it must be, and the words of its help."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

Check = Callable[[str, Any], object]
"""Called with a name for messages and a value; raises UsageError where the value cannot be."""

T = TypeVar("T")


class Panel(Enum):
    """Headings of the help, in the order in which they stand there."""

    OUTPUT = "Output"
    SIZE = "Size"
    STRENGTH = "Strength (how much is redrawn)"
    PLAN = "Plan"
    SAMPLING = "Sampling"
    TEXT = "Text (for models that take it)"
    MODEL = "Model and device"
    PARTS = "Parts of a model, and what is added to it"
    SETTINGS = "Settings"
    WORDS = "What is shown"


TOP = "(top)"


@dataclass(frozen=True, slots=True)
class Flag:
    """How a value is given on a command line."""

    panel: Panel | None
    """Heading it stands under; None: it is no flag but what the command is about."""
    metavar: str
    """What stands for its value; empty for a switch."""
    help: str
    """What it does; `{default}` stands for the default."""
    names: str = ""
    """Its spellings, apart by blanks; empty: two dashes and the setting's name."""
    behind: str = ""
    """Which one it follows in the help, TOP: none; empty: the one written before it."""
    loading: bool = False
    """Whether it counts when a model is loaded, and not afterwards."""
    count: bool = False
    """Whether it can be repeated for more of the same."""
    check: Check | None = None
    """What its value must be; None values are not looked at."""

    @property
    def is_place(self) -> bool:
        """Whether its value is the place of a file, or may be."""
        return any(word in self.metavar for word in ("FILE", "PATH", "INPUT"))

    def at_home(self, value: Any) -> Any:  # noqa: ANN401
        """A value with the home folder for a `~` that no shell has replaced.

        None does behind `--flag=`, and none reads config files. What is there under that very
        name is meant itself.
        """
        if isinstance(value, list | tuple):
            return type(value)(map(self.at_home, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        if not self.is_place or not str(value).startswith("~") or os.path.lexists(value):
            return value
        return type(value)(os.path.expanduser(value))  # noqa: PTH111  Text stays text.


def setting(
    default: T,
    panel: Panel | None,
    metavar: str,
    help: str,
    check: Check | None = None,
    **more: Any,  # noqa: ANN401
) -> T:
    """A field of a dataclass that can be given on a command line.

    Args:
        default: its value where nobody says anything.
        panel, metavar, help, check: as in `Flag`.
        **more: other fields of `Flag`.
    """
    flag = Flag(panel, metavar, help, check=check, **more)
    return field(default=default, metadata={_FLAG: flag})  # pyright: ignore[reportReturnType]


_FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that sets several settings at once."""

    targets: tuple[str, ...]
    """Those settings, all of one type."""
    flag: Flag


@dataclass(frozen=True, slots=True)
class NamedFlag:
    """A flag, and the field that it is of."""

    name: str
    hint: Any
    """Type of the field."""
    default: Any
    flag: Flag

    @property
    def names(self) -> list[str]:
        """Its spellings."""
        return (self.flag.names or f"--{dashed(self.name)}").split()

    @property
    def help(self) -> str:
        """What it does, with its default."""
        shown = f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
        return self.flag.help.replace("{default}", shown)


def flags_of(values: type[Any]) -> tuple[NamedFlag, ...]:
    """The fields of a dataclass that are flags, in order."""
    hints = typing.get_type_hints(values)
    return tuple(
        NamedFlag(each.name, hints[each.name], each.default, each.metadata[_FLAG])
        for each in dataclasses.fields(values)
        if _FLAG in each.metadata
    )


def check_each(values: object, flags: tuple[NamedFlag, ...]) -> None:
    """Check every value that is not None.

    Raises:
        UsageError: the first that cannot be.
    """
    for each in flags:
        value = getattr(values, each.name)
        if each.flag.check is not None and value is not None:
            each.flag.check(dashed(each.name), value)


def dashed(name: str) -> str:
    """A setting's name as people write it."""
    return name.replace("_", "-")


def in_order(flags: tuple[NamedFlag, ...]) -> list[NamedFlag]:
    """Flags as help lists them: by panel, each behind the one it names or was written after."""
    followers = _followers(flags)

    def chain(name: str) -> list[NamedFlag]:
        return [one for each in followers.get(name, ()) for one in (each, *chain(each.name))]

    panels = [None, *Panel]
    return sorted(chain(TOP), key=lambda each: panels.index(each.flag.panel))


def _followers(flags: tuple[NamedFlag, ...]) -> Mapping[str, list[NamedFlag]]:
    """What comes directly behind each flag; behind TOP, the first of each panel."""
    found: dict[str, list[NamedFlag]] = {}
    last: dict[Panel | None, str] = {}
    names = {TOP, *(each.name for each in flags)}
    for each in flags:
        panel, wanted = each.flag.panel, each.flag.behind
        if wanted in names:
            found.setdefault(wanted, []).insert(0, each)
        else:
            found.setdefault(last.get(panel, TOP), []).append(each)
        last[panel] = each.name
    return found
