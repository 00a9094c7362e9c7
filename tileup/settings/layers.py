"""Settings from their layers: defaults < family < preset < `--config` < environment < flags.

What comes from outside is a mapping of names to values (`RawSettings`); what the program works
with is a complete, checked, frozen `Settings`. `resolve` leads from the one to the other.
"""

from __future__ import annotations

import os
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tileup.contracts import RawSettings
from tileup.errors import UsageError
from tileup.resources import resource
from tileup.settings.checks import did_you_mean, parse_extent
from tileup.settings.setting import dashed
from tileup.settings.values import ALIASES, FLAGS, Settings

ENVIRONMENT = "TILEUP_"
NOT_SETTINGS = frozenset({"TILEUP_MODELS"})
"""Variables with our prefix that are read elsewhere."""

_KINDS: dict[str, tuple[type, ...]] = {
    name: typing.get_args(hint)
    if isinstance(hint, types.UnionType)
    else (typing.get_origin(hint) or hint,)
    for name, hint in ((each.name, each.hint) for each in FLAGS)
}
_EXTENTS = {each.name for each in FLAGS if each.flag.check is parse_extent}


def checked(raw: RawSettings, origin: str) -> dict[str, object]:
    """Settings of one layer, with known names, right types, and aliases expanded.

    Args:
        raw: names (dashes or underscores) to values.
        origin: where they come from, for messages: "preset photo", "TILEUP_SCALE".

    Raises:
        UsageError: a name is unknown or a value has the wrong type; says where and what is near.
    """
    result: dict[str, object] = {}
    exact: set[str] = set()
    for given, value in raw.items():
        name = str(given).replace("-", "_")
        targets = _targets(name)
        if targets[0] not in _KINDS:
            known = [*_KINDS, *ALIASES]
            raise UsageError(f"{origin}: unknown setting {given!r}{did_you_mean(name, known)}")
        if name in exact:
            raise UsageError(f"{origin}: {given} is set twice")
        exact.add(name)
        for target in targets:
            result[target] = _typed(target, value, origin)
    return result


def _targets(name: str) -> tuple[str, ...]:
    """The settings that a name sets."""
    return ALIASES[name].targets if name in ALIASES else (name,)


def _typed(name: str, value: object, origin: str) -> object:
    kinds = _KINDS[name]
    if value is None and types.NoneType in kinds:
        return None
    if isinstance(value, bool):
        if bool in kinds:
            return value
    elif tuple in kinds:
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):  # pyright: ignore[reportUnknownVariableType]
            return tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    elif isinstance(value, int) and float in kinds and int not in kinds:
        return float(value)
    elif isinstance(value, kinds):
        return value
    elif isinstance(value, int) and name in _EXTENTS:
        return str(value)  # YAML reads pixels as a number
    wanted = " or ".join(_WORDS[kind] for kind in kinds if kind is not types.NoneType)
    raise UsageError(f"{origin}: {dashed(name)} must be {wanted}, got {value!r}")


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple: "a list of texts",
}


def from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Settings from variables such as TILEUP_MIN_DENOISE=0.3; an empty one is as if unset."""
    result: dict[str, object] = {}
    for variable, text in sorted(environment.items()):
        if text and variable.startswith(ENVIRONMENT) and variable not in NOT_SETTINGS:
            name = variable.removeprefix(ENVIRONMENT).lower()
            result |= checked({name: _parsed(name, text)}, variable)
    return result


def _parsed(name: str, text: str) -> object:
    """Text as the type that its setting has; left as text where that fails."""
    kinds = _KINDS.get(_targets(name)[0], ())
    if bool in kinds:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.strip().lower(), text
        )
    if tuple in kinds:
        return [each for each in text.split(os.pathsep) if each]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def from_flags(given: Mapping[str, object]) -> dict[str, object]:
    """Settings that were given as flags; aliases first, so that exact names win."""
    names = sorted(given, key=lambda name: name not in ALIASES)
    values = {name: given[name] for name in names}
    return {
        name: _parsed(name, value) if isinstance(value, str) else value
        for name, value in values.items()
    }


def read_config(path: Path) -> dict[str, object]:
    """Settings of a YAML file.

    Raises:
        UsageError: it is missing, unreadable, too large, no YAML, or no mapping.
    """
    try:
        if path.stat().st_size > 1_000_000:
            raise UsageError(f"config {path}: over 1 MB is not a settings file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config {path}: cannot be read ({error})") from error
    return checked(_mapping(text, f"config {path}"), f"config {path}")


def _mapping(text: str, origin: str) -> dict[str, object]:
    try:
        content: object = yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, RecursionError, ValueError, ArithmeticError) as error:
        raise UsageError(f"{origin}: not valid YAML ({str(error)[:300]})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{origin}: must be lines of `name: value`")
    return {str(key): value for key, value in content.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


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


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in (resource("configs") / "presets").glob("*.yaml"))


def read_preset(name: str) -> tuple[str, dict[str, object]]:
    """Description and settings of a shipped preset.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in preset_names():
        raise UsageError(f"preset {name!r} is not known{did_you_mean(name, preset_names())}")
    path = resource("configs") / "presets" / f"{name}.yaml"
    content = _mapping(path.read_text(encoding="utf-8"), f"preset {name}")
    description = str(content.pop("description", ""))
    return description, checked(content, f"preset {name}")


def read_family(name: str) -> dict[str, object]:
    """Default settings of a model family; empty when it has none."""
    path = resource("configs") / "families" / f"{name}.yaml"
    if not path.exists():
        return {}
    return checked(_mapping(path.read_text(encoding="utf-8"), f"family {name}"), f"family {name}")


def merged(*layers: Mapping[str, object]) -> dict[str, object]:
    """Checked layers laid over each other, the last on top.

    A layer that gives one way to size the output (scale, size, long edge, short edge), or to name
    it (name, suffix), takes the place of another way given further down.
    """
    result: dict[str, object] = {}
    for layer in layers:
        for ways in (_SIZES, _NAMES):
            if any(layer.get(name) is not None for name in ways):
                result = {name: value for name, value in result.items() if name not in ways}
        result |= layer
    return result


_SIZES = frozenset({"scale", "size", "long_edge", "short_edge"})
_NAMES = frozenset({"name", "suffix"})


def resolve(
    family: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: RawSettings | None = None,
) -> Settings:
    """Complete settings from all layers, the later named ones on top.

    Args:
        family: model family whose defaults lie at the bottom.
        preset: name of a shipped preset.
        config: YAML file.
        environment: variables, usually `os.environ`; None reads none.
        flags: what the user asked for directly.

    Raises:
        UsageError: a name is unknown, a type is wrong, or values contradict each other.
    """
    return Settings(
        **merged(  # pyright: ignore[reportArgumentType]
            read_family(family) if family else {},
            read_preset(preset)[1] if preset else {},
            read_config(config) if config else {},
            from_environment(environment or {}),
            checked(flags or {}, "settings"),
        )
    )


def to_yaml(settings: Settings) -> str:
    """All settings as YAML that `read_config` takes."""
    return yaml.safe_dump(settings.to_dict(), sort_keys=False, allow_unicode=True)
