"""From the flags of a command line to settings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from tileup.errors import UsageError
from tileup.resolving import Resolved, resolve_with_model
from tileup.settings.values import ALIASES, Settings

Given = Mapping[str, object]
"""Parameters of a command by name; None for what was not given."""


def resolved(given: Given) -> Resolved:
    """Settings from all layers, with the user's flags on top.

    Raises:
        UsageError, ModelError: as `resolve_with_model`.
    """
    refuse_empty(given)
    sizes = [name for name in ("size", "long_edge", "short_edge") if given.get(name) is not None]
    if sizes and given.get("scale") is not None:
        raise UsageError(f"--scale and --{sizes[0].replace('_', '-')} both decide the size")
    return resolve_with_model(
        preset=cast("str | None", given["preset"]),
        config=cast("Path | None", given["config"]),
        environment=os.environ,
        flags=settings_given(given),
    )


def refuse_empty(given: Given) -> None:
    """An empty name is a mistake: a shell's unset variable, which would mean the current folder.

    Raises:
        UsageError: names the flag.
    """
    for name, value in given.items():
        texts: list[object] = list(value) if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownArgumentType]
        if any(text == "" for text in texts):
            shown = "INPUT" if name in {"input", "inputs"} else f"--{name.replace('_', '-')}"
            raise UsageError(f"{shown} is empty; is a variable of your shell not set?")


def settings_given(given: Given) -> dict[str, object]:
    """The settings among the flags that were given; aliases first, so that exact names win."""
    names = [*ALIASES, *(field.name for field in dataclasses.fields(Settings))]
    # A flag that can be given several times is an empty list or tuple where it was not.
    found = {name: given[name] for name in names if given.get(name) not in (None, [], ())}
    if "detail_threshold" in found:
        found["detail_threshold"] = _number_or_text(str(found["detail_threshold"]))
    return found


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def config_text(found: Resolved) -> str:
    """All settings as YAML that `--config` takes."""
    import yaml

    body = yaml.safe_dump(found.settings.to_dict(), sort_keys=False, allow_unicode=True)
    return f"# Settings for {found.spec.name} ({found.spec.family}).\n{body}"
