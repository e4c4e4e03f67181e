"""The code of a worker process: it runs the tasks of a runner, in sessions that are kept from one task to the next.

A worker process acts under the epoch of its runner. Its server processes are recorded with those of the runner before
they lock anything, so that a takeover ends them too, and each of its writing transactions checks that its runner has
not ended (docs/invariants.md, I-7.8).
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

import psycopg

from confiture import __version__
from confiture.errors import ConfitureError
from confiture.log import log
from confiture.postgres.session import Session
from confiture.postgres.yielding import Watch, watched_by
from confiture.runner.context import Context
from confiture.runner.run_facts import RunFacts
from confiture.types import Activity

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """The result of a task, or the error that it raised. It can be pickled, with the cause of an error.

    :ivar said: the lines that the task reported.
    """

    value: T | None = None
    error: ConfitureError | psycopg.Error | None = None
    cause: BaseException | None = None
    said: tuple[str, ...] = ()

    def result(self) -> T:
        """The result of the task.

        :raises ConfitureError: what the task raised, as ``psycopg.Error``.
        """
        if self.error is not None:
            raise self.error from self.cause
        return self.value  # type: ignore[return-value]


@dataclass
class Reports:
    """A Progress that collects the lines for the runner, which reports the progress of tables by itself."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)

    def table(self, name: str, done: int, total: int, activity: Activity) -> None:
        """Nothing."""

    def taken(self) -> tuple[str, ...]:
        """The lines since the last call."""
        taken, self.lines = tuple(self.lines), []
        return taken


class _Member:
    """One thread of a process that works for a run."""

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self.reports = Reports()
        self.watch = Watch(self.reports.say, facts.short)
        self.watch.start()
        source, target = (Session(facts.database(side), "worker", facts.short) for side in ("source", "target"))
        name = f"{socket.gethostname()} {os.getpid()} {threading.get_ident()}"
        self.context = Context(source, target, facts, self.reports, worker=name)

    def close(self) -> None:
        """Close the sessions; an open transaction is rolled back."""
        self.watch.end()
        self.context.source.close()
        self.context.target.close()


_members: dict[int, _Member] = {}


def _member(facts: RunFacts) -> _Member:
    thread = threading.get_ident()
    member = _members.get(thread)
    if member is None or member.facts != facts:
        if member is not None:
            member.close()
        member = _members[thread] = _Member(facts)
    return member


def perform(facts: RunFacts, task: Callable[..., T], *arguments: object) -> Outcome[T]:
    """Run a task for the runner of ``facts``; its first argument is the context of this process."""
    member = _member(facts)
    log.notice = member.reports.say
    with watched_by(member.watch):
        found = attempt(member.context, task, *arguments)
    return Outcome(found.value, found.error, found.cause, member.reports.taken())


def attempt(context: Context, task: Callable[..., T], *arguments: object) -> Outcome[T]:
    """The result of a task, or the error that it raises."""
    try:
        return Outcome(task(context, *arguments))
    except (ConfitureError, psycopg.Error) as error:
        return Outcome(error=error, cause=error.__cause__ if _can_be_sent(error.__cause__) else None)


def _can_be_sent(cause: BaseException | None) -> bool:
    return isinstance(cause, (ConfitureError, psycopg.Error))


def serve(connection: Connection, level: int) -> None:
    """The main function of a worker process: it performs the tasks that its runner sends, and ends with it.

    :param level: of the log.
    """
    gc.freeze()  # the modules that the server process has imported are no garbage
    # A terminal sends its signals to every process of the command. The runner decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger("confiture").setLevel(level)
    threading.Thread(target=_end_with_runner, name="runner", daemon=True).start()
    while True:
        task = connection.recv()
        try:
            answer = True, task()
        except Exception as error:  # noqa: BLE001 - the runner raises it
            answer = False, error
        connection.send(answer)


def _end_with_runner() -> None:
    runner = multiprocessing.parent_process()
    if runner is not None:
        runner.join()
        os._exit(1)


def greet(facts: RunFacts) -> tuple[str, str]:
    """The version of Confiture in this process, and why it cannot connect to a database; empty if it can."""
    try:
        for side in ("source", "target"):
            with Session(facts.database(side), "worker", facts.short) as session:
                _ = session.pg
    except ConfitureError as error:
        return __version__, ": ".join(filter(None, (error.what, error.why)))
    return __version__, ""


def close(facts: RunFacts) -> None:
    """Close the sessions that this process has opened for the runner of ``facts``, and open no more."""
    for thread, member in list(_members.items()):
        if member.facts == facts:
            del _members[thread]
            member.context.lost.set()
            member.close()
