"""Inputs become jobs: what is found, where it goes, and what is refused before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.images.pictures import png
from tileup.engine import checks
from tileup.engine.jobs import find_jobs
from tileup.engine.naming import seed_of
from tileup.engine.values import Job, Request
from tileup.errors import InputError, NoInputError, OutputError, OutputExistsError, UsageError
from tileup.images.reading import open_picture
from tileup.settings.values import Settings

Add = Callable[..., None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of every test here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def add(folder: Path) -> Add:
    """Puts small pictures at these paths."""

    def write(*names: str, size: tuple[int, int] = (6, 4), orientation: int = 1) -> None:
        exif = Image.Exif()
        exif[274] = orientation
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size).save(folder / name, exif=exif)

    return write


def jobs(*inputs: str, settings: Settings | None = None, **request: object) -> list[Job]:
    wanted = Request(inputs, **request)  # type: ignore[arg-type]
    return find_jobs(wanted, settings or Settings())


def outputs(found: list[Job]) -> list[str]:
    return [str(job.output) for job in found]


# --- what is found --------------------------------------------------------------------------


def test_a_folder_in_natural_order_without_what_is_no_picture(add: Add, folder: Path) -> None:
    add("in/a10.png", "in/a2.JPG", "in/b.webp", "in/sub/c.png", "in/.hidden.png")
    for name in ("Thumbs.db", "notes.txt", ".DS_Store", "clip.mp4", "a.png.part"):
        (folder / "in" / name).write_bytes(b"x")
    (folder / "in" / "folder.png").mkdir()
    assert [job.relative for job in jobs("in")] == ["a2.JPG", "a10.png", "b.webp"]


def test_a_tree_is_mirrored(add: Add) -> None:
    add("in/a.png", "in/sub/a.png", "in/sub/.git/a.png")
    found = jobs("in", output="out", recursive=True)
    assert outputs(found) == ["out/a_2x.png", "out/sub/a_2x.png"]
    assert [job.relative for job in found] == ["a.png", "sub/a.png"]


def test_what_tileup_made_itself_is_passed_over(add: Add) -> None:
    add("in/a.png", "in/a_2x.png", "in/a_4x.png", "in/a_2x_heatmap.png", "in/b_2x.png")
    assert outputs(jobs("in")) == ["in/a_2x.png", "in/b_2x_2x.png"]
    assert len(jobs("in", output="out")) == 5, "not when the results go elsewhere"


def test_an_output_folder_below_the_input_is_passed_over(add: Add) -> None:
    add("in/a.png", "in/out/a_2x.png", "in/out/deep/b.png")
    assert outputs(jobs("in", output="in/out", recursive=True)) == ["in/out/a_2x.png"]


def test_an_output_folder_above_the_input_passes_nothing_over(add: Add) -> None:
    add("in/a.png")
    assert outputs(jobs("in", output=".")) == ["a_2x.png"]


def test_patterns_that_the_shell_left_alone(add: Add) -> None:
    add("a1.png", "a2.png", "b.png", "x/y/c.png", "[odd].png")
    assert [str(job.input) for job in jobs("a*.png")] == ["a1.png", "a2.png"]
    assert [str(job.input) for job in jobs("**/c.png")] == ["x/y/c.png"]
    assert [str(job.input) for job in jobs("[odd].png")] == ["[odd].png"], "a name, not a pattern"
    with pytest.raises(NoInputError, match=r"no file matches '\*.webp'"):
        jobs("*.webp")


def test_an_input_named_twice_is_done_once(add: Add, folder: Path) -> None:
    add("in/a.png")
    (folder / "link.png").symlink_to("in/a.png")
    assert len(jobs("in/a.png", "in/../in/a.png", "in", "link.png", output="out")) == 1


def test_a_folder_below_that_cannot_be_read_is_one_failure(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("in/a.png", "in/closed/b.png", "in/open/c.png")
    inner = os.scandir

    def scandir(path: str | Path = ".") -> object:
        if Path(path).name in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return inner(path)

    closed = ["closed"]
    monkeypatch.setattr(os, "scandir", scandir)
    found = jobs("in", output="out", recursive=True)
    assert [str(job.input) for job in found] == ["in/a.png", "in/closed", "in/open/c.png"]
    with pytest.raises(InputError, match=r"in/closed cannot be read \(Permission denied\)"):
        open_picture(Path("in/closed"))
    closed.append("in")
    with pytest.raises(NoInputError, match="in cannot be read: Permission denied"):
        jobs("in", output="out", recursive=True)


def test_nothing_to_do_is_said(add: Add, folder: Path) -> None:
    add("deep/er/a.png")
    with pytest.raises(UsageError, match="no input given"):
        jobs()
    with pytest.raises(NoInputError, match=r"absent.png does not exist"):
        jobs("absent.png")
    with pytest.raises(NoInputError, match=r"a.png and b.png do not exist"):
        jobs("a.png", "b.png", "c.png")
    with pytest.raises(NoInputError, match=r"no picture .* in deep \(folders below it need --rec"):
        jobs("deep")


def test_a_missing_file_among_several_is_left_to_the_run(add: Add) -> None:
    add("a.png")
    assert len(jobs("a.png", "absent.png")) == 2


# --- where results go -----------------------------------------------------------------------


def test_without_o_the_result_lies_beside_the_input(add: Add) -> None:
    add("in/a.jpeg")
    assert outputs(jobs("in/a.jpeg")) == ["in/a_2x.jpeg"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("b.webp", "b.webp"),
        ("new/b", "new/b"),
        ("new/", "new/a_2x.png"),
        ("there", "there/a_2x.png"),
        ("-", "None"),
    ],
)
def test_o_is_a_file_a_folder_or_standard_output(
    add: Add, folder: Path, output: str, expected: str
) -> None:
    add("a.png")
    (folder / "there").mkdir()
    assert outputs(jobs("a.png", output=output)) == [expected]


def test_standard_input_goes_to_standard_output_unless_told_otherwise() -> None:
    assert jobs("-")[0].targets == ()
    assert outputs(jobs("-", output="b.png")) == ["b.png"]
    assert outputs(jobs("-", output="out/")) == ["out/stdin_2x.png"]


def test_extensions_that_are_not_written_become_png(add: Add, folder: Path) -> None:
    add("a.png", "b.png")
    (folder / "a.png").rename("bare")
    (folder / "b.png").rename("b.jfif")
    assert outputs(jobs("bare")) == ["bare_2x.png"]
    assert outputs(jobs("b.jfif")) == ["b_2x.png"]


def test_every_field_of_a_template(add: Add) -> None:
    add("in/a.png", size=(6, 4))
    name = "{parent}-{stem}-{scale}-{seed}-{width}x{height}.{ext}"
    settings = Settings(scale=1.5, seed=9, name=name, format="webp")
    assert outputs(jobs("in/a.png", settings=settings)) == ["in/in-a-1.5-9-9x6.webp"]


def test_sizes_in_names_are_those_of_the_upright_picture(add: Add) -> None:
    add("turned.jpg", size=(6, 4), orientation=6)
    settings = Settings(name="{stem}_{width}x{height}_{scale}.{ext}", long_edge=12)
    assert outputs(jobs("turned.jpg", settings=settings)) == ["turned_8x12_2.jpg"]


def test_exact_sizes_give_their_own_scale(add: Add) -> None:
    add("a.png", size=(6, 4))
    assert outputs(jobs("a.png", settings=Settings(long_edge=9))) == ["a_1.5x.png"]


def test_a_name_with_sizes_does_not_decode_a_bomb(folder: Path) -> None:
    """For its EXIF Pillow would decode a PNG, and this one claims 100 TB of pixels."""
    (folder / "bomb.png").write_bytes(png(2**23, 2**22, 8, 2, (b"IDAT", b"")))
    assert outputs(jobs("bomb.png", settings=Settings(long_edge=12))) == ["bomb_2x.png"]


def test_a_broken_picture_still_gets_a_name(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert outputs(jobs("broken.png", settings=Settings(long_edge=9))) == ["broken_2x.png"]


def test_companions(add: Add) -> None:
    add("in/a.png", "in/sub/b.jpg")
    one = jobs("in/a.png", heatmap="auto", plan_json="p.json", output="o.webp")[0]
    assert [str(path) for path in one.targets] == ["o.webp", "o_heatmap.png", "p.json"]
    many = jobs("in", heatmap="maps", plan_json="auto", output="out", recursive=True)
    assert [str(job.heatmap) for job in many] == [
        "maps/a_2x_heatmap.png",
        "maps/sub/b_2x_heatmap.png",
    ]
    assert str(many[1].plan_json) == "out/sub/b_2x_plan.json"
    with pytest.raises(UsageError, match="standard output has no place beside it"):
        jobs("in/a.png", output="-", heatmap="auto")


def test_seeds(add: Add) -> None:
    add("in/a.png", "in/sub/b.png")
    settings = Settings(seed=5)
    assert [job.seed for job in jobs("in/a.png", settings=settings)] == [5]
    seeds = [job.seed for job in jobs("in", recursive=True, settings=settings)]
    assert seeds == [seed_of(5, "a.png"), seed_of(5, "sub/b.png")]
    assert [job.seed for job in jobs("in/sub", settings=settings)] == [seed_of(5, "b.png")]


# --- what is refused ------------------------------------------------------------------------


def test_an_existing_single_output_is_refused(add: Add) -> None:
    add("a.png", "a_2x.png")
    with pytest.raises(OutputExistsError, match=r"a_2x.png is there already; use --overwrite"):
        jobs("a.png")
    assert not jobs("a.png", overwrite=True)[0].finished


def test_an_existing_single_output_is_skipped_where_that_is_asked_for(
    add: Add, folder: Path
) -> None:
    """As in a loop of the shell: for f in *.png; do tileup upscale "$f" --skip-existing; done"""
    add("a.png", "a_2x.png")
    (job,) = jobs("a.png", skip_existing=True)
    assert job.finished
    (folder / "a_2x.png").unlink()
    (job,) = jobs("a.png", skip_existing=True)
    assert not job.finished


@pytest.mark.parametrize(
    ("names", "settings", "way"),
    [
        (("x/a.png", "y/a.png"), Settings(), "{parent}"),
        (("x/a.jpg", "x/a.png"), Settings(format="png"), "--format"),
        (("x/a.png", "x/b.png"), Settings(name="same.{ext}"), "{stem}"),
    ],
)
def test_a_clash_says_what_helps(
    add: Add, names: tuple[str, ...], settings: Settings, way: str
) -> None:
    add(*names)
    with pytest.raises(UsageError, match=re.escape(way)):
        jobs(*names, output="out", settings=settings)


def test_an_existing_companion_is_refused_too(add: Add) -> None:
    add("a.png", "map.png")
    with pytest.raises(OutputExistsError, match=r"map.png is there already"):
        jobs("a.png", heatmap="map.png")


def test_finished_pictures_of_a_batch_are_marked(add: Add) -> None:
    add("in/a.png", "in/b.png", "out/a_2x.png")
    assert [job.finished for job in jobs("in", output="out")] == [True, False]
    assert [job.finished for job in jobs("in", output="out", overwrite=True)] == [False, False]
    add("one/a.png")
    assert [job.finished for job in jobs("one", output="out")] == [True], "a folder of one, too"


def test_two_inputs_never_share_an_output(add: Add) -> None:
    add("in/a.png", "in/a.jpg", "other/a.png")
    with pytest.raises(UsageError, match=r"in/a.jpg and in/a.png would both .* in/a_2x.webp"):
        jobs("in", settings=Settings(format="webp"))
    with pytest.raises(UsageError, match=r"in/a.png and other/a.png would both"):
        jobs("in/a.png", "other/a.png", output="out")
    assert len(jobs("in")) == 2


def test_names_that_differ_in_case_only_are_one_file_on_some_disks(
    add: Add, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("in/a.png", "in/A.png", "in/e\u0301.png", "in/\u00e9.png")
    (folder / "probe").touch()
    here = (folder / "PROBE").exists()
    assert checks._ignores_case(folder) is here, "as the disk of this test does"
    monkeypatch.setattr(checks, "_ignores_case", lambda folder: False)
    assert len(jobs("in", output="out")) == 4
    monkeypatch.setattr(checks, "_ignores_case", lambda folder: True)
    with pytest.raises(UsageError, match=r"in/a.png and in/A.png would both"):
        jobs("in/a.png", "in/A.png", output="out")
    with pytest.raises(UsageError, match=r"would both"):
        jobs("in/e\u0301.png", "in/\u00e9.png", output="out")


@pytest.mark.parametrize(
    "request_",
    [
        {"output": "a.png"},
        {"output": "./in/../a.png"},
        {"output": "link.png"},
        {"heatmap": "a.png"},
        {"plan_json": "a.png"},
    ],
)
def test_an_input_is_never_replaced(add: Add, folder: Path, request_: dict[str, str]) -> None:
    add("a.png", "in/b.png")
    (folder / "link.png").symlink_to("a.png")
    with pytest.raises(UsageError, match=r"would replace the input a.png"):
        jobs("a.png", overwrite=True, **request_)


def test_an_output_may_not_replace_another_input(add: Add) -> None:
    add("a.png", "b.png")
    settings = Settings(name="b.png")
    with pytest.raises(UsageError, match=r"b.png would replace the input b.png"):
        jobs("a.png", "b.png", settings=settings, overwrite=True)


def test_one_file_for_two_purposes_is_refused(add: Add) -> None:
    add("a.png")
    with pytest.raises(UsageError, match=r"o.png is asked for twice"):
        jobs("a.png", output="o.png", heatmap="o.png")


def test_several_pictures_need_a_folder(add: Add, folder: Path) -> None:
    add("in/a.png", "in/b.png", "file.png")
    with pytest.raises(UsageError, match="standard output takes one picture"):
        jobs("in", output="-")
    with pytest.raises(UsageError, match="standard input"):
        jobs("-", "in")
    with pytest.raises(UsageError, match=r"file.png is a file, and several pictures need a folder"):
        jobs("in", output="file.png")
    with pytest.raises(UsageError, match=r"new.png is named like a file.*write new.png/"):
        jobs("in", output="new.png")
    with pytest.raises(UsageError, match=r"map.png is named like a file"):
        jobs("in", output="out", heatmap="map.png")
    with pytest.raises(UsageError, match=r"p.json is named like a file"):
        jobs("in", output="out", plan_json="p.json")
    assert outputs(jobs("in", output="new.png/"))[0] == "new.png/a_2x.png"


def test_formats_that_cannot_be_written_are_refused(add: Add) -> None:
    add("a.png")
    with pytest.raises(UsageError, match="'gif' cannot be written"):
        jobs("a.png", output="a.gif")
    with pytest.raises(UsageError, match="contradicts"):
        jobs("a.png", output="b.png", settings=Settings(format="webp"))


def test_places_that_cannot_be_written_are_found_before_the_work(add: Add, folder: Path) -> None:
    add("a.png")
    (folder / "taken_2x.png").mkdir()
    add("taken.png")
    with pytest.raises(OutputError, match=r"cannot write to a.png: Not a directory"):
        jobs("a.png", output="a.png/b.png")
    with pytest.raises(OutputError, match=r"cannot write to a.png/deep"):
        jobs("a.png", heatmap="a.png/deep/b.png")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"taken_2x.png is a folder"):
            jobs("taken.png", overwrite=overwrite)


def test_looking_for_jobs_writes_nothing(add: Add, folder: Path) -> None:
    add("in/a.png")
    before = sorted(folder.rglob("*"))
    assert jobs("in", output="new/deep", heatmap="maps", plan_json="auto")
    assert sorted(folder.rglob("*")) == before
