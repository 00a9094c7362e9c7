"""A run with several workers: who draws what, what is on record, and what is tried again.

The run alone takes locks and writes journals. A picture whose worker was lost is tried once more
in another process, with nothing beside it, so that it is known which one is to blame.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tileup.contracts import Step
from tileup.engine.desk import Busy, Desk, Settled, known
from tileup.engine.hands import Hands
from tileup.engine.messages import (
    Broken,
    Done,
    FromWorker,
    Loaded,
    LogLine,
    Lost,
    PictureWritten,
    Recorded,
    Stop,
    WorkerEvent,
    WorkerIdle,
)
from tileup.engine.outcomes import Begun, ByWorker, Finished, Loading, OnEvent, Outcome
from tileup.engine.request import Job
from tileup.engine.seats import Seat
from tileup.errors import OutOfMemoryError, TileupError, WorkerLostError
from tileup.settings.values import Settings

log = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Pictures that a worker has at once: one is drawn, one is read or written meanwhile."""
TRIES = 2
"""How often a picture may take a worker with it."""
NODES = 10
"""How often it may be on a node that goes: no fault of its own, but it may never end so."""
_IN_VAIN = 3
"""Workers lost one after the other before they drew anything: then it is no picture's fault.
Among workers that draw, one that is lost so often before it could is not started again."""
_POLL = 0.1
"""Seconds between looks at a lock that another process has."""


def share_out(
    jobs: Sequence[Job], settings: Settings, hands: Hands, on_event: OnEvent, fail_fast: bool
) -> Iterator[Outcome]:
    """Have workers make pictures; yields what became of each, in order.

    Args:
        jobs: of a batch: each has an input and an output that are files.
        settings: of all of them.
        hands: the workers.
        on_event: told what happens, in the caller's thread.
        fail_fast: whether the first picture that fails ends the run.

    Raises:
        ModelError: the model cannot be loaded. A picture that fails raises nothing.
        WorkerLostError: workers end before they draw anything.
    """
    crew = _Crew(jobs, settings, hands, on_event, fail_fast)
    try:
        yield from crew.outcomes()
    finally:
        crew.close()


