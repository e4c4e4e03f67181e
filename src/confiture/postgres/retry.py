"""Retries of whole transactions: which errors are transient, and how long to wait before each attempt."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg
import tenacity

from confiture.config import redact
from confiture.errors import CannotConnect, GaveWay
from confiture.log import log

T = TypeVar("T")

#: The errors that end a transaction which other sessions' locks block.
LOCK_CONFLICTS = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

#: SQLSTATE classes and codes after which the same transaction may succeed (docs/journal.md, Retries).
_RETRYABLE_CLASSES = ("08", "53")
_RETRYABLE = {"57P01", "57P02", "57P03", "57P05", "25P03", "40001", "40P01", "55P03"}
#: A full disk is not freed within a retry's deadline.
_NOT_RETRYABLE = {"53100"}

RETRY_DEADLINE_SECONDS = 60
#: Seconds after which a retry that continues is reported, once.
NOTICE_SECONDS = 5.0
#: Seconds until work that gave way is repeated: the application's statement has acquired its lock then.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


def retryable(error: BaseException) -> bool:
    """Whether the same transaction may succeed when it is run again."""
    if not isinstance(error, psycopg.Error):
        return isinstance(error, CannotConnect)
    if error.sqlstate is None:
        # No SQLSTATE from a live server means that the connection itself broke.
        return isinstance(error, psycopg.OperationalError)
    if error.sqlstate in _NOT_RETRYABLE:
        return False
    return error.sqlstate[:2] in _RETRYABLE_CLASSES or error.sqlstate in _RETRYABLE


def _notices(deadline: float) -> Callable[[tenacity.RetryCallState], None]:
    """Called before each repetition: log it, and print once the reason of a retry that takes long."""
    printed = False

    def before_sleep(state: tenacity.RetryCallState) -> None:
        nonlocal printed
        _log_retry(state)
        error = state.outcome.exception() if state.outcome is not None else None
        waited = state.seconds_since_start or 0.0
        if printed or error is None or isinstance(error, LOCK_CONFLICTS) or waited < NOTICE_SECONDS:
            return
        printed = True
        log.notice(f"waiting for {_cause(error)}; retrying for up to {deadline:.0f} s, {waited:.0f} s so far")

    return before_sleep


def _cause(error: BaseException) -> str:
    """The reason of a retry, on one line without secrets."""
    if isinstance(error, CannotConnect):
        return f"a connection ({error.what}: {error.why})".replace("\n", " ")
    text = " ".join(redact(str(error)).split())
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return f"the server ({text})"
    return f"a new connection, as one was lost ({text})"


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    text = redact(str(error)).strip().splitlines() or [""]
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    log.info("retrying", attempt=state.attempt_number, error=type(error).__name__, sqlstate=code, message=text[0])


def retry(work: Callable[[], T], *, deadline: float = RETRY_DEADLINE_SECONDS) -> T:
    """Run ``work``, a whole transaction, again after transient errors, and after it gave way.

    :param deadline: seconds after which the last error is raised as it is.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(retryable),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
        stop=tenacity.stop_after_delay(deadline),
        before_sleep=_notices(deadline),
        reraise=True,
    )
    return repeated(lambda: retrying(work))


def repeated(work: Callable[[], T]) -> T:
    """Run ``work``, a whole unit that gives way, until it completes without giving way.

    There is no deadline: it succeeds once no session of the application waits for its locks while it runs.
    """
    waits = retry_delays()
    while True:
        try:
            return work()
        except GaveWay:
            time.sleep(next(waits))


def retry_delays() -> Iterator[float]:
    """Seconds before each repetition of work that gave way, without end."""
    return (min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in itertools.count())
