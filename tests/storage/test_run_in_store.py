"""Runs whose inputs and outputs lie in a store: the same bytes, and nothing lost or made twice."""

from __future__ import annotations

import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from tests.doubles import DoubleModel, gaussian_denoiser
from tests.storage.conftest import SECRET, Gate, Web, contents, upload
from tileup.engine import claims, file_to_file, preflight
from tileup.engine.inputs import find_inputs
from tileup.engine.jobs import find_jobs
from tileup.engine.journals import has_journal, journal_at
from tileup.engine.local import run
from tileup.engine.outcomes import Outcome
from tileup.engine.preflight import Here
from tileup.engine.redraw import Redrawing
from tileup.engine.request import Request, Standing
from tileup.engine.resume import contents_of
from tileup.engine.store_journal import IN_STORE
from tileup.engine.verify import verify
from tileup.errors import InputError, NoInputError, OutputError, UnreachableError, UsageError
from tileup.images.reading import open_picture
from tileup.images.whole import write_whole
from tileup.settings.values import Settings
from tileup.storage import remote, stores
from tileup.storage.copies import given_file
from tileup.storage.remote import Remote, files_below, held, place, put_whole

SETTINGS = Settings(tile=32, min_tile=16, overlap=8, steps=2, min_denoise=0, max_denoise=0)

NAMED = replace(SETTINGS, name="{stem}.png")


def make(
    source: object, output: object, settings: Settings = SETTINGS, **request: object
) -> list[Outcome]:
    asked = Request((str(source),), output=f"{output}/", **request)  # type: ignore[arg-type]
    jobs = find_jobs(asked, settings)
    return list(run(jobs, settings, lambda _: DoubleModel(gaussian_denoiser)))


def became(outcomes: list[Outcome]) -> list[str]:
    return [each.outcome if each.error is None else str(each.error) for each in outcomes]


def test_the_bytes_are_those_of_a_run_on_disks(folder: Path, bucket: Remote) -> None:
    upload(folder / "in", bucket / "in")
    make("in", "out", recursive=True, plan_json="auto")
    wanted = contents(folder / "out")
    assert len(wanted) == 6
    for source, output in (
        (bucket / "in", bucket / "out"),
        (folder / "in", bucket / "mixed"),
        (bucket / "in", folder / "mixed"),
    ):
        made = make(source, output, recursive=True, plan_json="auto")
        assert became(made) == 3 * ["done"]
        assert contents(output) == wanted


def test_a_rerun_makes_what_is_amiss_and_asks_little(
    folder: Path, bucket: Remote, gate: Gate
) -> None:
    upload(folder / "in", bucket / "in")
    make(bucket / "in", bucket / "out", recursive=True)
    wanted = contents(bucket / "out")
    gate.asked.clear()
    assert became(make(bucket / "in", bucket / "out", recursive=True)) == 3 * ["skipped"]
    assert gate.count("PUT") == 0
    assert gate.count("GET", ".png") == 0
    (bucket / "out" / "a_2x.png").unlink()
    put_whole(bucket / "out" / "b_2x.png", wanted["b_2x.png"][:-40])
    put_whole(bucket / "in" / "deep" / "c.png", (folder / "in" / "a.png").read_bytes())
    found = find_jobs(Request((str(bucket / "in"),), f"{bucket}/out", recursive=True), SETTINGS)
    assert [each.standing for each in found] == [
        Standing.MISSING,
        Standing.DAMAGED,
        Standing.CHANGED,
    ]
    make(bucket / "in", bucket / "out", recursive=True)
    again = contents(bucket / "out")
    assert {name: again[name] for name in ("a_2x.png", "b_2x.png")} == {
        name: wanted[name] for name in ("a_2x.png", "b_2x.png")
    }
    assert again["deep/c_2x.png"] != wanted["deep/c_2x.png"]


def test_what_is_there_and_nobody_knows_is_kept(folder: Path, bucket: Remote) -> None:
    theirs = (folder / "in" / "b.png").read_bytes()
    put_whole(bucket / "out" / "a_2x.png", theirs)
    outcomes = make("in", bucket / "out")
    assert became(outcomes) == ["skipped", "done"]
    assert (bucket / "out" / "a_2x.png").read_bytes() == theirs
    (alone,) = became(make("in/a.png", bucket / "out"))
    assert alone.startswith(f"{bucket}/out/a_2x.png is there already; use --overwrite")


