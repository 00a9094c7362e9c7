"""Flags that cannot be meant, refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command, save
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


@pytest.mark.parametrize("name", ["-dash.png", "-pretty.png", "--scale.png"])
def test_a_file_named_like_a_flag_is_not_read_as_one(
    tileup: Command, folder: Path, name: str
) -> None:
    """`-pretty.png` would be the prompt `retty.png`."""
    save(folder / name)
    for command in ("upscale", "plan"):
        ran = tileup(command, name, "in.png")
        assert ran.code == ExitCode.USAGE
        assert f"{name} is a file here, and would be read as a flag; write ./{name}" in ran.sentence
    assert sorted(path.name for path in folder.iterdir()) == sorted([name, "in.png"])
    assert tileup("plan", "-q", "--", name).code == ExitCode.OK
    assert tileup("plan", "-q", f"./{name}").code == ExitCode.OK


@pytest.mark.parametrize("command", ["upscale", "plan", "info"])
def test_wrong_usage_points_to_the_help_of_its_command(tileup: Command, command: str) -> None:
    assert f"(see tileup {command} --help)" in tileup(command, "in.png", "--nonsense").sentence
