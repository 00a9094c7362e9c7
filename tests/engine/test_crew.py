"""Who is given what: workers that are played by the test, so that every order of events can be."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tileup.engine.crew import IN_FLIGHT, NODES, share_out
from tileup.engine.jobs import find_jobs
from tileup.engine.journal import Journal, Record, key_of
from tileup.engine.messages import (
    Done,
    FromWorker,
    Lost,
    PictureWritten,
    Recorded,
    Stop,
    ToWorker,
    WorkerEvent,
    WorkerIdle,
)
from tileup.engine.outcomes import Begun, Loading, Outcome
from tileup.engine.request import Job, Request
from tileup.errors import ExitCode, OutOfMemoryError, OutputError, WorkerLostError
from tileup.settings.values import Settings

COUNT = 12


class Played:
    """Workers that say what a rule makes of each picture they are at, in an order by chance."""

    def __init__(self, count: int, rule: Callable[[Begun], str], seed: int = 0) -> None:
        self.count = count
        self.rule = rule
        self.rng = random.Random(seed)
        self.held: dict[int, list[Begun]] = {}
        self.words: deque[tuple[int, FromWorker]] = deque()
        self.most = 0
        self.given: list[tuple[int, str, tuple[str, ...]]] = []
        self.closed = False

    def start(self, worker: int) -> None:
        assert worker not in self.held, "it was there already"
        self.held[worker] = []
        self.words.append((worker, WorkerIdle()))

    def give(self, worker: int, message: ToWorker) -> None:
        if worker not in self.held:
            return  # it is lost, and that was not heard yet
        if isinstance(message, Begun):
            beside = tuple(name(each.job) for each in self.held[worker])
            self.given.append((worker, name(message.job), beside))
            self.held[worker].append(message)
            self.most = max(self.most, len(self.held[worker]))
        elif isinstance(message, Stop):
            self.lose(worker, "ended")
        else:
            assert isinstance(message, Recorded)
            self.recorded(worker, message)

    def recorded(self, worker: int, message: Recorded) -> None:
        (turn,) = [each for each in self.held[worker] if each.job.output == message.output]
        self.held[worker].remove(turn)
        failed = message.error is not None
        outcome = Outcome(turn.job, "failed" if failed else "done", error=message.error)
        if not failed:
            message.output.write_bytes(b"made")
        self.words.append((worker, Done(outcome)))

    def lose(self, worker: int, how: str) -> None:
        self.words = deque(each for each in self.words if each[0] != worker)
        self.words.append((worker, Lost(how)))
        del self.held[worker]

    def hear(self, seconds: float) -> tuple[int, FromWorker] | None:
        busy = [worker for worker, held in self.held.items() if held]
        if not self.words and busy:
            self.go_on(self.rng.choice(busy))
        return self.words.popleft() if self.words else None

    def go_on(self, worker: int) -> None:
        turn = self.held[worker][0]
        assert turn.job.output is not None
        assert turn.job.home is not None
        self.words.append((worker, WorkerEvent(turn)))
        said = self.rule(turn)
        if said == "starve":  # Ray ends several workers at once
            for each in [*self.held]:
                self.words.append((each, Lost("ended for want of memory", memory=True)))
            self.held.clear()
        elif said in ("kill", "node"):
            self.words.append((worker, Lost("killed", node=said == "node")))
            del self.held[worker]
        elif said == "memory":
            self.held[worker].pop(0)
            error = OutOfMemoryError("too much")
            self.words.append((worker, Done(Outcome(turn.job, "failed", error=error))))
        else:
            key = key_of(turn.job.output, turn.job.home)
            record = Record(key, turn.job.shown_input, "done", turn.job.fingerprint, None)
            self.words.append((worker, PictureWritten(turn.job.output, record)))

    def end(self, worker: int) -> None:
        self.lose(worker, "killed")

    def close(self) -> None:
        self.closed = True
        assert not self.held


def name(job: Job) -> str:
    assert job.input is not None
    return job.input.stem


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    monkeypatch.chdir(tmp_path)
    for number in range(COUNT):
        Path("in").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(f"in/{number}.png")
    Path("out").mkdir()
    return find_jobs(Request(("in",), output="out"), Settings())


def draw(jobs: list[Job], hands: Played, fail_fast: bool = False) -> list[Outcome]:
    try:
        return list(share_out(jobs, Settings(), hands, lambda event: None, fail_fast))
    finally:
        assert hands.closed
        assert not list(Path("out").glob(".*.lock"))


def outcomes(found: list[Outcome]) -> dict[str, str]:
    return {name(each.job): each.outcome for each in found}


@pytest.mark.parametrize("count", [1, 2, 3, 20])
@pytest.mark.parametrize("seed", range(4))
def test_every_picture_is_drawn_once_and_no_worker_has_more_than_two(
    jobs: list[Job], count: int, seed: int
) -> None:
    hands = Played(count, lambda turn: "done", seed)
    found = draw(jobs, hands)
    assert [each.job.input for each in found] == [job.input for job in jobs]
    assert {each.outcome for each in found} == {"done"}
    assert sorted(each for _, each, _ in hands.given) == sorted(map(name, jobs))
    assert hands.most <= IN_FLIGHT
    assert len({worker for worker, _, _ in hands.given}) <= min(count, COUNT)
    assert len(Journal(Path("out")).records()) == COUNT


def test_the_last_pictures_go_to_whoever_is_free(jobs: list[Job]) -> None:
    hands = Played(3, lambda turn: "done")
    draw(jobs, hands)
    assert hands.most == IN_FLIGHT
    assert all(not beside for _, _, beside in hands.given[-3:])


@pytest.mark.parametrize("seed", range(8))
def test_poison_is_given_up_alone_and_its_neighbours_are_not(jobs: list[Job], seed: int) -> None:
    hands = Played(3, lambda turn: "kill" if name(turn.job) in "37" else "done", seed)
    found = outcomes(draw(jobs, hands))
    assert {each for each, outcome in found.items() if outcome == "failed"} == {"3", "7"}
    for poison in "37":
        times = [beside for _, each, beside in hands.given if each == poison]
        assert len(times) == 2
        assert times[1] == (), "tried again with nothing beside it"
    errors = {each.output: each.error for each in Journal(Path("out")).records() if each.error}
    assert sorted(errors) == ["3_2x.png", "7_2x.png"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("times", "became"), [(NODES - 1, "done"), (NODES, "failed")])
def test_a_picture_is_not_to_blame_for_a_node_that_goes(
    jobs: list[Job], seed: int, times: int, became: str
) -> None:
    """As machines do that can be taken back at any moment; for ever it is not tried."""
    fates = [*["node"] * times, "kill"]

    def rule(turn: Begun) -> str:
        return fates.pop(0) if fates and name(turn.job) == "5" else "done"

    found = outcomes(draw(jobs, Played(2, rule, seed)))
    assert found.pop("5") == became
    assert set(found.values()) == {"done"}
    assert fates == ([] if became == "done" else ["kill"]), "one kill besides is not too many"


@pytest.mark.parametrize("seed", range(8))
def test_workers_that_are_lost_by_chance_lose_no_picture(jobs: list[Job], seed: int) -> None:
    lost: set[str] = set()

    def rule(turn: Begun) -> str:
        if name(turn.job) in "0258" and name(turn.job) not in lost:
            lost.add(name(turn.job))
            return "kill"
        return "done"

    found = outcomes(draw(jobs, Played(2, rule, seed)))
    assert set(found.values()) == {"done"}
    assert len(Path("out/.tileup-journal.jsonl").read_text().splitlines()) == COUNT


def test_memory_that_does_not_suffice_beside_others_is_had_at_the_end(jobs: list[Job]) -> None:
    seen: list[tuple[str, bool]] = []

    def rule(turn: Begun) -> str:
        seen.append((name(turn.job), turn.alone))
        return "memory" if name(turn.job) in ("1", "4") and not turn.alone else "done"

    hands = Played(3, rule)
    assert set(outcomes(draw(jobs, hands)).values()) == {"done"}
    assert sorted(seen[-2:]) == [("1", True), ("4", True)]
    assert not any(alone for _, alone in seen[:-2])
    assert len({worker for worker, _, _ in hands.given[-2:]}) == 1


def test_memory_that_never_suffices_is_a_failure(jobs: list[Job]) -> None:
    found = draw(jobs, Played(2, lambda turn: "memory" if name(turn.job) == "1" else "done"))
    (failed,) = [each for each in found if each.outcome == "failed"]
    assert isinstance(failed.error, OutOfMemoryError)


@pytest.mark.parametrize("seed", range(8))
def test_workers_ended_for_want_of_memory_blame_nobody_beside(jobs: list[Job], seed: int) -> None:
    """Two pictures that are too large beside others, and one that always is."""
    tried: list[str] = []

    def rule(turn: Begun) -> str:
        which = name(turn.job)
        tried.append(which)
        return "starve" if which == "7" or (which in "25" and not turn.alone) else "done"

    found = draw(jobs, Played(3, rule, seed))
    (failed,) = [each for each in found if each.outcome == "failed"]
    assert name(failed.job) == "7"
    assert isinstance(failed.error, OutOfMemoryError)
    assert "given up after 2 tries" in str(failed.error)
    assert tried.count("7") == 2
    assert max(map(tried.count, tried)) == 2
    assert len(Path("out/.tileup-journal.jsonl").read_text().splitlines()) == COUNT
    (record,) = [each for each in Journal(Path("out")).records() if each.error]
    assert (record.output, record.code) == ("7_2x.png", ExitCode.OUT_OF_MEMORY)


def test_what_is_drawn_alone_is_drawn_where_workers_last(jobs: list[Job]) -> None:
    """As after a node that can take no more has ended the one that was kept for it."""
    starts, alone = list[int](), list[str]()

    def rule(turn: Begun) -> str:
        if turn.alone:
            alone.append(name(turn.job))
        fates = {"1": "starve"} if turn.alone else {"1": "starve", "8": "memory"}
        return fates.get(name(turn.job), "done")

    def start(worker: int) -> None:
        starts.append(worker)
        assert len(starts) < 20
        inner(worker)
        if worker == 0 and alone:
            hands.lose(worker, "left out")

    hands = Played(2, rule)
    inner, hands.start = hands.start, start  # type: ignore[method-assign]
    found = outcomes(draw(jobs, hands))
    assert found.pop("1") == "failed"
    assert set(found.values()) == {"done"}
    assert alone == ["1", "8"]


def test_a_record_that_cannot_be_written_is_one_failure(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Journal.append

    def append(journal: Journal, record: Record) -> None:
        if record.output == "5_2x.png" and record.outcome == "done":
            raise OutputError("no space")
        inner(journal, record)

    monkeypatch.setattr(Journal, "append", append)
    found = outcomes(draw(jobs, Played(2, lambda turn: "done")))
    assert {each for each, outcome in found.items() if outcome == "failed"} == {"5"}
    assert not Path("out/5_2x.png").exists()


def test_the_first_failure_stops_what_was_not_begun(jobs: list[Job]) -> None:
    hands = Played(2, lambda turn: "kill" if name(turn.job) == "1" else "done")
    found = outcomes(draw(jobs, hands, fail_fast=True))
    assert list(found.values()).count("failed") == 1
    assert len(found) < COUNT
    assert hands.most == 1


def test_a_place_where_no_worker_lasts_is_left_alone(jobs: list[Job]) -> None:
    """As a node whose model cannot be read: others go on, and no picture is given up for it."""
    hands, starts = Played(3, lambda turn: "done"), list[int]()
    inner = hands.start

    def start(worker: int) -> None:
        starts.append(worker)
        inner(worker)
        if worker == 1:
            hands.lose(worker, "left out")

    hands.start = start  # type: ignore[method-assign]
    assert set(outcomes(draw(jobs, hands)).values()) == {"done"}
    assert 1 <= starts.count(1) <= 3
    assert {worker for worker, _, _ in hands.given} == {0, 2}


def test_a_model_that_kills_as_it_is_loaded_blames_no_picture(jobs: list[Job]) -> None:
    hands, loads = Played(2, lambda turn: "done"), list[int]()
    inner = hands.go_on

    def go_on(worker: int) -> None:
        loads.append(worker)
        if worker == 1 or len(loads) == 1:
            hands.words.append((worker, WorkerEvent(Loading())))
            hands.words.append((worker, Lost("killed")))
            del hands.held[worker]
        else:
            inner(worker)

    hands.go_on = go_on  # type: ignore[method-assign]
    assert set(outcomes(draw(jobs, hands)).values()) == {"done"}
    assert len(Path("out/.tileup-journal.jsonl").read_text().splitlines()) == COUNT


def test_workers_that_never_draw_end_the_run(jobs: list[Job]) -> None:
    hands = Played(2, lambda turn: "done")
    hands.go_on = lambda worker: hands.lose(worker, "killed")  # type: ignore[method-assign]
    with pytest.raises(WorkerLostError, match="3 workers in a row"):
        draw(jobs, hands)
    assert not Path("out/.tileup-journal.jsonl").exists(), "no picture is to blame"
