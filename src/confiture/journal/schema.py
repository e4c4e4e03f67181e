"""Installing and upgrading the control schema: numbered SQL, each step in its own row of a ledger."""

from __future__ import annotations

import json

import psycopg

from confiture import __version__
from confiture.errors import Held, Refused
from confiture.failpoints import failpoint
from confiture.incremental.model import digest
from confiture.incremental.standing import pending
from confiture.journal import viewed
from confiture.journal.model import LEASE_SECONDS
from confiture.postgres.connection import only_row
from confiture.postgres.session import Session, Transaction
from confiture.sql import control_migrations
from confiture.states import EDGES


def version(tx: Transaction) -> int | None:
    """The journal's version in this database; None when there is no journal."""
    row = tx.pg.execute("SELECT pg_catalog.to_regclass('confiture.migration')").fetchone()
    if row is None or row[0] is None:
        return None
    found: int | None = only_row(tx.pg.execute("SELECT max(version) FROM confiture.migration"))[0]
    return found


def newest() -> int:
    """The journal version this tool writes."""
    return control_migrations()[-1].version


def install(tx: Transaction) -> None:
    """Bring the control schema to this tool's version; nothing to do when it is there.

    Runs inside the caller's transaction: after a crash the schema is wholly there or absent.

    :raises Refused: when the journal was written by a newer tool, or by one with other steps.
    """
    refuse_newer(version(tx))
    steps = pending(control_migrations(), _applied(tx)) if version(tx) is not None else list(control_migrations())
    for step in steps:
        tx.pg.execute(step.text.encode())
        tx.pg.execute(_INSTALLED, (step.version, step.name, __version__))
    if steps and steps[-1].version >= _CHECKSUMS_SINCE:
        for step in steps:
            tx.pg.execute(_CHECKSUM, (digest(step.text), step.version))
    known = set(tx.pg.execute("SELECT from_state, to_state FROM confiture.state_edge"))
    for edge in EDGES:
        if (edge.source, edge.target) not in known:
            tx.pg.execute(_EDGE, (edge.source, edge.target, edge.trigger))
    tx.pg.execute(_EVENTS, (json.dumps(viewed.EVENTS),))


def _applied(tx: Transaction) -> tuple[int, ...]:
    """The steps that the journal has.

    :raises Refused: when one of them was another one in the tool that applied it, so that the next may not fit.
    """
    found: dict[int, str | None] = dict(tx.pg.execute(_RECORDED).fetchall())
    known = {step.version: step for step in control_migrations()}
    for number, checksum in sorted(found.items()):
        if checksum is not None and number in known and checksum != digest(known[number].text):
            raise Refused(
                f"the journal's step {number}, {known[number].name}, is not the one of this confiture {__version__}",
                why=f"the journal has {checksum}, this confiture has {digest(known[number].text)}",
                fix="install the confiture that wrote the journal, or a released version",
            )
    return tuple(found)


def keep_up(session: Session) -> None:
    """Upgrade a journal that an older tool wrote, between two of its commands; nothing to do without one.

    :raises Refused: when it was written by a newer tool, or the role of the session does not own it, as an operator's.
    :raises Held: while the older tool works with it.
    """
    with session.transaction(read_only=True) as tx:
        have = version(tx)
    refuse_newer(have)
    if have is None or have == newest():
        return
    try:
        _upgrade(session, have)
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f"the journal in the target has version {have}, this confiture {__version__} has {newest()}",
            why="an older confiture wrote it, and only the role that owns it may upgrade it",
            fix="let that role run a command of the run, and repeat the grants; or use the older confiture",
        ) from error
    failpoint("upgrade.after_commit")


def _upgrade(session: Session, have: int) -> None:
    with session.transaction() as tx:
        # Upgrades exclude each other. They also exclude the holder of the run, which writes to its row of runner.
        tx.pg.execute("LOCK TABLE confiture.migration, confiture.runner IN SHARE ROW EXCLUSIVE MODE")
        holder = tx.pg.execute(_AT_WORK, (LEASE_SECONDS,)).fetchone()
        if holder is not None:
            raise Held(
                f"the journal has version {have}, and {holder[0]} pid {holder[1]} works with it ({holder[2]})",
                why=f"this confiture {__version__} would upgrade it to {newest()}, which would break that command",
                fix="wait for that command, or stop it; then rerun this command",
            )
        install(tx)
        failpoint("upgrade.before_commit")


#: The version since which the table of the steps has their checksums.
_CHECKSUMS_SINCE = 17
_CHECKSUM = "UPDATE confiture.migration SET checksum = %s WHERE version = %s"
#: Read by the columns that every version has.
_RECORDED = "SELECT version, to_jsonb(m) ->> 'checksum' FROM confiture.migration m"
_INSTALLED = "INSERT INTO confiture.migration (version, name, tool_version) VALUES (%s, %s, %s)"
_EDGE = "INSERT INTO confiture.state_edge (from_state, to_state, fired_by) VALUES (%s, %s, %s)"
#: In one statement, because each run that begins looks whether the kinds of events are complete.
_EVENTS = """
INSERT INTO confiture.viewable_event AS known (kind, hidden_keys)
SELECT key, ARRAY(SELECT jsonb_array_elements_text(value)) FROM jsonb_each(%s::jsonb)
ON CONFLICT (kind) DO UPDATE SET hidden_keys = excluded.hidden_keys
WHERE known.hidden_keys IS DISTINCT FROM excluded.hidden_keys
"""
#: Read by the columns that every version has.
_AT_WORK = """
SELECT host, pid, command FROM confiture.runner r
WHERE ended_at IS NULL AND heartbeat_at > clock_timestamp() - make_interval(secs => %s) AND EXISTS (
    SELECT FROM jsonb_array_elements(r.target_backends) b JOIN pg_stat_activity a ON a.pid = (b ->> 0)::int
    WHERE coalesce(extract(epoch FROM a.backend_start)::text = b ->> 1, true))
"""


def refuse_older(have: int | None) -> None:
    """:raises Refused: when the journal is older than this confiture: a command that only reads does not upgrade it."""
    if have is not None and have < newest():
        raise Refused(
            f"the journal in the target has version {have}, this confiture {__version__} has {newest()}",
            why="an older confiture wrote it, and a command that only reads does not upgrade it",
            fix="run a command that works on the run (migrate, verify, ...), which upgrades it; or use the older one",
        )


def refuse_newer(have: int | None) -> None:
    """:raises Refused: when the journal is newer than this tool."""
    if have is not None and have > newest():
        raise Refused(
            f"the journal in the target has version {have}, this confiture {__version__} supports {newest()}",
            why="a newer confiture wrote it; an older one could misread it",
            fix="install the confiture that wrote it, or a newer one",
        )