def test_a_store_that_fails_for_a_moment_is_asked_again(
    folder: Path, bucket: Remote, gate: Gate
) -> None:
    upload(folder / "in", bucket / "in")
    gate.fail(2, "PUT", "/out/a_2x.png")
    gate.fail(1, "GET", "/in/b.png", status=500)
    gate.fail(1, "PUT", IN_STORE, status=429)
    gate.asked.clear()
    assert became(make(bucket / "in", bucket / "out")) == 2 * ["done"]
    assert gate.count("PUT", "/out/a_2x.png") == 3
    assert [each for each in verify(bucket / "out") if not each.sound] == []


def test_an_answer_that_was_lost_is_no_file_of_somebody_else(
    folder: Path, bucket: Remote, gate: Gate
) -> None:
    """Written, and told to have failed: tried again, it is there already, and ours."""
    gate.lost += [("PUT", "/out/a_2x.png"), ("PUT", claims.FOLDER)]
    assert became(make("in", bucket / "out")) == 2 * ["done"]
    assert gate.count("PUT", "/out/a_2x.png") == 2


def test_an_input_that_does_not_come_says_nothing_about_the_picture(
    folder: Path, bucket: Remote, gate: Gate
) -> None:
    upload(folder / "in", bucket / "in")
    gate.fail(7, "GET", "/in/a.png")
    first, second = make(bucket / "in", bucket / "out")
    assert second.outcome == "done"
    assert isinstance(first.error, UnreachableError)
    assert str(first.error).startswith(f"{bucket}/in/a.png cannot be read (503 ")
    assert "on each of 7 tries" in str(first.error)
    assert became(make(bucket / "in", bucket / "out")) == ["done", "skipped"]


def test_what_is_refused_is_not_asked_again(folder: Path, bucket: Remote, gate: Gate) -> None:
    gate.fail(1, "PUT", "/out/", status=403)
    with pytest.raises(OutputError, match=r"cannot write to s3://.*/out: 403 "):
        make("in", bucket / "out")
    assert gate.count("PUT") == 1
    with pytest.raises(OutputError, match="cannot write to s3://nowhere-at-all/out: 404 NoSuch"):
        make("in", "s3://nowhere-at-all/out")


def test_two_runs_at_once_make_each_picture_once(
    folder: Path, bucket: Remote, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "AGAIN", 0.05)
    outcomes: list[tuple[str, str]] = []

    def one() -> None:
        for each in make("in", bucket / "out", recursive=True):
            outcomes.append((each.job.shown_output, each.outcome))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    names = ("a_2x.png", "b_2x.png", "deep/c_2x.png")
    wanted = [(f"{bucket}/out/{name}", how) for name in names for how in ("done", "skipped")]
    assert sorted(outcomes) == wanted
    assert gate.count("PUT", "_2x.png") == 3
    assert len(journal_at(bucket / "out").records()) == 3
    left = [each.name for each in (bucket / "out").iterdir()]
    assert sorted(left) == [IN_STORE, "a_2x.png", "b_2x.png", "deep"]


def test_proof_of_a_folder_in_a_store(folder: Path, bucket: Remote) -> None:
    upload(folder / "in", bucket / "in")
    make(bucket / "in", bucket / "out")
    redrawing = Redrawing(lambda _: DoubleModel(gaussian_denoiser))
    found = list(verify(bucket / "out", redrawing, share=1))
    assert [(each.output, each.sound, each.redrawn) for each in found] == [
        ("a_2x.png", True, True),
        ("b_2x.png", True, True),
    ]
    path = bucket / "out" / "a_2x.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    put_whole(path, bytes(data))
    (bucket / "out" / "b_2x.png").unlink()
    wrong = {each.output: each.verdict for each in verify(bucket / "out") if not each.sound}
    assert wrong.pop("b_2x.png") == "missing"
    assert list(wrong) == ["a_2x.png"]


def test_which_files_a_url_stands_for(folder: Path, bucket: Remote) -> None:
    upload(folder / "in", bucket / "in")
    put_whole(bucket / "in" / "notes.txt", b"")
    put_whole(bucket / "in" / ".hidden" / "d.png", b"")

    def named(text: str, **more: object) -> list[str]:
        jobs = find_jobs(Request((text,), output="out/", **more), SETTINGS)  # type: ignore[arg-type]
        return [str(each.input).removeprefix(f"{bucket}/in/") for each in jobs]

    assert named(f"{bucket}/in") == ["a.png", "b.png"]
    assert named(f"{bucket}/in/", recursive=True) == ["a.png", "b.png", "deep/c.png"]
    assert named(f"{bucket}/in/[ac].png") == ["a.png"]
    assert named(f"{bucket}/in/*/*.png") == ["deep/c.png"]
    assert named(f"{bucket}/in/**/*.png") == ["a.png", "b.png", "deep/c.png"]
    assert named(f"{bucket}/in/b.png") == ["b.png"]
    for missing in ("in/*.jpg", "in/z.png", "nothing/"):
        with pytest.raises(NoInputError, match=f"{bucket}/{missing[:4]}"):
            named(f"{bucket}/{missing}")


