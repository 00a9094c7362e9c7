"""Settings from their layers, the later ones on top: defaults < family < preset < config <
environment < flags.

What comes from outside is a mapping of names to values (`RawSettings`); what the program works
with is a complete, checked, frozen `Settings`. `resolve` leads from the one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tileup.contracts import RawSettings
from tileup.settings.typed import ASKED, ONE_OF_EACH, checked, parsed
from tileup.settings.values import Settings
from tileup.settings.yaml_files import Layer, read_config, read_family, read_preset

ENVIRONMENT = "TILEUP_"
PRESET, CONFIG = "TILEUP_PRESET", "TILEUP_CONFIG"
NOT_SETTINGS = frozenset({"TILEUP_MODELS", PRESET, CONFIG})
"""Variables with our prefix that are no settings."""


def layered(
    family: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: RawSettings | None = None,
    habits: Path | None = None,
) -> tuple[Layer, ...]:
    """All layers, each over the ones before it.

    Args:
        family: model family whose defaults lie at the bottom.
        preset: name of a shipped preset; else the one of TILEUP_PRESET, of the config file, or of
            the habits, in this order.
        config: YAML file; else the one of TILEUP_CONFIG.
        environment: variables, usually `os.environ`; None reads none.
        flags: what the user asked for directly.
        habits: YAML file of what a user always wants, which lies below a preset that it does not
            name itself; None reads none.

    Raises:
        UsageError: a file cannot be read, a name is unknown, or a type is wrong.
    """
    variables = environment or {}
    always = read_config(habits) if habits else Layer("habits")
    if config is None and variables.get(CONFIG):
        config = Path(variables[CONFIG])
    file = read_config(config) if config else Layer("config")
    chosen = preset or variables.get(PRESET) or file.preset
    return (
        read_family(family) if family else Layer("family"),
        *_preset(None if chosen else always.preset),
        always,
        *_preset(chosen),
        file,
        Layer("environment", from_environment(variables)),
        Layer(ASKED, checked(flags or {}, ASKED)),
    )


def _preset(name: str | None) -> tuple[Layer, ...]:
    return () if name is None else (read_preset(name)[1],)


def from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Settings from variables such as TILEUP_MIN_DENOISE=0.3; an empty one is as if unset.

    Raises:
        UsageError: names the variable.
    """
    result: dict[str, object] = {}
    for variable, text in sorted(environment.items()):
        if text and variable.startswith(ENVIRONMENT) and variable not in NOT_SETTINGS:
            name = variable.removeprefix(ENVIRONMENT).lower()
            result |= checked({name: parsed(name, text)}, variable)
    return result


def from_flags(given: Mapping[str, object]) -> dict[str, object]:
    """Settings that were given as flags, text as the types that they have."""
    return {
        name: parsed(name, value) if isinstance(value, str) else value
        for name, value in given.items()
    }


def merged(*layers: Mapping[str, object]) -> dict[str, Any]:
    """Checked layers laid over each other, the last on top.

    A layer that gives one way to size the output (scale, size, long edge, short edge), or to name
    it (name, suffix), takes the place of another way given further down.
    """
    result: dict[str, object] = {}
    for layer in layers:
        for ways in ONE_OF_EACH:
            if any(layer.get(name) is not None for name in ways):
                result = {name: value for name, value in result.items() if name not in ways}
        result |= layer
    return result


def settings_of(layers: Sequence[Layer]) -> Settings:
    """Complete settings.

    One weak strength everywhere takes no more steps than its share of the family's, unless a
    layer above the family says how many.

    Raises:
        UsageError: a value is out of range, or values contradict each other.
    """
    family, *asked = [layer.values for layer in layers]
    settings = Settings(**merged(family, *asked))
    if any("steps" in each for each in asked) or not _uniform(settings):
        return settings
    share = settings.max_denoise / Settings(**merged(family)).max_denoise
    steps = max(FEWEST, math.ceil(settings.steps * share - 1e-9))
    return replace(settings, steps=min(settings.steps, steps))


FEWEST = 2
"""Steps of a weak strength everywhere, where nobody says how many. With one the bundled model loses
0.09 dB at 0.2, with two nothing: 13 of the held-out pictures, cut to 256 pixels."""


def _uniform(settings: Settings) -> bool:
    """Whether every tile has one strength, and is drawn at all."""
    return 0 < settings.min_denoise == settings.max_denoise and settings.denoise_map is None


def notes_on(layers: Sequence[Layer]) -> Iterator[str]:
    """What a user may not have meant, in whole sentences."""
    for number, layer in enumerate(layers):
        for above in layers[number + 1 :]:
            hidden = layer.values.keys() <= above.values.keys()
            if hidden and layer.origin.startswith("preset") and above.origin.startswith("config"):
                yield f"{layer.origin} has no effect: {above.origin} sets all that it sets."
    settings = Settings(**merged(*(layer.values for layer in layers)))
    if _uniform(settings) and _from(layers, "min_denoise") != _from(layers, "max_denoise"):
        yield f"min-denoise equals max-denoise: every tile has strength {settings.max_denoise:g}."


def _from(layers: Sequence[Layer], name: str) -> int:
    """Which layer a setting comes from; -1: none sets it."""
    return max((i for i, each in enumerate(layers) if name in each.values), default=-1)


def resolve(
    family: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: RawSettings | None = None,
    habits: Path | None = None,
) -> Settings:
    """Complete settings from all layers; arguments and errors as `layered` and `settings_of`."""
    return settings_of(layered(family, preset, config, environment, flags, habits))
