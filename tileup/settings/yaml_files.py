"""Settings in YAML files: presets, the defaults of families, and config files of users."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from tileup.contracts import RawSettings
from tileup.errors import UsageError
from tileup.resources import resource
from tileup.settings.checks import did_you_mean
from tileup.settings.typed import ONE_OF_EACH, checked, takes_text_only
from tileup.settings.values import Settings
from tileup.storage.urls import told_values


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings from one place."""

    origin: str
    """That place, in words."""
    values: RawSettings = field(default_factory=dict[str, object])
    """What it sets."""
    preset: str | None = None
    """The preset that it names."""


def read_config(path: Path) -> Layer:
    """Settings of a YAML file, which may name a preset.

    Raises:
        UsageError: it is missing, unreadable, too large, no YAML, or no mapping.
    """
    origin = f"config {path}"
    content = _mapping(_text(path, origin), origin)
    preset = content.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise UsageError(f"{origin}: preset must be a name, got {preset!r}")
    return Layer(origin, _checked(content, origin), preset)


def _text(path: Path, origin: str) -> str:
    try:
        if path.stat().st_size > 1_000_000:
            raise UsageError(f"{origin}: over 1 MB is not a settings file")
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise UsageError(f"{origin}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{origin}: cannot be read: it is not UTF-8 text") from error


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in (resource("configs") / "presets").glob("*.yaml"))


def read_preset(name: str) -> tuple[str, Layer]:
    """Description and settings of a shipped preset.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in preset_names():
        raise UsageError(f"preset {name!r} is not known{did_you_mean(name, preset_names())}")
    origin = f"preset {name}"
    path = resource("configs") / "presets" / f"{name}.yaml"
    content = _mapping(path.read_text(encoding="utf-8"), origin)
    description = str(content.pop("description", ""))
    return description, Layer(origin, _checked(content, origin))


def read_family(name: str) -> Layer:
    """Default settings of a model family; none when it has no file."""
    origin = f"family {name}"
    path = resource("configs") / "families" / f"{name}.yaml"
    if not path.exists():
        return Layer(origin)
    return Layer(origin, _checked(_mapping(path.read_text(encoding="utf-8"), origin), origin))


def _checked(content: RawSettings, origin: str) -> RawSettings:
    try:
        return checked(content, origin)
    except UsageError as error:
        misread = [value for name, value in content.items() if _misread(name, value)]
        if any(f"got {value!r}" in str(error) for value in misread):
            raise UsageError(f"{error}; in quotes it is text") from error
        raise


def _misread(name: str, value: object) -> bool:
    """Whether YAML made something else of what was meant as text, as false of `no`."""
    return takes_text_only(name.replace("-", "_")) and not isinstance(value, str)


def _mapping(text: str, origin: str) -> dict[str, object]:
    try:
        content: object = yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, RecursionError, ValueError, ArithmeticError) as error:
        raise UsageError(f"{origin}{_told(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{origin}: must be lines of `name: value`")
    return {str(key): value for key, value in cast("dict[object, object]", content).items()}


def _told(error: Exception) -> str:
    """Where the text is wrong and why, in one line."""
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    problem = str(getattr(error, "problem", None) or error)
    if isinstance(error, RecursionError):
        problem = "it is nested too deeply"
    return f"{where}: not valid YAML: {_PLAINLY.get(problem, problem)[:300]}"


_PLAINLY = {
    "found character '\\t' that cannot start any token": "a tab begins the line; use blanks",
    "mapping values are not allowed here": "a second colon; put a value with a colon in quotes",
    "could not find expected ':'": "a line without a colon; write `name: value`",
}
"""What the parser says, as a person would."""


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, whose repetition can fill any memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # pyright: ignore[reportUnknownMemberType]
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(self.construct_object(key, deep=True)) for key, _ in node.value]  # pyright: ignore[reportUnknownArgumentType]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"{twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 1e-3 for text, because it has no point.
_PlainLoader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def to_yaml(settings: Settings) -> str:
    """All settings as YAML that `read_config` takes.

    Of settings that say one thing in different ways, only the one that counts.
    """
    values = told_values(settings.to_dict())
    for first, *others in ONE_OF_EACH:
        if any(values[name] is not None for name in others):
            del values[first]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