def test_shares_and_seeds_are_those_of_a_folder_on_disks(folder: Path, bucket: Remote) -> None:
    upload(folder / "in", bucket / "in")

    def shares(source: object) -> list[list[tuple[str | None, int]]]:
        asked = [Request((str(source),), "out/", recursive=True, shard=f"{k}/2") for k in (1, 2)]
        return [[(job.relative, job.seed) for job in find_jobs(each, SETTINGS)] for each in asked]

    assert shares(bucket / "in") == shares(folder / "in")


def test_outputs_beside_inputs_are_no_inputs(folder: Path, bucket: Remote) -> None:
    upload(folder / "in", bucket)
    asked = Request((str(bucket),), heatmap="auto")
    for _ in range(2):
        jobs = find_jobs(asked, SETTINGS)
        assert [str(job.output) for job in jobs] == [f"{bucket}/a_2x.png", f"{bucket}/b_2x.png"]
        list(run(jobs, SETTINGS, lambda _: DoubleModel(gaussian_denoiser)))
    assert {job.standing for job in find_jobs(asked, SETTINGS)} == {Standing.DONE}
    assert has_journal(bucket)


SIGNATURE = "5ec" + "12e7"  # which a traceback that shows this line would hold otherwise


def test_a_picture_of_the_web_and_its_signature(
    folder: Path, web: Web, bucket: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    """Redirected, with an extension that is not its own; what is secret in its address is told
    nobody: no message, no metadata, no journal."""
    caplog.set_level("DEBUG", logger="tileup")
    (folder / "really.jpg").write_bytes((folder / "in" / "a.png").read_bytes())
    web.answers["/moved.jpg"] = (302, {"Location": "/really.jpg"})
    made = make(f"{web.url}/moved.jpg?X-Amz-Signature={SIGNATURE}", bucket / "out", NAMED)
    assert became(made) == ["done"]
    assert web.asked[0].endswith(f"?X-Amz-Signature={SIGNATURE}")
    make("in/a.png", "out", NAMED)
    ours, theirs = open_picture(bucket / "out" / "moved.png"), open_picture("out/a.png")
    assert (ours.pixels == theirs.pixels).all()
    with pytest.raises(NoInputError, match=rf"^{web.url}/gone.png does not exist") as gone:
        make(f"{web.url}/gone.png?X-Amz-Signature={SIGNATURE}", bucket / "out")
    web.answers["/shut.png"] = (403, {})
    with pytest.raises(NoInputError, match=rf"^{web.url}/shut.png cannot be read: 403") as shut:
        make(f"{web.url}/shut.png?X-Amz-Signature={SIGNATURE}", bucket / "out")
    told = [caplog.text, str(made[0].to_dict()), str(gone.value), *_traceback(shut.value)]
    told += [each.decode("latin-1") for each in contents(bucket).values()]
    told += [each.read_text() for each in (bucket / "out" / IN_STORE).iterdir()]
    assert len(told) > 4
    for text in told:
        assert SIGNATURE not in text
        assert SECRET not in text


def _traceback(error: BaseException) -> list[str]:
    """As `-vv` shows it."""
    return traceback.format_exception(error)


def test_a_store_may_call_contents_as_it_likes(
    folder: Path, bucket: Remote, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record is written before its picture, with the ETag that is foreseen, and is put right."""
    monkeypatch.setattr(remote, "md5_of", lambda data: "0" * 32)
    assert became(make("in", bucket / "out")) == 2 * ["done"]
    gate.asked.clear()
    assert became(make("in", bucket / "out")) == 2 * ["skipped"]
    assert gate.count("GET", ".png") == 0, "the true ETag is on record"


def test_large_files_come_and_go_in_pieces(
    bucket: Remote, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, path = bytes(range(256)) * 5, bucket / "large"
    seen: list[bytes] = []

    def write(stream: IO[bytes]) -> None:
        stream.write(data[:700])
        stream.write(data[700:])

    write_whole(path, write, on_written=lambda written: seen.append(written.read_bytes()))
    assert seen == [data], "read before it is there"
    monkeypatch.setattr(stores, "_PIECE", 500)
    gate.fail(1, "GET", "/large")
    with held(path), path.open("rb") as stream:
        assert stream.seek(-3, 2) == len(data) - 3
        assert stream.read() == data[-3:]
        stream.seek(498)
        assert stream.read(4) == data[498:502]
    assert gate.count("GET", "/large") == 4, "three pieces, one of them twice"


def test_what_came_with_the_beginning_is_not_fetched_again(
    folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a web server, all comes at once."""
    monkeypatch.setattr("tileup.storage.contents._HEAD", 8192)
    (folder / "large").write_bytes(data := bytes(range(256)) * 100)
    with place(f"{web.url}/large").open("rb") as stream:
        assert stream.read(10) == data[:10]
        assert stream.read() == data[10:]
    assert web.asked.count("GET /large") == 1


def test_a_folder_of_a_store_is_no_picture(folder: Path, bucket: Remote) -> None:
    upload(folder / "in", bucket / "in")
    with pytest.raises(InputError, match=f"^{bucket}/in is a folder, not a picture; name a file"):
        open_picture(bucket / "in")


def test_a_web_server_is_asked_for_nothing_beside_a_picture(folder: Path, web: Web) -> None:
    """One that lets single files be had by signatures refuses all others."""
    web.answers[f"/in/{IN_STORE}"] = (403, {})
    (found,) = find_inputs(Request((f"{web.url}/in/a.png",)))
    assert (found.path, found.own) == (place(f"{web.url}/in/a.png"), False)
    assert {each.partition(" ")[2] for each in web.asked} == {"/in/a.png"}


def test_a_connection_that_breaks_is_made_again(folder: Path, web: Web) -> None:
    web.cut += 2 * ["/in/a.png"]
    assert became(make(f"{web.url}/in/a.png", "out")) == ["done"]
    assert web.asked.count("GET /in/a.png") == 3
    make("in/a.png", "local")
    assert contents(Path("out")) == contents(Path("local"))


def test_more_bytes_than_a_picture_takes_are_not_fetched(
    folder: Path, web: Web, bucket: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_to_file, "_SMALLEST", 0)
    monkeypatch.setattr(file_to_file, "_PER_PIXEL", 1)
    few = replace(SETTINGS, max_input_pixels=500)
    size = (folder / "in" / "a.png").stat().st_size
    assert size > few.max_input_pixels
    put_whole(bucket / "a.png", (folder / "in" / "a.png").read_bytes())
    for source in (f"{web.url}/in/a.png", f"{bucket}/a.png"):
        (told,) = became(make(source, "out", few))
        assert told == (
            f"{source} has more bytes than a picture within the limit; "
            f"raise --max-input-pixels if it is meant to be this large"
        )
        assert became(make(source, "out", replace(few, max_input_pixels=size))) == ["done"]
        Path("out/a_2x.png").unlink()


def test_what_a_node_must_have_may_lie_in_a_store(
    folder: Path, bucket: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "versions", dict)
    model = bucket / "m.safetensors"
    put_whole(model, b"one")
    put_whole(bucket / "in" / "a.png", b"")
    files = {model.url: contents_of(given_file(model.url))}
    jobs = find_jobs(Request((f"{bucket}/in/a.png",), f"{bucket}/out/"), SETTINGS)
    with preflight.probes(jobs) as probe:
        here = Here({}, folder, files, preflight.homes(jobs), jobs[0].input, probe)
        assert preflight.differences(here) == []
        wrong = replace(here, files={model.url: "0f"}, source=bucket / "b.png", probe="other")
        assert preflight.differences(wrong) == [
            f"{model} is another file",
            f"the input {bucket}/b.png cannot be read",
            f"the output folder {bucket}/out is another one, or not there",
        ]
    assert files_below(bucket / "out", deep=True) == []


def test_places_that_cannot_be_written_to(folder: Path, web: Web) -> None:
    with pytest.raises(UsageError, match="a web address is only read; give -o"):
        find_jobs(Request((f"{web.url}/in/a.png",)), SETTINGS)
    with pytest.raises(UsageError, match="a web address is only read"):
        make("in", f"{web.url}/out")
    with pytest.raises(UsageError, match=r"ftp://h/x: of URLs, tileup takes s3://, gs://, https:"):
        make("ftp://h/x", "out")
    with pytest.raises(UsageError, match=r"^s3://b/x: keys do not go into a URL"):
        make("s3://key:secret@b/x", "out")
