"""Inputs become jobs: what is found, where it goes, and what is refused before any work."""

# pyright: basic
from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.images.pictures import png
from tileup.engine import inputs, output_checks, room
from tileup.engine.jobs import find_jobs
from tileup.engine.naming import seed_of
from tileup.engine.outputs import foreseen
from tileup.engine.request import Input, Job, Request, Standing
from tileup.engine.shards import Shard
from tileup.errors import (
    InputError,
    NoInputError,
    OutOfMemoryError,
    OutputError,
    OutputExistsError,
    UsageError,
)
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

    def unless_closed(inner: Callable[[str | Path], object]) -> Callable[[str | Path], object]:
        def listed(path: str | Path = ".") -> object:
            if Path(path).name in closed:
                raise PermissionError(13, "Permission denied", str(path))
            return inner(path)

        return listed

    closed = ["closed"]
    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, unless_closed(getattr(os, name)))
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


def test_a_word_that_stands_for_nothing_stops_no_other(
    add: Add, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add("a.png")
    (folder / "empty").mkdir()
    for word, told in (("empty", "no picture"), ("x*.png", "no file matches")):
        found = jobs("a.png", word, output="out")
        assert [str(job.input) for job in found] == ["a.png", word]
        assert [job.standing for job in found] == [Standing.NEW, Standing.IMPOSSIBLE]
        assert told in str(found[1].refusal)
        assert isinstance(found[1].refusal, InputError)
        assert not caplog.text, "it is told once, as a failure"
        with pytest.raises(NoInputError, match=told):
            jobs(word, output="out")


def test_a_folder_whose_name_looks_like_a_pattern(add: Add) -> None:
    add("shots [2024]/a[1].png", "shots [2024]/b.png", "shots 2/c.png")
    assert len(jobs("shots [2024]")) == 2
    assert [str(job.input) for job in jobs("shots [2024]/a[1].png")] == ["shots [2024]/a[1].png"]
    assert [str(job.input) for job in jobs("shots [2024]/*.png")] == [
        "shots [2024]/a[1].png",
        "shots [2024]/b.png",
    ]
    assert [str(job.input) for job in jobs("shots [2345]/*.png")] == ["shots 2/c.png"]


def test_what_a_folder_holds_besides_is_counted_by_kind(
    add: Add, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add("in/a.jpg", "in/below/b.png", "elsewhere/z.png")
    for name in ("c.psd", "d.EXR", "e.jp4", "IMG_1.NEF", "IMG_2.nef", "bare", "notes.txt", "a.xmp"):
        (folder / "in" / name).write_bytes(b"x")
    (folder / "in" / "more").symlink_to(folder / "elsewhere")
    (folder / "in" / "again.jpg").symlink_to("a.jpg")
    (folder / "in" / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "in" / "round.jpg").symlink_to("round.jpg")
    os.mkfifo(folder / "in" / "pipe.png")
    with caplog.at_level("INFO"):
        assert [job.relative for job in jobs("in", recursive=True)] == ["a.jpg", "below/b.png"]
    (line,) = [each.message for each in caplog.records if each.levelname == "WARNING"]
    head, tail = line.split(": ", 1)[0], line.split(": ", 1)[1].removesuffix(" (-v names them)")
    assert head == "passed over"
    assert sorted(tail.split(", ")) == sorted(
        [
            "1 EXR (not read)",
            "1 PSD (not read)",
            "1 linked folder",
            "1 no regular file",
            "1 named twice or linked to a picture that is taken",
            "1 without extension",
            "2 NEF (not read)",
            "2 link to nothing",
        ]
    )
    named = [each.message for each in caplog.records if each.levelname == "INFO"]
    assert any("passed over in/IMG_1.NEF" in each for each in named)
    assert any("passed over in/again.jpg" in each for each in named), "the link, not the picture"


def test_a_folder_with_nothing_besides_says_nothing(
    add: Add, caplog: pytest.LogCaptureFixture
) -> None:
    add("in/a.jpg", "in/b.png")
    jobs("in")
    assert caplog.text == ""


SIZES = [
    ({"long_edge": 100}, {"small": "to make", "exact": "large", "big": "large", "tiny": "fails"}),
    ({"short_edge": 50}, {"small": "to make", "exact": "large", "big": "large", "tiny": "fails"}),
    ({"size": "100x50"}, {"small": "to make", "exact": "large", "big": "large", "tiny": "fails"}),
    (
        {"max_pixels": 5000},
        {"small": "to make", "exact": "large", "big": "large", "tiny": "to make"},
    ),
    ({"scale": 1}, {"small": "to make", "exact": "to make", "big": "to make", "tiny": "to make"}),
]


@pytest.mark.parametrize(("wish", "expected"), SIZES, ids=lambda each: str(each)[:20])
@pytest.mark.parametrize("name", ["{stem}_{scale}x.{ext}", "{stem}_up.{ext}"])
def test_the_size_of_one_picture_decides_for_it_alone(
    add: Add, name: str, wish: dict[str, object], expected: dict[str, str]
) -> None:
    for stem, size in {
        "small": (50, 25),
        "exact": (100, 50),
        "big": (300, 150),
        "tiny": (6, 3),
    }.items():
        add(f"in/{stem}.png", size=size)
    settings = Settings(name=name, **wish)  # type: ignore[arg-type]
    found = [foreseen(job, settings) for job in jobs("in", output="out", settings=settings)]
    words = {Standing.NEW: "to make", Standing.LARGE: "large", Standing.IMPOSSIBLE: "fails"}
    assert {job.input.stem: words[job.standing] for job in found if job.input} == expected


def test_a_large_picture_whose_output_is_named_fails(add: Add) -> None:
    """Nobody shall wait for a file, or read a stream, that is not coming."""
    add("big.png", size=(300, 150))
    settings = Settings(long_edge=100)
    assert jobs("big.png", settings=settings)[0].standing is Standing.LARGE
    for output in ("out.png", "-"):
        (job,) = jobs("big.png", output=output, settings=settings)
        assert job.standing is Standing.NEW
        assert "enlarged 1 to 16 times" in str(foreseen(job, settings).refusal)


def test_what_no_format_and_no_memory_holds_is_foreseen(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("a.webp", size=(1100, 4))
    settings = Settings(scale=16)
    (job,) = jobs("a.webp", settings=settings)
    assert "do not fit into webp" in str(foreseen(job, settings).refusal)
    wide = Settings(scale=16, format="png")
    (job,) = jobs("a.webp", settings=wide)
    assert foreseen(job, wide).standing is Standing.NEW
    area = 17600 * 64
    needed = area * room.PER_PIXEL
    monkeypatch.setitem(sys.modules, "torch", sys)  # as if it were loaded
    monkeypatch.setattr(room, "memory_left", lambda: needed - 1)
    told = foreseen(job, wide).refusal
    assert isinstance(told, OutOfMemoryError)
    assert "17600x64 pixels need at least 0.0 GB" in str(told)
    (most,) = re.findall(r"--max-pixels (\d+)", str(told))
    assert int(most) == area - 1
    monkeypatch.setattr(room, "memory_left", lambda: needed)
    assert foreseen(job, wide).standing is Standing.NEW
    monkeypatch.delitem(sys.modules, "torch")
    assert "close other programs" in str(foreseen(job, wide).refusal), "torch is yet to come"
    monkeypatch.setattr(room, "memory_left", lambda: needed + room.BASE)
    assert foreseen(job, wide).standing is Standing.NEW


def test_a_name_that_no_disk_holds_is_one_failure(add: Add) -> None:
    long = "x" * 250
    add("in/a.png", f"in/{long}.png")
    found = jobs("in", output="out")
    assert [job.standing for job in found] == [Standing.NEW, Standing.IMPOSSIBLE]
    assert "has a name of 257 bytes" in str(found[1].refusal)
    assert jobs(f"in/{long}.png")[0].standing is Standing.IMPOSSIBLE
    assert jobs(f"in/{long}.png", output="short.png")[0].standing is Standing.NEW


# --- where results go -----------------------------------------------------------------------


def test_without_o_the_result_lies_beside_the_input(add: Add) -> None:
    add("in/a.jpeg")
    assert outputs(jobs("in/a.jpeg")) == ["in/a_2x.jpeg"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("b.webp", "b.webp"),
        ("new/b", "new/b/a_2x.png"),
        ("new/b.png", "new/b.png"),
        ("bare", "bare"),
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
    (folder / "bare").write_text("a file without an extension, which is there")
    assert outputs(jobs("a.png", output=output)) == [expected]


def test_a_name_that_is_taken_for_a_folder_is_said(
    add: Add, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add("a.png", "b.png")
    (folder / "there").mkdir()
    for output in ("there", "new/", "new.png"):
        jobs("a.png", output=output)
    assert caplog.text == ""
    jobs("a.png", output="new")
    assert "new has no extension, so it is taken for a folder" in caplog.text


def test_standard_input_goes_to_standard_output_unless_told_otherwise() -> None:
    assert jobs("-")[0].targets == ()
    assert outputs(jobs("-", output="b.png")) == ["b.png"]
    assert outputs(jobs("-", output="out/")) == ["out/stdin_2x.png"]


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        *(("JPEG", f"a.{end}", f"a_2x.{end}") for end in ("jpg", "JPEG", "jpe", "jfif")),
        *(("JPEG", name, "a_2x.jpg") for name in ("a", "a.jif", "a.mpo", "a.download")),
        ("PNG", "a", "a_2x.png"),
        ("PNG", "a.apng", "a_2x.png"),
        ("TIFF", "a.scan", "a_2x.tif"),
        ("JPEG2000", "a.jpx", "a_2x.jp2"),
        ("BMP", "a.dib", "a_2x.bmp"),
        *((kind, "a.x", "a_2x.png") for kind in ("GIF", "PPM", "TGA", "ICO")),
    ],
)
def test_an_output_is_of_the_kind_of_its_input(
    folder: Path, kind: str, name: str, expected: str
) -> None:
    """By the name where it is one of the format's, by the content elsewhere; else PNG."""
    Image.new("RGB", (16, 16)).save(folder / name, kind)
    assert outputs(jobs(name)) == [expected]
    assert outputs(jobs(name, settings=Settings(format="webp"))) == ["a_2x.webp"]


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
    assert outputs(jobs("a.png", settings=Settings(long_edge=9))) == ["a_9px.png"]
    scaled = Settings(long_edge=8, name="{stem}-{scale}.png")
    assert outputs(jobs("a.png", settings=scaled)) == ["a-1.29.png"], "two decimals are enough"


def test_a_name_with_sizes_does_not_decode_a_bomb(folder: Path) -> None:
    """For its EXIF Pillow would decode a PNG, and this one claims 100 TB of pixels."""
    (folder / "bomb.png").write_bytes(png(2**23, 2**22, 8, 2, (b"IDAT", b"")))
    assert outputs(jobs("bomb.png", settings=Settings(long_edge=12))) == ["bomb_12px.png"]


def test_a_broken_picture_still_gets_a_name(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert outputs(jobs("broken.png", settings=Settings(long_edge=9))) == ["broken_9px.png"]


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


def test_shards_share_the_pictures_out(add: Add) -> None:
    names = [f"in/{number}.png" for number in range(40)] + ["in/sub/1.png"]
    add(*names)
    whole = jobs("in", output="out", recursive=True)
    shares = [jobs("in", output="out", recursive=True, shard=f"{k}/3") for k in (1, 2, 3)]
    assert sorted((job for share in shares for job in share), key=str) == sorted(whole, key=str)
    assert all(5 < len(share) < 25 for share in shares)
    assert jobs("in", output="out", recursive=True, shard="1/1") == whole
    add("in/more.png")
    again = jobs("in", output="out", recursive=True, shard="2/3")
    assert {*map(str, shares[1])} <= {*map(str, again)}, "more pictures move none"


def test_shares_are_the_same_on_every_machine() -> None:
    """Recorded once: what they are made of is written down, so this must never change."""
    found = [Input(Path("in", name), Path("in")) for name in ("a.png", "b.png", "sub/c.png")]
    assert [[Shard(k, 4).holds(each) for k in (1, 2, 3, 4)].index(True) for each in found] == SHARES


SHARES = [3, 2, 1]


def test_a_share_may_be_empty_and_one_that_cannot_be_is_refused(add: Add) -> None:
    add("in/a.png")
    found = [jobs("in", output="out", shard=f"{k}/4") for k in (1, 2, 3, 4)]
    assert sorted(map(len, found)) == [0, 0, 0, 1]
    for text in ("0/2", "3/2", "1", "1/", "a/b", "1/2/3", "-1/2"):
        with pytest.raises(UsageError, match="shard must be K/N"):
            jobs("in", output="out", shard=text)


def test_two_inputs_of_one_output_are_refused_by_every_share(add: Add) -> None:
    add("in/a.png", "in/a.jpg")
    for shard in ("1/5", "2/5", "3/5", "4/5", "5/5"):
        with pytest.raises(UsageError, match="would be written for both"):
            jobs("in", settings=Settings(format="webp"), shard=shard)


# --- what is refused ------------------------------------------------------------------------


def test_an_existing_single_output_is_refused(add: Add) -> None:
    add("a.png", "a_2x.png")
    (job,) = jobs("a.png")
    assert job.finished
    assert isinstance(job.refusal, OutputExistsError)
    assert "a_2x.png is there already; use --overwrite" in str(job.refusal)
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
    with pytest.raises(UsageError, match=r"in/a_2x.webp would .* both in/a.jpg and in/a.png"):
        jobs("in", settings=Settings(format="webp"))
    with pytest.raises(UsageError, match=r"for both in/a.png and other/a.png"):
        jobs("in/a.png", "other/a.png", output="out")
    assert len(jobs("in")) == 2


@pytest.mark.parametrize("shards", [1, 3])
def test_two_inputs_of_one_output_fail_by_name_and_the_rest_is_made(
    add: Add, folder: Path, shards: int
) -> None:
    add("in/a.png", "in/a.jpg", "in/b.png", "in/c.png")
    settings = Settings(format="webp")

    def found(**more: object) -> dict[str, Job]:
        shares = [
            jobs("in", settings=settings, shard=f"{k}/{shards}", **more)
            for k in range(1, shards + 1)
        ]
        return {job.input.name: job for share in shares for job in share if job.input}

    for name, job in found().items():
        refused = name.startswith("a")
        assert (job.standing is Standing.IMPOSSIBLE) == refused, name
        assert ("for both in/a.jpg and in/a.png" in str(job.refusal)) == refused
    assert len(found()) == 4
    (folder / "in" / "a_2x.webp").write_bytes((folder / "in" / "a.png").read_bytes())
    again = found()
    assert all(again[name].finished for name in ("a.png", "a.jpg")), "what is there stays"
    assert not again["b.png"].finished


def test_names_that_differ_in_case_only_are_one_file_on_some_disks(
    add: Add, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("in/a.png", "in/A.png", "in/e\u0301.png", "in/\u00e9.png")
    (folder / "probe").touch()
    here = (folder / "PROBE").exists()
    assert output_checks._ignores_case(folder) is here, "as the disk of this test does"
    before = sorted(folder.iterdir())
    with monkeypatch.context() as disk:
        disk.setattr(Path, "exists", lambda path: os.path.lexists(str(path).lower()))
        assert output_checks._ignores_case(folder), (
            "as a disk does that keeps the case and asks for none"
        )
    assert sorted(folder.iterdir()) == before
    monkeypatch.setattr(output_checks, "_ignores_case", lambda folder: False)
    assert len(jobs("in", output="out")) == 4
    monkeypatch.setattr(output_checks, "_ignores_case", lambda folder: True)
    with pytest.raises(UsageError, match=r"for both in/a.png and in/A.png"):
        jobs("in/a.png", "in/A.png", output="out")
    with pytest.raises(UsageError, match="would be written for both"):
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
        jobs("a.png", overwrite=True, **request_)  # type: ignore[arg-type]


@pytest.mark.parametrize("shard", [None, "1/3", "2/3", "3/3"])
def test_of_several_only_the_one_that_would_replace_an_input_fails(
    add: Add, shard: str | None
) -> None:
    add("in/a.png", "in/ax.png", "in/b.png")
    settings = Settings(name="{stem}x.png")
    found = jobs("in", settings=settings, overwrite=True, shard=shard)
    refused = {str(job.input): str(job.refusal) for job in found if job.refusal}
    assert refused.keys() == {"in/a.png"} & {str(job.input) for job in found}
    for sentence in refused.values():
        assert sentence == "in/ax.png would replace the input in/ax.png; choose another name"
    assert all(job.finished == (job.refusal is not None) for job in found)


def test_of_several_only_what_goes_into_a_closed_folder_fails(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test runs as root too, for whom no folder is closed."""
    add("in/a.png", "in/shut/b.png")
    make = tempfile.TemporaryFile

    def closed(*, dir: Path) -> object:
        if dir.name in shut:
            raise PermissionError(errno.EACCES, "Permission denied")
        return make(dir=dir)

    monkeypatch.setattr("tempfile.TemporaryFile", closed)
    shut = {"shut"}
    found = jobs("in", recursive=True)
    assert [str(job.refusal or "") for job in found] == [
        "",
        "cannot write to in/shut: Permission denied",
    ]
    shut = {"shut", "in"}
    with pytest.raises(OutputError, match="cannot write to in: Permission denied"):
        jobs("in", recursive=True)


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
        (job,) = jobs("taken.png", overwrite=overwrite)
        assert job.finished
        assert isinstance(job.refusal, OutputError)
        assert "taken_2x.png is a folder" in str(job.refusal)


def test_looking_for_jobs_writes_nothing(add: Add, folder: Path) -> None:
    add("in/a.png")
    before = sorted(folder.rglob("*"))
    assert jobs("in", output="new/deep", heatmap="maps", plan_json="auto")
    assert sorted(folder.rglob("*")) == before


def test_each_picture_is_looked_into_once_for_a_heatmap(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("in/a.png", "in/b.png", "c.png")
    seen: list[str] = []
    monkeypatch.setattr(inputs, "is_heatmap", lambda path: seen.append(path.name))
    assert len(jobs("in", "c.png", output="out")) == 3
    assert sorted(seen) == ["a.png", "b.png", "c.png"]