class _Crew:
    def __init__(
        self,
        jobs: Sequence[Job],
        settings: Settings,
        hands: Hands,
        on_event: OnEvent,
        fail_fast: bool,
    ) -> None:
        self._hands = hands
        self._on_event = on_event
        self._fail_fast = fail_fast
        self._desk = Desk(settings)
        self._seats = [Seat() for _ in range(hands.count)]
        self._turns = [
            Begun(job, number, len(jobs), alone=False) for number, job in enumerate(jobs, 1)
        ]
        self._waiting = deque(turn for turn in self._turns if not turn.job.finished)
        self._returned: deque[Begun] = deque()
        """Locked already; their worker was lost before it took them up."""
        self._suspects: deque[Begun] = deque()
        """Locked already; each may have taken its worker with it."""
        self._short: deque[Begun] = deque()
        """Locked already; memory did not suffice for them beside others."""
        self._busy: list[Begun] = []
        self._polled = 0.0
        self._losses: Counter[int] = Counter()
        self._nodes: Counter[int] = Counter()
        self._in_vain = 0
        self._vain: Counter[int] = Counter()
        self._proven = False
        self._known: dict[int, Outcome] = {}
        self._told = 0
        self._over = False

    def outcomes(self) -> Iterator[Outcome]:
        """All of them, in order; with `fail_fast`, those that are known when one fails."""
        for turn in self._turns:
            if turn.job.finished:
                self._settle(turn, known(turn.job))
                yield from self._in_order()
        while len(self._known) < len(self._turns) and not self._over:
            self._hand_out()
            self._listen()
            yield from self._in_order()
        if self._over:
            self._leave()
            yield from (
                self._known[number] for number in sorted(self._known) if number > self._told
            )

    def _in_order(self) -> Iterator[Outcome]:
        while (outcome := self._known.get(self._told + 1)) is not None:
            self._told += 1
            yield outcome

    def _hand_out(self) -> None:
        """Give every worker that can take more what there is."""
        if self._busy and not self._waiting and time.monotonic() > self._polled + _POLL:
            self._polled = time.monotonic()
            self._waiting, self._busy = deque(self._busy), []
        for worker, seat in enumerate(self._seats):
            if not seat.there and self._vain[worker] < _IN_VAIN and self._wants_more():
                seat = self._start(worker)
            while not self._over and (turn := self._turn_for(seat)) is not None:
                self._give(worker, turn)
        if self._is_short():
            self._draw_alone()

    def _start(self, worker: int) -> Seat:
        self._seats[worker] = seat = Seat(there=True)
        self._hands.start(worker)
        return seat

    def _give(self, worker: int, turn: Begun) -> None:
        assert turn.job.output is not None
        self._seats[worker].held[turn.job.output] = turn
        self._hands.give(worker, turn)

    def _wants_more(self) -> bool:
        """Whether pictures wait that a worker more would help with."""
        open = len(self._waiting) + len(self._returned) + len(self._suspects)
        coming = sum(seat.there and not seat.held for seat in self._seats)
        return open > coming

    def _turn_for(self, seat: Seat) -> Begun | None:
        """What a worker is given next, if it can take more."""
        if not (seat.there and seat.ready) or seat.leaving:
            return None
        if not seat.held and self._suspects:
            return self._suspects.popleft()
        if any(self._losses[turn.number] or turn.alone for turn in seat.held.values()):
            return None
        if len(seat.held) >= (1 if self._fail_fast else IN_FLIGHT):
            return None
        if seat.held and len(self._waiting) <= len(self._seats):
            return None  # the last ones wait for whoever is free first
        return self._next()

    def _next(self) -> Begun | None:
        """The next picture, locked; those that need no worker are settled on the way."""
        if self._returned:
            return self._returned.popleft()
        while self._waiting and not self._over:
            turn = self._waiting.popleft()
            taken = self._desk.take(turn.job)
            if isinstance(taken, Settled):
                self._settle(turn, taken.outcome)
            elif isinstance(taken, Busy):
                self._busy.append(turn)
            else:
                return replace(turn, job=taken)
        return None

    def _is_short(self) -> bool:
        """Whether nothing is left but pictures that want the memory for themselves."""
        others = self._waiting or self._busy or self._returned or self._suspects
        held = any(seat.held for seat in self._seats)
        return bool(self._short) and not (others or held)

    def _draw_alone(self) -> None:
        """Keep one worker, and give it the next picture that memory did not suffice for."""
        there = [(worker, seat) for worker, seat in enumerate(self._seats) if seat.there]
        if not there:
            self._start(min(range(len(self._seats)), key=lambda each: self._vain[each]))
            return
        for worker, seat in there[1:]:
            if not seat.leaving:
                self._dismiss(worker, seat)
        worker, seat = there[0]
        if len(there) == 1 and seat.ready:
            self._give(worker, replace(self._short.popleft(), alone=True))

    def _listen(self) -> None:
        """Hear what has come, or wait a moment for it."""
        heard = self._hands.hear(_POLL)
        while heard is not None:
            self._hear(*heard)
            heard = None if self._over else self._hands.hear(0)

    def _hear(self, worker: int, message: FromWorker) -> None:
        seat = self._seats[worker]
        match message:
            case WorkerIdle():
                seat.ready = True
            case WorkerEvent(event):
                seat.loading = isinstance(event, Loading)
                if isinstance(event, Step):
                    self._drew(worker)
                elif isinstance(event, Begun):
                    seat.begun.add(event.number)
                self._on_event(ByWorker(worker, event))
            case Loaded():
                seat.loading = False
            case PictureWritten(output, record):
                error = self._desk.record(seat.held[output].job, record)
                self._hands.give(worker, Recorded(output, error))
            case Done(outcome):
                assert outcome.job.output is not None
                seat.loading = False
                if outcome.error is None:
                    self._drew(worker)
                self._done(seat.held.pop(outcome.job.output), outcome)
            case LogLine(name, level, text):
                logging.getLogger(name).log(level, "%s", text)
            case Broken(error):
                raise _with_advice(error)
            case Lost():
                self._lost(worker, message)

    def _done(self, turn: Begun, outcome: Outcome) -> None:
        if isinstance(outcome.error, OutOfMemoryError) and not turn.alone:
            log.info("%s is drawn once more with nothing beside it", turn.job.shown_input)
            self._short.append(turn)
        elif outcome.error is not None:
            self._settle(turn, self._desk.failed(turn.job, outcome.error))
        else:
            self._desk.done(turn.job)
            self._settle(turn, outcome)

    def _drew(self, worker: int) -> None:
        """A worker has a model that works."""
        self._seats[worker].drawn = self._proven = True
        self._in_vain = self._vain[worker] = 0

    def _lost(self, worker: int, lost: Lost) -> None:
        """A worker has ended: on our word, before it could draw, or with what it had."""
        seat = self._seats[worker]
        seat.there = False
        held, seat.held = list(seat.held.values()), {}
        if seat.leaving:
            return
        log.info("a worker was lost: %s", lost.how)
        idle = seat.loading or not seat.ready
        if seat.drawn:
            self._in_vain = 0
        elif idle or not lost.memory or any(turn.alone for turn in held):
            self._in_vain += 1  # else what was beside it may have taken the memory
        if idle:
            self._returned.extend(held)
            self._vain[worker] += 1
        else:
            for turn in held:
                self._bereaved(turn, lost, begun=turn.number in seat.begun)
        if self._nobody_can():
            raise WorkerLostError(
                f"{_IN_VAIN} workers in a row ended before they drew anything ({lost.how}); "
                f"if memory does not suffice for so many models, give fewer --workers"
            )

    def _bereaved(self, turn: Begun, lost: Lost, begun: bool) -> None:
        """What becomes of a picture whose worker was lost."""
        # Workers are ended for want of memory several at once, and heard of one by one.
        if lost.node or (lost.memory and turn.alone and not begun):
            self._stranded(turn, lost.how)
        elif lost.memory:
            self._starved(turn, lost.how)
        else:
            self._suspect(turn, lost.how)

    def _starved(self, turn: Begun, how: str) -> None:
        """Draw a picture at the end with nothing beside it, as others may have taken the memory;
        or give it up where that was so already."""
        if not turn.alone:
            log.warning(
                "%s is tried again with nothing beside it: its worker was %s",
                turn.job.shown_input,
                how,
            )
            self._short.append(turn)
            return
        error = OutOfMemoryError(
            f"given up after {TRIES} tries: the process that made it was {how} each time, also "
            f"with nothing beside it; try a smaller --batch, --window or --scale"
        )
        self._settle(turn, self._desk.failed(turn.job, error))

    def _stranded(self, turn: Begun, how: str) -> None:
        """Give a picture to another worker that is not to blame, as if nothing had been."""
        self._nodes[turn.number] += 1
        if self._nodes[turn.number] < NODES:
            log.warning("%s is tried again: its worker was %s", turn.job.shown_input, how)
            self._returned.append(turn)
        else:
            self._settle(turn, self._desk.failed(turn.job, _given_up(how, NODES)))

    def _suspect(self, turn: Begun, how: str) -> None:
        """Try a picture again that may have taken its worker with it, or give it up."""
        self._losses[turn.number] += 1
        # As long as nothing was drawn at all, it may be the model's fault.
        if self._losses[turn.number] < TRIES or not self._proven:
            log.warning("%s is tried again: its worker was %s", turn.job.shown_input, how)
            self._suspects.append(turn)
        else:
            self._settle(turn, self._desk.failed(turn.job, _given_up(how, TRIES)))

    def _nobody_can(self) -> bool:
        """Whether workers end before they draw, so that it is no use to start more."""
        if not self._proven:
            return self._in_vain >= _IN_VAIN
        return all(self._vain[worker] >= _IN_VAIN for worker in range(len(self._seats)))

    def _settle(self, turn: Begun, outcome: Outcome) -> None:
        self._known[turn.number] = outcome
        self._over |= self._fail_fast and outcome.is_new_failure
        self._on_event(Finished(outcome))

    def _dismiss(self, worker: int, seat: Seat) -> None:
        """Have a worker finish what it writes, drop the rest and end."""
        seat.leaving = True
        if seat.ready:
            self._hands.give(worker, Stop())
        else:
            self._hands.end(worker)

    def _leave(self) -> None:
        """Let all workers finish what they write and tell of it; then raise what telling raised."""
        refused: BaseException | None = None
        for worker, seat in enumerate(self._seats):
            if seat.there and not seat.leaving:
                self._dismiss(worker, seat)
        while any(seat.there for seat in self._seats):
            heard = self._hands.hear(_POLL)
            if heard is not None and isinstance(heard[1], PictureWritten | Done | Lost):
                try:
                    self._hear(*heard)
                except BaseException as error:  # noqa: BLE001 -- the others still write
                    refused = refused or error
        if refused is not None:
            raise refused

    def close(self) -> None:
        """End all workers, and give all locks back."""
        try:
            self._leave()
        finally:
            self._hands.close()
            self._desk.close()


def _given_up(how: str, tries: int) -> TileupError:
    return WorkerLostError(
        f"given up after {tries} tries: the process that made it was {how} each time "
        f"(--retry-failed tries it again, --workers 1 in one process)"
    )


def _with_advice(error: TileupError) -> TileupError:
    """An error of loading, where fewer workers may help."""
    if isinstance(error, OutOfMemoryError):
        return OutOfMemoryError(f"{error}; or fewer --workers, each of which loads the model")
    return error
