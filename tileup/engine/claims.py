"""One run at a time for each output in a store, where no file can be locked.

A claim is a small object that only one of several can be the first to write (If-None-Match). Its
owner writes it again every few seconds; one that stays as it is for a minute is of a run that has
ended, and the next to want the output claims it under the next number. No clocks are compared: who
waits looks at the claim for that minute itself.

A run that stood still for longer than that, and goes on, makes what another has claimed meanwhile:
both write the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable

from tileup.errors import OutputError
from tileup.storage.patience import StoreError
from tileup.storage.remote import Remote, contents_below, put_whole
from tileup.storage.stores import Info

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds after which a claim is written again."""
EXPIRES = 60.0
"""Seconds without that after which it counts for nothing."""
AGAIN = 2.0
"""Seconds between two looks at a claim of another run."""
FOLDER = ".tileup-claims"
"""Name of the folder, beside the outputs, that their claims lie in."""


IsDead = Callable[[Remote, Info], bool]


class Claims:
    """All claims of a run, and what it has seen of those of others. Its threads share it."""

    def __init__(self) -> None:
        self._run = uuid.uuid4().hex
        self._held: dict[Remote, Claim] = {}
        self._seen: dict[Remote, tuple[Info, float]] = {}
        self._asked: dict[Remote, float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beating: threading.Thread | None = None

    def take(self, output: Remote) -> bool:
        """Claim an output; False while another run has it.

        Raises:
            OutputError: there is no writing there.
        """
        now = time.monotonic()
        if now < self._asked.get(output, -AGAIN) + AGAIN:
            return False
        self._asked[output] = now
        claim = Claim(output, self._run)
        try:
            if not claim.acquire(self._is_dead):
                return False
        except OSError as error:
            raise OutputError(f"cannot write to {output.parent}: {error.strerror}") from error
        with self._lock:
            self._held[output] = claim
            if self._beating is None:
                self._beating = threading.Thread(
                    target=self._beat, name="tileup-claims", daemon=True
                )
                self._beating.start()
        return True

    def _is_dead(self, claim: Remote, content: Info) -> bool:
        """Whether a claim has been as it is for long enough."""
        seen, since = self._seen.get(claim, (None, 0.0))
        if seen != content:
            self._seen[claim] = content, time.monotonic()
            return False
        return time.monotonic() >= since + EXPIRES

    def _beat(self) -> None:
        while not self._over.wait(EVERY):
            with self._lock:
                held = list(self._held.values())
            for claim in held:
                claim.beat()

    def give_back(self, output: Remote) -> None:
        """Let others have an output, where it was claimed."""
        with self._lock:
            claim = self._held.pop(output, None)
        if claim is not None:
            claim.release()
            self._asked.pop(output, None)

    def close(self) -> None:
        """Give back all of them."""
        self._over.set()
        for output in list(self._held):
            self.give_back(output)


class Claim:
    """The right to make one output in a store."""

    def __init__(self, output: Remote, run: str) -> None:
        """Args:
        output: that is to be made.
        run: what no other run is called.
        """
        name = hashlib.blake2b(output.url.encode(), digest_size=8).hexdigest()
        self.folder = output.parent / FOLDER / name
        self._run = run
        self._beats = 0
        self._mine: Remote | None = None
        self._lock = threading.Lock()

    def acquire(self, is_dead: IsDead) -> bool:
        """Claim it; False while another run has it.

        Args:
            is_dead: whether a claim, told with what its store says of it, is of a run that has
                ended.

        Raises:
            StoreError: there is no writing there.
        """
        there = contents_below(self.folder)
        ended = [is_dead(claim, content) for claim, content in there.items()]  # of each, its minute
        if not all(ended):
            return False
        number = 1 + max((_number(claim) for claim in there), default=-1)
        mine = self.folder / f"{number:06}"
        try:
            put_whole(mine, self._content(), only_new=True)
        except StoreError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        # One that came under another number while this one was written has seen this one, or is
        # seen here: so that two never think that they were first.
        found = contents_below(self.folder)
        if any(there.get(claim) != content for claim, content in found.items() if claim != mine):
            mine.unlink()
            return False
        for claim in there:
            claim.unlink()
        self._mine = mine
        return True

    def _content(self) -> bytes:
        return json.dumps({"run": self._run, "beat": self._beats}).encode()

    def beat(self) -> None:
        """Show that its owner is there."""
        with self._lock:
            if self._mine is None:
                return
            self._beats += 1
            try:
                put_whole(self._mine, self._content())
            except OSError as error:
                log.info("the claim %s was not written again: %s", self._mine, error.strerror)

    def release(self) -> None:
        """Give it back."""
        with self._lock:
            mine, self._mine = self._mine, None
            if mine is not None:
                with contextlib.suppress(OSError):  # it is nobody's, a minute later
                    mine.unlink()


def _number(claim: Remote) -> int:
    return int(claim.name) if claim.name.isdigit() else -1
