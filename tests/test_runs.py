"""What the program says and makes, run by run, against the record in tests/runs/recorded.

A change of behaviour shows here, wanted or not. When it is wanted, record anew and read the
difference before you commit it:

    RECORD=1 pytest tests/test_runs.py            # all, or some with -k
    git diff tests/runs/recorded
"""

from __future__ import annotations

import copy
import inspect
import itertools
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pytest

import tileup
from tests.runs.recording import (
    RECORDED,
    Block,
    as_text,
    described,
    plain,
    read_group,
    same,
    write_block,
    write_group,
)
from tests.runs.table import RUNS, Run
from tests.runs.world import make_model, make_pictures
from tileup.__main__ import main

RECORD = "RECORD" in os.environ


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `pictures` and `models`; models are written when a run names them."""
    root = tmp_path_factory.mktemp("world")
    (root / "pictures").mkdir()
    (root / "models").mkdir()
    make_pictures(root / "pictures")
    return root


@pytest.fixture
def play(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[Run], Block]:
    """Plays a run in a fresh folder, and gives what it said and made."""
    folder = tmp_path / "here"
    shutil.copytree(world / "pictures", folder)
    (folder / "models").symlink_to(world / "models")
    for name in [name for name in os.environ if name.startswith("TILEUP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    names = {
        str(folder): "<here>",
        str(world / "models"): "<models>",
        str(tmp_path): "<temporary>",
        str(Path(tileup.__file__).parent): "<tileup>",
        str(Path(tileup.__file__).parents[1]): "<project>",
    }

    def command(text: str) -> Block:
        words = shlex.split(text)
        if words[:1] in (["rm"], ["write"], ["copy"]):
            _change(words)
            return {}
        for name in re.findall(r"models/(\S+)", text):
            make_model(world / "models" / name)
        monkeypatch.setattr(sys, "argv", ["tileup", *words])
        capfd.readouterr()
        code = main()
        out, err = capfd.readouterr()
        said = {"code": int(code), "out": plain(out, names), "err": plain(err, names)}
        return {name: value for name, value in said.items() if value != ""}

    def play(run: Run) -> Block:
        for name, value in run.environment.items():
            monkeypatch.setenv(name, value)
        if any("-m sdxl-head" in each for each in run.commands):
            make_model(world / "models" / "sdxl-head.safetensors")
        before = _contents(folder)
        said = [{"command": each} | command(each) for each in run.commands]
        after = _contents(folder)
        made = {
            str(path.relative_to(folder)): described(
                path, names, exact=run.exact, metadata=run.metadata
            )
            for path in sorted(after)
            if after[path] != before.get(path)
        }
        gone = [str(path.relative_to(folder)) for path in sorted(before.keys() - after.keys())]
        return {"runs": said} | ({"files": made} if made else {}) | ({"gone": gone} if gone else {})

    return play


def _change(words: list[str]) -> None:
    match words:
        case ["rm", path]:
            Path(path).unlink()
        case ["write", path, text]:
            Path(path).write_text(text)
        case ["copy", source, target]:
            Path(target).parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
        case _:
            raise ValueError(words)


def _contents(folder: Path) -> dict[Path, bytes]:
    models = folder / "models"
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and models not in path.parents
    }


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.group}: {run.name}")
def test_a_run_is_as_recorded(run: Run, play: Callable[[Run], Block]) -> None:
    found = play(run)
    if RECORD:
        write_block(run.group, run.name, found)
        return
    recorded = read_group(run.group)[run.name]
    if not same(found, recorded):
        assert as_text(found) == as_text(recorded), "RECORD=1 records it anew"


def public_names() -> Block:
    """The names that `tileup` exports, with what they take and what they hold."""
    return {name: _face(getattr(tileup, name)) for name in tileup.__all__ if name[0] != "_"}


def _face(thing: object) -> object:
    if is_dataclass(thing):
        names = {f.name: "" if f.default is MISSING else repr(f.default) for f in fields(thing)}
        methods = sorted(name for name in vars(thing) if name[0] != "_" and name not in names)
        return {"fields": names, "others": methods}
    if isinstance(thing, type):
        return {"exit code": int(thing.exit_code)}  # type: ignore[attr-defined]
    parameters = inspect.signature(thing).parameters.values()  # type: ignore[arg-type]
    return [str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters]


def test_the_public_names_are_as_recorded() -> None:
    if RECORD:
        write_block("public", "tileup", public_names())
    assert public_names() == read_group("public")["tileup"]


def test_every_block_of_the_record_is_a_run() -> None:
    runs: dict[str, set[str]] = {"public": {"tileup"}}
    for run in RUNS:
        runs.setdefault(run.group, set()).add(run.name)
    assert len({(run.group, run.name) for run in RUNS}) == len(RUNS), "names are told apart"
    if RECORD:
        for path in RECORDED.glob("*.yaml"):
            blocks = read_group(path.stem)
            write_group(path.stem, {n: b for n, b in blocks.items() if n in runs[path.stem]})
    recorded = {path.stem: set(read_group(path.stem)) for path in RECORDED.glob("*.yaml")}
    assert recorded == runs


def test_a_changed_word_code_pixel_or_file_is_noticed() -> None:
    """The comparison is not vacuous: each of these alone is a difference."""
    block = read_group("drawn")["default"]
    assert same(copy.deepcopy(block), block)
    (picture,) = block["files"]
    changes: list[Callable[[Block], object]] = [
        lambda b: b["runs"][0].update(err=b["runs"][0]["err"] + "warning: more\n"),
        lambda b: b["runs"][0].update(code=1),
        lambda b: b["runs"][0].pop("out"),
        lambda b: b["files"].pop(picture),
        lambda b: b["files"][picture].update(size="9x9"),
        lambda b: b["files"][picture].update(parameters="Steps: 3"),
        lambda b: b["files"][picture]["means"].reverse(),
        lambda b: b["files"][picture]["samples"].reverse(),
    ]
    for change in changes:
        changed = copy.deepcopy(block)
        change(changed)
        assert not same(changed, block)


def test_each_way_of_drawing_has_pixels_of_its_own() -> None:
    """Or a run with the wrong mode, sampler or seed would pass for the right one."""
    pictures = {
        name: block["files"]["out.png"]
        for name, block in read_group("drawn").items()
        if name.startswith(("mode", "sampler", "seed", "default", "spot", "sd", "flux"))
    }
    # Passes and schedule too: with a real network they agree only farther from other strengths
    # than it sees, and nothing of this picture is; tests/denoise has both equal to plain runs.
    alike = {
        (name, other)
        for (name, one), (other, two) in itertools.combinations(pictures.items(), 2)
        if same(one, two)
    }
    assert alike == set()


def test_the_record_holds_all_exit_codes_that_need_no_accident_and_many_words() -> None:
    blocks = [block for run in RUNS for block in [read_group(run.group)[run.name]]]
    commands = [said for block in blocks for said in block["runs"]]
    assert {said["code"] for said in commands if "code" in said} >= {0, 1, 2, 3, 4, 6}
    assert sum("err" in said for said in commands) > 60
    assert sum("means" in file for b in blocks for file in b.get("files", {}).values()) > 20
    assert sum("pixels" in file for b in blocks for file in b.get("files", {}).values()) > 20
