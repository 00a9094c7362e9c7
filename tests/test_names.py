"""What the settings name is what the parts provide: a new mode or sampler is in all its tables.

And a module's name tells the module, a class's name the class.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import tileup
from tileup.denoise.rules import RULES
from tileup.families.predictions import WORDS, ZERO_SNR
from tileup.images.color_fix import METHODS as COLOR_FIX_METHODS
from tileup.images.formats import known
from tileup.images.metadata import SAMPLER_NAMES, SCHEDULER_NAMES
from tileup.plan.layings import LAYINGS
from tileup.plan.modes import MODES
from tileup.plan.quadtree import NOISE_FLOOR
from tileup.plan.samplers import SAMPLERS
from tileup.plan.schedules import SCHEDULERS
from tileup.settings.format_names import FORMAT_NAMES
from tileup.settings.values import (
    COLOR_FIXES,
    DENOISE_MODES,
    DETAIL_METRICS,
    FORMATS,
    PREDICTIONS,
    WEIGHTS,
    WINDOWS,
)
from tileup.tiling.profiles import PROFILES


@pytest.mark.parametrize(
    ("named", "provided"),
    [
        (DENOISE_MODES, MODES),
        (DENOISE_MODES, RULES),
        (WINDOWS, LAYINGS),
        (WEIGHTS, PROFILES),
        (SAMPLER_NAMES, SAMPLERS),
        (SCHEDULER_NAMES, SCHEDULERS),
        (COLOR_FIXES, COLOR_FIX_METHODS),
        (DETAIL_METRICS, NOISE_FLOOR),
        (PREDICTIONS, {*WORDS.values(), ZERO_SNR}),
        (FORMATS.values(), (each.name for each in known.FORMATS if each.write)),
    ],
    ids=[
        "modes planned",
        "modes run",
        "windows",
        "weights",
        "samplers",
        "schedulers",
        "colour fixes",
        "detail metrics",
        "predictions",
        "formats",
    ],
)
def test_names_and_tables_agree(named: object, provided: object) -> None:
    assert set(named) == set(provided)  # type: ignore[call-overload]


def test_every_module_of_a_format_is_one_of_the_table() -> None:
    modules = {path.stem for path in Path(known.__file__).parent.glob("*.py")}
    named = {each.title.lower().replace(" ", "") for each in FORMAT_NAMES}
    assert modules == named | {"__init__", "format", "known", "pillow"}
    assert [each.name for each in known.FORMATS] == [each.name for each in FORMAT_NAMES]


def test_a_module_has_its_name_alone() -> None:
    found = Counter(
        path.stem
        for path in Path(tileup.__file__).parent.rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    )
    assert len(found) > 100
    assert {name: count for name, count in found.items() if count > 1} == {}


def test_a_class_has_its_name_alone() -> None:
    """Leading underscores and capitals do not tell two names apart; aliases of types count too."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in Path(tileup.__file__).parent.rglob("*.py"):
        for name in _types(ast.parse(path.read_text())):
            found[name.lstrip("_").lower()].add(path.as_posix())
    assert len(found) > 300
    assert {name: sorted(where) for name, where in found.items() if len(where) > 1} == {}


def _types(module: ast.Module) -> Iterator[str]:
    """Classes wherever they are, and what else of a module is named as a class is."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for node in module.body:
        if isinstance(node, ast.Assign):
            for each in node.targets:
                if isinstance(each, ast.Name) and each.id.lstrip("_")[:1].isupper():
                    yield from [] if each.id.isupper() else [each.id]
