"""Stores that fail for a moment are asked again; what they say is told without secrets."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 7
"""How often a store is asked that fails for a moment."""
FIRST_WAIT = 0.5
"""Seconds before the second try; twice as long before each one after it. Half of it is chance, so
that many workers do not come back at once."""
LONGEST_WAIT = 16.0
"""Seconds."""


class StoreError(OSError):
    """A store did not do what it was asked. `strerror` says why, and holds no secret: what
    libraries say of a request may hold the whole address, with its signature."""

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreError, (self.errno, self.strerror, self.filename)


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a store did not do what it was asked."""

    number: int
    """As in `errno`."""
    words: str
    passing: bool = False
    """Whether it may well do it when it is asked again."""


def patiently(work: Callable[[], T], what: str) -> T:
    """What the work gives; where that fails for a moment, it is tried again.

    Args:
        work: asks a store for something. It may be done several times.
        what: names the place, in messages.

    Raises:
        StoreError: it failed for good, or on every try. Its `errno` is ENOENT for what is not
            there, EACCES for what is not allowed, EEXIST for what is there already.
    """
    begun, words = time.monotonic(), ""
    for attempt in range(TRIES):
        try:
            return work()
        except Exception as error:
            found = complaint(error)
            if found is None:
                raise
            words = found.words
        # Outside the handler: what is raised here must not carry what the library said.
        if not found.passing:
            raise StoreError(found.number, words, what)
        if attempt + 1 < TRIES:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1)
            log.info("%s: %s; asked again in %.1f s", what, words, wait)
            time.sleep(wait)
    seconds = time.monotonic() - begun
    raise StoreError(errno.EIO, f"{words}, on each of {TRIES} tries in {seconds:.0f} s", what)


_NUMBERS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 412: errno.EEXIST}
_PASSING = frozenset({408, 409, 425, 429})
"""Answers that are others a moment later; all from 500 on are, but for "not implemented"."""
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "RequestTimeTooSkewed"})
"""What S3 says in a body, under whatever status."""
_FOREIGN = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_NO_KEYS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "NoAuthTokenError"}
)
"""Errors of libraries that find no credentials, by their names: they are not imported for this."""
_NO_ANSWER = frozenset(
    {"HTTPClientError", "ClientConnectionError", "ClientPayloadError", "IncompleteRead"}
    | {"ResponseParserError", "TransportError", "IncompleteReadError", "HttpProcessingError"}
    | {"ConnectionError"}  # of this name, botocore has one of its own too
)
"""Errors of libraries that got no whole answer, by names of their classes or of those above."""


def complaint(error: BaseException) -> Complaint | None:
    """What an error of a library says; None for one that is no store's."""
    for each in _chain(error):
        # Half an answer has a status as well, which is not the server's.
        found = _without_answer(each) or _by_status(each) or _by_kind(each)
        if found is not None:
            return found
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """What an error came from, the first cause first."""
    links: list[BaseException] = []
    while error is not None and len(links) < 8:
        links.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return reversed(links)


def _by_status(error: BaseException) -> Complaint | None:
    response: Any = getattr(error, "response", None)
    code = ""
    if isinstance(response, dict):  # botocore
        code = str(response.get("Error", {}).get("Code", ""))
        status: Any = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:  # aiohttp, gcsfs
        status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, str) and status.isdigit():
        status = int(status)
    if not isinstance(status, int) or not 300 <= status < 600:
        return None
    number = errno.EACCES if code in _FOREIGN else _NUMBERS.get(status, errno.EIO)
    passing = status in _PASSING or (status >= 500 and status != 501) or code in _PASSING_CODES
    return Complaint(number, f"{status} {code if code.isalpha() else _phrase(status)}", passing)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _names_of(error: BaseException) -> set[str]:
    return {each.__name__ for each in type(error).__mro__}


def _without_answer(error: BaseException) -> Complaint | None:
    if isinstance(error, TimeoutError | EOFError) or _names_of(error) & _NO_ANSWER:
        return Complaint(errno.EIO, f"no answer ({type(error).__name__})", passing=True)
    return None


def _by_kind(error: BaseException) -> Complaint | None:
    if _names_of(error) & _NO_KEYS:
        return Complaint(errno.EACCES, "no credentials for it were found")
    if isinstance(error, FileNotFoundError):
        return Complaint(errno.ENOENT, "not there")
    if isinstance(error, PermissionError):
        return Complaint(errno.EACCES, "not allowed")
    if isinstance(error, FileExistsError):
        return Complaint(errno.EEXIST, "there already")
    if type(error).__module__.partition(".")[0] in ("botocore", "aiohttp", "gcsfs", "google"):
        return Complaint(errno.EIO, type(error).__name__)
    return None
