"""Announces the events of a run to receivers and hooks, beside the work, and never at its cost.

A thread reads the journal in a session of its own. It claims an event for a receiver before it sends it, so that no
event is sent twice to a receiver, also after a kill -9 or a takeover (docs/invariants.md, I-12.1). Each delivery has a
thread of its own, so that a receiver that hangs delays no other one.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import psycopg

from confiture import secret_values
from confiture.config import redact
from confiture.errors import ConfitureError
from confiture.failpoints import failpoint
from confiture.journal import notifications, runs
from confiture.journal.notifications import DueEvent
from confiture.notices import Notice, kinds_of, notice_of
from confiture.postgres.session import Session, Transaction
from confiture.receivers import WEBHOOK, Receiver
from confiture.runner import delivery
from confiture.runner.context import Context
from confiture.runner.delivery import Deliver, Outcome
from confiture.runner.hooks import Hook, end_running, environment_of_hook

#: Seconds between two looks at the journal.
POLL_SECONDS = 1.0
#: Seconds that a process waits at its end for what is not sent yet.
END_SECONDS = 5.0
#: Seconds after which an event is not sent any more, for example one that a killed command left.
MAX_AGE_SECONDS = 900.0
#: The server ends a statement of the notifier after this time.
STATEMENT_TIMEOUT = "5s"
#: A shorter value of a variable occurs by chance, so that it is not searched for.
SECRET_CHARACTERS = 8
#: The beginning of the names of hooks. The name of a receiver contains no space.
HOOK = "hook "

_ended: list[Notifier] = []


@dataclass(frozen=True, slots=True)
class Channel:
    """A receiver with the means to deliver to it.

    :ivar name: under which the journal records it.
    :ivar kinds: of the journal's events that it is sent.
    """

    name: str
    kinds: tuple[str, ...]
    deliver: Deliver


@dataclass(frozen=True, slots=True)
class _Delivered:
    channel: Channel
    event: DueEvent
    outcome: Outcome


def channels_of(context: Context, hooks: Sequence[Hook]) -> list[Channel]:
    """The receivers of the target's environment and the hooks; one that cannot be used is reported and left out."""
    return [*_of_receivers(context), *_of_hooks(context, hooks)]


def _of_receivers(context: Context) -> Iterator[Channel]:
    for receiver in context.facts.target.notify:
        try:
            yield Channel(receiver.name, kinds_of(receiver.events), _deliver(receiver))
        except KeyError as error:
            _report(context, receiver.name, f"the environment variable {error.args[0]} is not set")
        except ImportError:
            fix = "pip install 'confiture[notifications]'"
            _report(context, receiver.name, f"apprise is not installed; run: {fix}")
        except ValueError as error:
            _report(context, receiver.name, str(error))


def _deliver(receiver: Receiver) -> Deliver:
    """:raises ValueError: when its variables leave it without a URL of a webhook."""
    url, secrets = receiver.url(os.environ)
    secret_values.use(secret for secret in secrets if len(secret) >= SECRET_CHARACTERS)
    if receiver.kind != WEBHOOK:
        return delivery.apprise(url)
    if not url.startswith(("https://", "http://")):
        raise ValueError("its URL does not begin with https:// or http://")
    return delivery.webhook(url)


def _of_hooks(context: Context, hooks: Sequence[Hook]) -> Iterator[Channel]:
    if not hooks:
        return
    environment = environment_of_hook(context.facts.short, context.facts.source, context.facts.target)
    numbers: dict[str, int] = {}
    for hook in hooks:
        number = numbers[hook.event] = numbers.get(hook.event, 0) + 1
        name = f"{HOOK}{hook.event}" if number == 1 else f"{HOOK}{hook.event} {number}"
        yield Channel(name, kinds_of((hook.event,)), delivery.hook(hook, environment))


def _report(context: Context, receiver: str, reason: str) -> None:
    context.progress.say(f"notification failed: {receiver}: {reason}; the run continues")


