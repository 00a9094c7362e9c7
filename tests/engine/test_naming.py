"""Names of outputs: filled in, read backwards, sorted, and seeds from them."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from tileup.engine.naming import fields_of, file_name, natural, seed_of, template_of
from tileup.errors import UsageError
from tileup.settings.values import Settings

VALUES = {"stem": "a", "scale": "1.5", "ext": "JPG", "parent": "p", "seed": "7"}


def test_fields_are_filled_in() -> None:
    assert file_name("{stem}_{scale}x.{ext}", VALUES) == "a_1.5x.JPG"
    assert file_name("{{{parent}}}-{stem}-{stem}.png", VALUES) == "{p}-a-a.png"
    assert fields_of("{stem}_{scale}x.{ext}{{}}") == {"stem", "scale", "ext"}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{stm}.png", "unknown field {stm}; did you mean 'stem'"),
        ("{}.png", "unknown field {}"),
        ("{0}.png", "unknown field {0}"),
        ("{stem.upper}.png", "unknown field {stem.upper}"),
        ("{stem[0]}.png", r"unknown field {stem\[0\]}"),
        ("{stem!r}.png", "takes no format"),
        ("{scale:.2f}.png", "takes no format"),
        ("{stem.png", "unpaired braces"),
        ("stem}.png", "unpaired braces"),
    ],
)
def test_templates_that_cannot_be_are_refused(template: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fields_of(template)


@pytest.mark.parametrize("template", ["", "..", "{stem}/x.png", "/abs.png", "x/", "a\0b", " "])
def test_a_template_gives_a_file_name_and_no_path(template: str) -> None:
    with pytest.raises(UsageError, match="not a file name"):
        file_name(template, VALUES)


@pytest.mark.parametrize(
    ("wish", "template"),
    [
        ({}, "{stem}_{scale}x.{ext}"),
        ({"scale": 3.5, "max_pixels": 99}, "{stem}_{scale}x.{ext}"),
        ({"long_edge": 301}, "{stem}_301px.{ext}"),
        ({"short_edge": 301}, "{stem}_301px.{ext}"),
        ({"size": "1920X1080"}, "{stem}_1920x1080.{ext}"),
        ({"long_edge": 301, "suffix": "_up"}, "{stem}_up.{ext}"),
        ({"long_edge": 301, "name": "{scale}.{ext}"}, "{scale}.{ext}"),
    ],
)
def test_a_size_stands_in_the_name_as_it_was_asked_for(
    wish: dict[str, object], template: str
) -> None:
    assert template_of(Settings(**wish)) == template  # type: ignore[arg-type]


def test_seeds_depend_on_seed_and_path_and_on_nothing_else() -> None:
    assert seed_of(0, "a/b.png") == 3125183850204526715
    seeds = {seed_of(seed, path) for seed in (0, 1) for path in ("a.png", "b.png", "a/b.png")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(0, "e\u0301.png") == seed_of(0, "\u00e9.png"), "one name, two spellings"


def test_natural_order() -> None:
    names = ["a10.png", "a2.png", "b/1.png", "A3.png", "a02.png", "10.png", "9.png"]
    assert sorted(names, key=lambda name: natural(PurePath(name))) == [
        "9.png",
        "10.png",
        "a02.png",
        "a2.png",
        "A3.png",
        "a10.png",
        "b/1.png",
    ]
