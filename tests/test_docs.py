"""Documents name tests as proof, and files to touch: each of them exists."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from bench import spread
from bench.cluster_sim import MEASURED, World, compared, drawn_from, mean_of
from bench.cluster_sim import table as cluster_table
from tileup.cli.options import UpscaleOptions
from tileup.engine.resume import _WITHOUT_EFFECT
from tileup.settings.setting import flags_of
from tileup.settings.values import FLAGS

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py|…)(?:::(test_\w+))?`")


def named(text: str) -> list[tuple[str, str | None]]:
    """File and test of each mention; `…` is the file named last."""
    found: list[tuple[str, str | None]] = []
    for file, test in NAMED.findall(text):
        found.append((found[-1][0] if file == "…" else file, test or None))
    return found


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_every_test_that_a_document_names_is_there(document: Path) -> None:
    for file, test in named(document.read_text(encoding="utf-8")):
        path = ROOT / file
        assert path.is_file(), file
        assert test is None or test in functions_of(path), f"{file}::{test}"


def test_promises_of_batches_have_tests() -> None:
    """Each row of each table of docs/batch.md names at least one."""
    text = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    assert len(named(text)) > 30
    heads, rows = 0, 0
    for line in text.splitlines():
        if line.endswith("| test |"):
            heads += 1
        elif line.startswith("| "):
            rows += 1
            assert NAMED.search(line.split(" | ")[-1]), line
    assert heads == 3
    assert rows > 15


def test_flags_that_redo_nothing_are_told() -> None:
    """All of them, besides those that say where a picture lies and how large one may be."""
    text = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    told = text.partition("The version of tileup,")[2].partition("do not count as other")[0]
    flags = {each.replace("_", "-") for each in _WITHOUT_EFFECT}
    assert {*re.findall(r"`--([a-z-]+)`", told)} == flags - {"name", "suffix", "max-input-pixels"}


GUIDE = ROOT / "CONTRIBUTING.md"
PATH = re.compile(r"`((?:tileup|tests|configs|docs|bench|models)/[\w./-]*)`")


def test_every_path_of_the_guide_exists_and_folders_are_told_by_their_slash() -> None:
    paths = PATH.findall(GUIDE.read_text(encoding="utf-8"))
    assert len(paths) > 40
    for path in paths:
        place = ROOT / path
        assert place.is_dir() if path.endswith("/") else place.is_file(), path


def test_the_guide_shows_every_room_of_the_house() -> None:
    named = set(PATH.findall(GUIDE.read_text(encoding="utf-8")))
    rooms = {f"tileup/{path.parent.name}/" for path in (ROOT / "tileup").glob("*/__init__.py")}
    assert len(rooms) > 10
    assert rooms <= named


def test_every_file_of_others_is_credited() -> None:
    """All that lies in the package besides code."""
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    carried = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tileup").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert len(carried) == 2
    for name in carried:
        _, _, credit = notice.partition(f"\n{name}\n")
        credit = credit.partition("\n\n")[0]
        for part in ("Copyright ", "Apache-2.0.", "https://"):
            assert part in credit, name


SCALE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def test_every_document_of_yaml_about_scale_can_be_read() -> None:
    found = re.findall(r"```yaml\n(.*?)```", SCALE, re.DOTALL)
    kinds = [yaml.safe_load(text) for text in found]
    assert len(kinds) == 2
    actions, job = kinds
    shares = actions["jobs"]["enlarge"]["strategy"]["matrix"]["share"]
    assert shares == [*range(1, len(shares) + 1)]
    assert f"matrix.share }}}}/{len(shares)}" in SCALE, "as many shares as are said to be there"
    groups = [job["spec"]["rayClusterSpec"]["headGroupSpec"]]
    groups += job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    for group in groups:
        spec = group["template"]["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounts = {mount["name"] for box in spec["containers"] for mount in box["volumeMounts"]}
        assert volumes == mounts
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"ray=={job['spec']['rayClusterSpec']['rayVersion']}\n" in pinned


def test_commands_about_scale_use_flags_that_there_are() -> None:
    known = {name for each in (*flags_of(UpscaleOptions), *FLAGS) for name in each.names}
    known |= {name for each in known for name in each.split("/")} | {"--redraw"}
    lines = [line for line in SCALE.splitlines() if re.search(r"tileup (upscale|verify) ", line)]
    assert len(lines) > 8
    for line in lines:
        after = line[line.index("tileup ") :]
        for flag in re.findall(r"(?<=\s)--?[a-z][a-z-]*", after):
            assert flag in known, line


def test_tables_about_scale_are_those_that_the_benches_print() -> None:
    """With the measured times and the seed that are kept, they are the same on every machine."""
    tasks = drawn_from(json.loads(MEASURED.read_text()), 10_000)
    assert cluster_table(compared(tasks, World()), mean_of(tasks)) in SCALE
    assert spread.table() in SCALE