class Notifier(threading.Thread):
    """Sends the events of one run until the end of the command, and those that an earlier command left.

    An error of a receiver or of the journal is reported once, and the run continues.
    """

    def __init__(self, context: Context, channels: Sequence[Channel]) -> None:
        super().__init__(name="notifier", daemon=True)
        self._context = context
        self._channels = channels
        self._session = Session(context.facts.target, "notifier", context.facts.short)
        self._names: dict[str, str] = {}
        self._busy: dict[str, DueEvent] = {}
        self._outcomes: deque[_Delivered] = deque()
        self._wake = threading.Event()
        self._until: float | None = None
        self._left = True
        self._reported: set[str] = set()

    def run(self) -> None:
        """Send what is due, until :meth:`end`; a lost lease ends it too."""
        with self._session:
            while not self._context.lost.is_set():
                self._wake.clear()
                self._turn()
                if self._until is not None and (not self._left or (self._is_late() and not self._runs_hook())):
                    break
                self._wake.wait(POLL_SECONDS)

    def end(self) -> None:
        """Have it end when everything is sent, or after a few seconds; the next command sends the rest."""
        self._until = time.monotonic() + END_SECONDS
        self._wake.set()
        _ended.append(self)

    def wait(self) -> None:
        """Wait until it has ended, after :meth:`end`."""
        while self.is_alive() and (self._runs_hook() or not self._is_late(POLL_SECONDS)):
            self.join(0.1)
        for name in [name for name in self._busy if not name.startswith(HOOK)]:
            _report(self._context, name, "there is no answer at the end of the command")

    def _is_late(self, more: float = 0.0) -> bool:
        return self._until is not None and time.monotonic() > self._until + more

    def _runs_hook(self) -> bool:
        return any(name.startswith(HOOK) for name in tuple(self._busy))

    def _turn(self) -> None:
        """Record what was delivered, and begin what is due."""
        try:
            self._record()
            if not self._names:
                self._register()
            left = [self._begin_next(channel) for channel in self._channels]
            self._left = any(left)
            self._reported.discard("")
        except (psycopg.Error, ConfitureError) as error:
            self._report_once("", f"the journal: {redact(str(error)).strip().splitlines()[0]}")

    def _register(self) -> None:
        with self._transaction() as tx:
            names = [channel.name for channel in self._channels]
            notifications.register(tx, self._context.run_id, self._context.epoch, names)
            run = runs.get(tx, self._context.run_id)
        self._names = {"run": run.short, "source": redact(run.source_name), "target": redact(run.target_name)}

    def _begin_next(self, channel: Channel) -> bool:
        """Begin to send the oldest event that is due; whether the receiver is at work, or something is left for it."""
        if channel.name in self._busy:
            return True
        with self._transaction(read_only=True) as tx:
            found = notifications.due(tx, self._context.run_id, channel.name, channel.kinds, MAX_AGE_SECONDS)
        if not found or self._is_late():
            return bool(found)
        # Durable before the event is sent: this process is the one that sends it.
        with self._transaction() as tx:
            ours = notifications.claim(tx, self._context.run_id, channel.name, found[0].id)
        failpoint("notification.claimed")
        if ours:
            self._begin(channel, found[0])
        return True

    def _begin(self, channel: Channel, event: DueEvent) -> None:
        notice = notice_of(event.id, event.kind, event.detail, event.at, **self._names)
        self._busy[channel.name] = event
        thread = threading.Thread(target=partial(self._send, channel, event, notice), name=channel.name, daemon=True)
        thread.start()

    def _send(self, channel: Channel, event: DueEvent, notice: Notice) -> None:
        """In a thread of its own."""
        outcome = Outcome(1, "an unexpected error")
        with suppress(Exception):  # of a library; its text may contain the address
            outcome = channel.deliver(notice)
        failpoint("notification.sent")
        self._outcomes.append(_Delivered(channel, event, outcome))
        self._wake.set()

    def _record(self) -> None:
        while self._outcomes:
            done = self._outcomes[0]
            outcome = done.outcome
            # Durable together: the outcome, and its event if it was not delivered.
            with self._transaction() as tx:
                notifications.close(
                    tx,
                    self._context.run_id,
                    self._context.epoch,
                    done.channel.name,
                    done.event.id,
                    outcome.attempts,
                    outcome.reason,
                )
            self._outcomes.popleft()
            del self._busy[done.channel.name]
            if outcome.reason is None:
                self._reported.discard(done.channel.name)
            else:
                self._report_once(done.channel.name, outcome.reason)

    def _report_once(self, receiver: str, reason: str) -> None:
        """Report a receiver that fails, or with an empty name the journal, once until it succeeds again."""
        if receiver not in self._reported:
            self._reported.add(receiver)
            _report(self._context, receiver or "all receivers", reason)

    @contextmanager
    def _transaction(self, *, read_only: bool = False) -> Iterator[Transaction]:
        with self._session.transaction(read_only=read_only) as tx:
            tx.pg.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
            yield tx


def wait_for_ended() -> None:
    """Wait for what the commands of this process have not sent yet: a few seconds, and for hooks until they are ended.

    An interrupt ends the hooks and the wait.
    """
    try:
        while _ended:
            _ended.pop().wait()
    except KeyboardInterrupt:
        end_running()


atexit.register(wait_for_ended)
