"""A family is written in one place: no other module has its name in its code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tileup
from tileup.families.family import Family
from tileup.families.flux import DEV, SCHNELL
from tileup.families.table import FAMILIES, named
from tileup.families.unet import SD1, SD2, SDXL
from tileup.resources import resource

PACKAGE = Path(tileup.__file__).parent
NAMES = {family.name for family in FAMILIES}
TITLES = {each for family in FAMILIES for each in (family.title, family.short)}


def texts(source: str) -> Iterator[str]:
    """The strings of a module that are code and no docstring."""
    tree = ast.parse(source)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield str(node.value)


def named_in(source: str) -> set[str]:
    """Families that a module's code names: whole strings, or titles inside messages."""
    found = {text for text in texts(source) if text in NAMES}
    return found | {title for text in texts(source) for title in TITLES if title in text}


HELP = "settings/for_"
"""Modules where flags are explained to people, who know families by their titles."""
FLAG = "text encoder of SD 2"
"""A part that is called after its family, because nothing else has it."""


def test_no_module_but_those_of_families_names_one() -> None:
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith("families/"):
            continue
        seen += 1
        source = path.read_text().replace(FLAG, "")
        found = named_in(source) - (TITLES if place.startswith(HELP) else set())
        assert not found, f"{place}: {found}"
    assert seen > 80


def test_a_name_outside_is_seen() -> None:
    assert named_in('"""SDXL is named here."""\nx = {"sdxl": 1}') == {"sdxl"}
    assert named_in('f"give a model of SDXL, not {x}"') == {"SDXL"}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_family_has_its_defaults(family: Family) -> None:
    assert (resource("configs") / "families" / f"{family.name}.yaml").is_file()


def test_messages_name_families_once_each() -> None:
    assert len(NAMES) == len(FAMILIES)
    assert named([DEV, SCHNELL]) == "FLUX"
    assert named([SD1]) == "SD 1.x"
    assert named([SD1, SD2, SDXL, DEV], last="and") == "SD 1.x, SD 2.x, SDXL and FLUX"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_other_shapes_are_no_more_work_than_the_square_and_each_is_there_both_ways(
    family: Family,
) -> None:
    """SDXL halves its latents twice: 32 pixels."""
    for height, width in family.shapes:
        assert height * width <= family.window**2
        assert height % 32 == width % 32 == 0
        assert (width, height) in family.shapes
    assert bool(family.shapes) == family.name.startswith("sdxl")
