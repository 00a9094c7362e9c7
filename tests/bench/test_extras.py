"""What benches say where their packages are missing."""

from __future__ import annotations

import sys

import pytest

from bench.extras import from_extra


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    told = r"^train: .*rapidocr.*\n  Try: pip .*'\.\[train\]'$"
    with pytest.raises(SystemExit, match=told), from_extra("train"):
        import rapidocr  # noqa: F401


def test_what_is_there_is_imported() -> None:
    with from_extra("bench"):
        import numpy
    assert numpy.pi > 3
