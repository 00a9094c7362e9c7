"""Everything that decides what one picture becomes. Each setting is written once, with its flag,
in the module of its kind; here they are one value, and here others find their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from tileup.settings import for_model, for_output, for_plan, for_size, for_strength
from tileup.settings.checks import did_you_mean, parse_extent, parse_size, parse_weighted
from tileup.settings.for_model import (
    COLOR_FIXES,
    DTYPES,
    LANCZOS,
    PREDICTIONS,
    RUNTIMES,
    ModelSettings,
)
from tileup.settings.for_output import NAME, OutputSettings
from tileup.settings.for_plan import DETAIL_METRICS, PlanSettings
from tileup.settings.for_sampling import WEIGHTS, WINDOWS, SamplingSettings
from tileup.settings.for_size import SizeSettings
from tileup.settings.for_strength import ALIASES, DENOISE_BY, DENOISE_MODES, StrengthSettings
from tileup.settings.for_text import TextSettings
from tileup.settings.format_names import FORMATS
from tileup.settings.setting import check_each, flags_of

__all__ = [
    "ALIASES",
    "COLOR_FIXES",
    "DENOISE_BY",
    "DENOISE_MODES",
    "DETAIL_METRICS",
    "DTYPES",
    "FORMATS",
    "LANCZOS",
    "NAME",
    "PREDICTIONS",
    "RUNTIMES",
    "USUAL",
    "WEIGHTS",
    "WINDOWS",
    "Settings",
    "did_you_mean",
    "parse_extent",
    "parse_size",
    "parse_weighted",
]


@dataclass(frozen=True, slots=True)
class Settings(  # a dataclass takes the fields of its last base first
    OutputSettings,
    ModelSettings,
    TextSettings,
    SamplingSettings,
    PlanSettings,
    StrengthSettings,
    SizeSettings,
):
    """Everything that decides what one picture becomes. Sizes are output pixels."""

    def __post_init__(self) -> None:
        check_each(self, FLAGS)
        for rule in _RULES:
            rule(self)

    def to_dict(self) -> dict[str, object]:
        """Every setting by name, in order; JSON and YAML can hold all values."""
        values = {name: getattr(self, name) for name in _NAMES}  # not asdict, which copies deeply
        return {name: [*each] if isinstance(each, tuple) else each for name, each in values.items()}

    def changed(self) -> dict[str, object]:
        """As `to_dict`, those at their defaults left out: `given` makes the same of it."""
        usual = USUAL.to_dict()
        return {name: each for name, each in self.to_dict().items() if each != usual[name]}

    @staticmethod
    def given(values: Mapping[str, object]) -> Settings:
        """Settings from JSON or YAML that holds what `to_dict` or `changed` gave.

        Raises:
            UsageError: a value is out of range.
            TypeError: a name is unknown.
        """
        pairs = values.items()
        named: dict[str, Any] = {
            name: tuple(cast("list[object]", each)) if isinstance(each, list) else each
            for name, each in pairs
        }
        return Settings(**named)


FLAGS = flags_of(Settings)
"""All settings, in order."""
_NAMES = tuple(each.name for each in dataclasses.fields(Settings))
_RULES = (
    *for_size.RULES,
    *for_strength.RULES,
    *for_plan.RULES,
    *for_model.RULES,
    *for_output.RULES,
)
USUAL = Settings()
"""All settings at their defaults."""
