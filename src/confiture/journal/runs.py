"""Runs, their transitions and their history."""

from __future__ import annotations

import getpass
import json
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func

from confiture import __version__
from confiture.errors import Held
from confiture.journal import viewed
from confiture.journal.model import BlockedDetail, Event, Run
from confiture.journal.tables import event, run
from confiture.postgres.session import Transaction
from confiture.states import FINAL, SCHEMA_TO_SCHEMA, SETUP, CutoverPhase, Medium, ReadsPhase
from confiture.types import Json, visible


def actor() -> str:
    """The user, host and process of this command, for the history: user@host[pid]."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a passwd entry
        user = str(os.getuid())
    return visible(" ".join(f"{user}@{socket.gethostname()}[{os.getpid()}]".split()))


def _run(row: sa.Row[Any] | None) -> Run | None:
    if row is None:
        return None
    values = {f.name: row._mapping[f.name] for f in fields(Run)}
    phase, reads = values.pop("cutover_phase"), values.pop("reads_phase")
    return Run(
        **values,
        cutover_phase=None if phase is None else CutoverPhase(phase),
        reads_phase=None if reads is None else ReadsPhase(reads),
    )


def create(
    tx: Transaction,
    *,
    run_id: uuid.UUID,
    source: tuple[str, str, Json],
    target: tuple[str, Json],
    options: Json,
    medium: Medium = SCHEMA_TO_SCHEMA,
) -> Run:
    """A new run in state ``setup``, epoch 1.

    :param source: its name, its conninfo without secrets, its identity.
    :param target: its name and identity.
    :raises psycopg.errors.UniqueViolation: when the target has a live run.
    """
    tx.sa.execute(
        sa.insert(run).values(
            id=run_id,
            medium=medium,
            state=SETUP,
            epoch=1,
            source_name=source[0],
            source_conninfo=source[1],
            source_identity=source[2],
            target_name=target[0],
            target_identity=target[1],
            options=options,
            tool_version=__version__,
        )
    )
    detail = {"source": source[0], "target": target[0], "medium": medium}
    note(tx, run_id, 1, "created", detail, to_state=SETUP)
    return get(tx, run_id)


def find(tx: Transaction, run_id: uuid.UUID) -> Run | None:
    """The run; None when the journal has no such run."""
    return _run(tx.sa.execute(sa.select(run).where(run.c.id == run_id)).one_or_none())


def get(tx: Transaction, run_id: uuid.UUID) -> Run:
    """The run.

    :raises Held: when the journal has no such run: another session has removed it.
    """
    found = find(tx, run_id)
    if found is None:
        raise Held(
            f"run {run_id.hex[:8]} is no longer in the journal",
            why="another session has removed it",
            fix="see which run the target has: confiture status",
        )
    return found


def live(tx: Transaction) -> Run | None:
    """The run of this target that has not ended, of any medium; None when there is none."""
    return _run(tx.sa.execute(sa.select(run).where(run.c.state.not_in(FINAL))).one_or_none())


def latest(tx: Transaction, medium: Medium | None = SCHEMA_TO_SCHEMA) -> Run | None:
    """The live run of a medium, else the one that ended last; None when the target has had none.

    :param medium: None for any.
    """
    table = viewed.readable(tx, run)
    newest = table.c.state.in_(FINAL), table.c.state_since.desc()
    wanted = sa.true() if medium is None else table.c.medium == medium
    query = sa.select(table).where(wanted).order_by(*newest).limit(1)
    return _run(tx.sa.execute(query).one_or_none())


def last_event(tx: Transaction, run_id: uuid.UUID, among: Sequence[str]) -> Event | None:
    """The last of the run's events of these kinds; None when there is none."""
    query = sa.select(event.c.kind, event.c.at).where(event.c.run_id == run_id, event.c.kind.in_(among))
    row = tx.sa.execute(query.order_by(event.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else Event(*row)


def last_detail(tx: Transaction, run_id: uuid.UUID, kind: str) -> Json:
    """The detail of the run's last event of this kind; empty when there is none."""
    query = sa.select(event.c.detail).where(event.c.run_id == run_id, event.c.kind == kind)
    row = tx.sa.execute(query.order_by(event.c.id.desc()).limit(1)).one_or_none()
    return {} if row is None else dict(row[0])


def clock(tx: Transaction) -> datetime:
    """The time by the target's clock."""
    now: datetime = tx.sa.execute(sa.select(func.clock_timestamp())).scalar_one()
    return now


def fence(tx: Transaction, run_id: uuid.UUID, epoch: int) -> None:
    """Hold the run's row under our epoch until the transaction ends (docs/invariants.md, I-7.2).

    :raises Held: when another runner has taken the run over; the command ends.
    """
    if tx.sa.execute(_FENCE, {"run_id": run_id, "of_runner": epoch}).one_or_none() is None:
        raise Held(
            "another runner has taken this run over",
            why=f"run {run_id.hex[:8]} no longer has epoch {epoch}; this process has written nothing since",
            fix="see which process runs it: confiture status",
        )


# Built once, because each writing transaction begins with it.
_FENCE = (
    sa.select(run.c.id)
    .where(run.c.id == sa.bindparam("run_id"), run.c.epoch == sa.bindparam("of_runner"))
    .with_for_update(read=True)
)


def raise_epoch(tx: Transaction, run_id: uuid.UUID, seen: int, epoch: int) -> bool:
    """Take the run over if its epoch is still ``seen``; False if another runner has raised it.

    :param epoch: the new one.
    """
    statement = sa.update(run).where(run.c.id == run_id, run.c.epoch == seen).values(epoch=epoch).returning(run.c.id)
    return tx.sa.execute(statement).one_or_none() is not None


def move(tx: Transaction, subject: Run, trigger: str, to_state: str, detail: Mapping[str, object]) -> bool:
    """Compare-and-set the state and write its event, in the caller's transaction.

    :returns: False when the state was no longer ``subject.state``; nothing was written then.
    """
    note(tx, subject.id, subject.epoch, trigger, detail, from_state=subject.state, to_state=to_state)
    statement = (
        sa.update(run)
        .where(run.c.id == subject.id, run.c.epoch == subject.epoch, run.c.state == subject.state)
        .values(state=to_state, state_since=func.clock_timestamp())
        .returning(run.c.id)
    )
    return tx.sa.execute(statement).one_or_none() is not None


def update(tx: Transaction, run_id: uuid.UUID, **values: object) -> None:
    """Set columns of the run's row other than its state and epoch."""
    tx.sa.execute(sa.update(run).where(run.c.id == run_id).values(**values))


def block(tx: Transaction, run_id: uuid.UUID, epoch: int, reason: str, command: str) -> None:
    """Record the reason that blocks the run until it is resolved.

    :param command: the step with its options that continues the run, without ``--target``.
    """
    update(tx, run_id, blocked_reason=reason, blocked_command=command)
    detail: BlockedDetail = {"reason": reason, "command": command}
    note(tx, run_id, epoch, "blocked", detail)


def unblock(tx: Transaction, run_id: uuid.UUID) -> None:
    """Clear the reason that blocked the run."""
    update(tx, run_id, blocked_reason=None, blocked_command=None)


def set_reads(
    tx: Transaction, run_id: uuid.UUID, epoch: int, phase: ReadsPhase | None, max_staleness: float | None = None
) -> None:
    """Record where reads are redirected, with its entry in the history. A phase that is repeated keeps its beginning.

    :param phase: None when they are back on the source.
    :param max_staleness: seconds that the target may be behind for its readers; None without a phase.
    """
    begins = sa.case((run.c.reads_phase == phase, run.c.reads_since), else_=func.clock_timestamp())
    since = None if phase is None else begins
    update(tx, run_id, reads_phase=phase, reads_since=since, reads_limit=max_staleness)
    note(tx, run_id, epoch, f"reads {phase or 'closed'}", {"max_staleness": max_staleness})


def note(
    tx: Transaction,
    run_id: uuid.UUID,
    epoch: int,
    kind: str,
    detail: Mapping[str, object] | None = None,
    *,
    from_state: str | None = None,
    to_state: str | None = None,
) -> None:
    """Append an event: a transition when both states are given, else a notable fact."""
    tx.sa.execute(
        sa.insert(event).values(
            run_id=run_id,
            epoch=epoch,
            kind=kind,
            actor=actor(),
            from_state=from_state,
            to_state=to_state,
            detail=json.loads(json.dumps(detail or {}, default=str)),
        )
    )
