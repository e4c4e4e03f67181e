"""Attempts at one transaction or statement of a migration: repeated while other sessions block it, up to a limit."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from confiture.errors import ConfitureError, Drained, Held
from confiture.migrations.blocking import Observer
from confiture.postgres.retry import LOCK_CONFLICTS, RETRY_DEADLINE_SECONDS, retryable
from confiture.types import counted, duration

#: Seconds between two attempts: the first and the longest; and the fraction of it from which jitter is drawn.
FIRST_WAIT, LONGEST_WAIT, JITTER = 0.2, 5.0, 0.5

#: Attempts until one may end the command without having seen which session blocked it.
UNNAMED_ATTEMPTS = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits in seconds: for which a statement waits for a lock, and after which no further attempt starts."""

    lock_timeout: float = 2.0
    give_up_after: float = 300.0


def repeated(
    work: Callable[[], T],
    name: str,
    observer: Observer,
    patience: Patience,
    say: Callable[[str], None],
    interrupted: Callable[[], Drained | None] = lambda: None,
) -> T:
    """Repeat ``work`` after a lock timeout, a deadlock or a lost connection; what it returns.

    :param work: leaves nothing behind when it fails, and does nothing when an attempt of which the answer was lost
        has succeeded.
    :param name: of the work, for reports.
    :param interrupted: what ends the attempts before their limit, if the operator asks for it.
    :raises Held: when a lock could not be acquired in time; names the sessions that hold it.
    """
    began = time.monotonic()
    for tried in itertools.count(1):
        try:
            return work()
        except (psycopg.Error, ConfitureError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
            if not retryable(cause):
                raise
            locked = isinstance(cause, LOCK_CONFLICTS)
            waited = time.monotonic() - began
            limit = patience.give_up_after if locked else RETRY_DEADLINE_SECONDS
            if waited >= limit and (not locked or observer.has_found or tried >= UNNAMED_ATTEMPTS):
                raise (_not_locked(name, error, observer, tried, waited) if locked else error) from cause
            if locked and tried == 1:
                say(f"{name}: rolled back, because a lock was not free within the lock timeout; trying again")
        stopped = interrupted()
        if stopped is not None:
            raise stopped
        time.sleep(random.uniform(JITTER, 1.0) * min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tried - 1)))
    raise AssertionError("the loop has no end")


def _not_locked(name: str, error: Exception, observer: Observer, tried: int, waited: float) -> Held:
    place = error.what if isinstance(error, ConfitureError) else str(error)
    return Held(
        f"{name}: a lock could not be acquired in {counted(tried, 'attempt')} within {duration(waited)}",
        why=f"{place}\nblocked by {observer.named()}",
        fix="wait until these sessions have ended, then run the same command again; or try longer with --give-up-after",
    )
