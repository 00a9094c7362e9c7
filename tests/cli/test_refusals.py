"""Flags that cannot be meant, refused before any work."""

from __future__ import annotations

import pytest

from tileup.cli.main import main
from tileup.errors import ExitCode


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["upscale", ""], "INPUT is empty"),
        (["plan", ""], "INPUT is empty"),
        (["upscale", "a.png", "-o", ""], "--output is empty"),
        (["upscale", "a.png", "-m", ""], "--model is empty"),
        (["upscale", "a.png", "--mask", ""], "--mask is empty"),
        (["upscale", "a.png", "-s", "2", "--size", "9x9"], "--scale and --size both decide"),
        (["upscale", "a.png", "-s", "2", "--long-edge", "9"], "--scale and --long-edge both"),
        (["upscale", "a.png", "--detail-threshold", "inf"], "must be a number from 0"),
        (["upscale", "a.png", "--detail-threshold", "nan"], "must be a number from 0"),
    ],
    ids=str,
)
def test_refused_with_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.out == ""
    assert "Traceback" not in shown.err
