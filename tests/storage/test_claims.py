"""Claims take the place of locks where there are none, and objects that of a file's end."""

from __future__ import annotations

import threading

import pytest

from tests.storage.conftest import Gate
from tileup.engine import claims, store_journal
from tileup.engine.claims import FOLDER, Claims
from tileup.engine.journal import Record, read_record
from tileup.engine.store_journal import IN_STORE, StoreJournal
from tileup.errors import OutputError
from tileup.storage.remote import Remote, files_below, takes_turns


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("EVERY", 0.05), ("EXPIRES", 0.5), ("AGAIN", 0.0)):
        monkeypatch.setattr(claims, name, value)


def test_one_run_at_a_time(bucket: Remote) -> None:
    output, other = bucket / "a.png", bucket / "b.png"
    first, second = Claims(), Claims()
    assert first.take(output)
    assert not second.take(output)
    assert second.take(other)
    first.give_back(output)
    assert second.take(output)
    assert not first.take(output)
    second.close()
    assert files_below(bucket, deep=True) == []


def test_of_many_at_once_one_is_first(bucket: Remote) -> None:
    output = bucket / "a.png"
    runs, taken = [Claims() for _ in range(6)], list[Claims]()
    threads = [
        threading.Thread(target=lambda run=run: run.take(output) and taken.append(run))
        for run in runs
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(taken) == 1
    for each in runs:
        each.close()


def test_a_claim_lasts_while_its_owner_is_there_and_no_longer(bucket: Remote) -> None:
    output = bucket / "a.png"
    owner, other = Claims(), Claims()
    assert owner.take(output)
    quiet = threading.Event()
    for _ in range(12):  # longer than a claim lasts by itself
        assert not other.take(output)
        quiet.wait(0.1)
    owner._over.set()  # as if it were killed: it shows no more that it is there
    assert owner._beating is not None
    owner._beating.join()
    assert not other.take(output)
    for _ in range(100):
        if other.take(output):
            break
        quiet.wait(0.05)
    else:
        raise AssertionError("a claim of nobody lasted")
    assert [each.name for each in files_below(bucket / FOLDER, deep=True)] == ["000001"]
    third = Claims()
    assert not third.take(output)
    other.close()
    assert third.take(output)
    third.close()


def test_a_store_without_conditional_writes_is_noticed(
    bucket: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert takes_turns(bucket)
    monkeypatch.setattr(Remote, "touch", lambda self, **_: None)
    assert not takes_turns(bucket)


def record(output: str, outcome: str = "done") -> Record:
    return Record(output, "in/a.png", outcome, "0f", None)


def test_records_of_two_runs_are_one_journal(
    bucket: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_journal, "_FULL", 2)
    ours, theirs = StoreJournal(bucket), StoreJournal(bucket)
    for name in ("a", "b", "c"):
        ours.append(record(name, "failed"))
    assert theirs.latest(bucket / "a") == record("a", "failed")
    theirs.append(record("a"))
    theirs.append(record("d"))
    assert ours.latest(bucket / "a") == record("a")
    assert [each.output for each in StoreJournal(bucket).records()] == ["a", "b", "c", "d"]
    assert StoreJournal(bucket).latest(bucket / "a") == record("a")
    names = [each.name for each in files_below(bucket / IN_STORE, deep=False)]
    assert len(names) == 3, "two records in each object"


def test_the_later_record_counts_whatever_clocks_say(
    bucket: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, behind = StoreJournal(bucket), StoreJournal(bucket)
    ahead.append(record("a", "failed"))
    monkeypatch.setattr(store_journal.time, "time_ns", lambda: 1)
    assert behind.latest(bucket / "a") == record("a", "failed")
    behind.append(record("a"))
    for journal in (ahead, behind, StoreJournal(bucket)):
        assert journal.latest(bucket / "a") == record("a")


def test_a_record_that_cannot_be_written_is_not_there(bucket: Remote, gate: Gate) -> None:
    journal = StoreJournal(bucket)
    gate.fail(1, "PUT", IN_STORE, status=403)
    with pytest.raises(OutputError, match=r"\.tileup-journal cannot be written \(403 "):
        journal.append(record("a"))
    assert journal.records() == []
    journal.append(record("b"))
    (line,) = files_below(bucket / IN_STORE, deep=False)[0].read_bytes().splitlines()
    assert read_record(line) == record("b")
