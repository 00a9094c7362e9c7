"""The model families that tileup can load, each with how to tell it and what planning needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol, cast

from tileup.contracts import ModelSpec
from tileup.errors import ModelError
from tileup.plan.levels import TableLevels


class Family(Protocol):
    """One model family."""

    @property
    def name(self) -> str: ...

    def matches(self, tensors: Mapping[str, object], metadata: Mapping[str, str]) -> bool:
        """Whether a file with these tensors and this metadata is of the family."""
        ...

    def spec(self, name: str, metadata: Mapping[str, str]) -> ModelSpec:
        """What planning needs to know.

        Raises:
            ModelError: the header lacks something.
        """
        ...


class BundledFamily:
    """Checkpoints of our own: everything about them is in their header."""

    name = "bundled"
    needed = frozenset({"enter.weight", "leave.weight", "embed.mix.0.weight"})

    def matches(self, tensors: Mapping[str, object], metadata: Mapping[str, str]) -> bool:
        return self.needed <= tensors.keys() and "tileup" in metadata

    def spec(self, name: str, metadata: Mapping[str, str]) -> ModelSpec:
        header = parse_header(metadata, name)
        try:
            return ModelSpec(
                name=name,
                family=self.name,
                prediction="x0",
                stride=integer(header["stride"]),
                channels=3 * integer(header["stride"]) ** 2,
                window=integer(header["window"]),
                multiple=integer(header["multiple"]),
                levels=TableLevels(_numbers(header["denoise"]), _numbers(header["sigma"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"model {name}: its header is wrong ({error})") from error


def parse_header(metadata: Mapping[str, str], name: str) -> dict[str, object]:
    """The JSON object that a bundled checkpoint carries.

    Raises:
        ModelError: it is no JSON object.
    """
    try:
        header: object = json.loads(metadata["tileup"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"model {name}: its header does not parse") from error
    if not isinstance(header, dict):
        raise ModelError(f"model {name}: its header is not a JSON object")
    return cast(dict[str, object], header)


def integer(value: object) -> int:
    """A whole number above 0 from JSON.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} should be a whole number above 0")
    return value


def integers(value: object) -> tuple[int, ...]:
    """Whole numbers above 0 from a JSON list.

    Raises:
        TypeError, ValueError: it is no list of them.
    """
    if not isinstance(value, list):
        raise TypeError(f"{value!r} should be a list of whole numbers")
    return tuple(integer(each) for each in cast(list[object], value))


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} should be a list of numbers")
    return tuple(float(each) for each in cast(list[float], value))


FAMILIES: tuple[Family, ...] = (BundledFamily(),)
"""Tried in this order; the first that matches counts."""
