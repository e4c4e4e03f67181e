"""Reading the journal as a role that may not see a value of a row: views in place of the tables that have such values.

``confiture grants --viewer`` grants such a role the tables of :data:`OPEN` and the views ``viewed_...`` of those of
:data:`VIEWED`. Every table of the journal and every kind of event is classified here, and only here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from confiture.postgres.connection import Pg
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import quoted

if TYPE_CHECKING:
    from sqlalchemy import Table

#: Tables and views without a value of a row.
OPEN = (
    "approval",
    "built_object",
    "catchup",
    "complete_verification",
    "deferred_object",
    "ledger",
    "ledger_statement",
    "migration",
    "notification",
    "receiver",
    "request",
    "sample",
    "state_edge",
    "step",
    "verification",
    "verification_round",
    "viewable_event",
)
#: Tables with values of rows, such as keys and texts of errors, each with a view that omits them.
VIEWED = ("chunk", "difference", "event", "run", "runner", "table_plan", "verified_unit")
#: Tables that consist of values.
HIDDEN = ("changed_key",)

#: The kinds of events of which the detail is visible, with the keys that may contain values. Of other kinds, nothing of
#: the detail is.
EVENTS: Mapping[str, tuple[str, ...]] = {
    "abort": ("reason",),
    "approval required": (),
    "approved": (),
    "bad row": ("message", "key", "place"),
    "baseline": (),
    "begin": (),
    "blocked": ("reason",),
    "clean": (),
    "complete": (),
    "closing": (),
    "copied": (),
    "copied again": (),
    "created": (),
    "cutover": (),
    "differences": (),
    "failed": (),
    "forecast": (),
    "forecast recorded": (),
    "granted": (),
    "leak proof": (),
    "migration applied": (),
    "migration reverted": (),
    "notification failed": (),
    "pause": (),
    "planned": (),
    "reads closed": (),
    "reads closing": (),
    "reads open": (),
    "reads opening": (),
    "references": (),
    "rehearsed": ("problem",),
    "reopen": ("reason",),
    "repair": (),
    "replanned": (),
    "resume": (),
    "rollback": (),
    "stale view": ("reason",),
    "start": (),
    "table restarted": (),
    "takeover": (),
    "terminate_blocker": ("query",),
    "throttle": (),
    "throttle ended": (),
    "throttled": (),
    "unfinished": (),
    "verify": (),
    "write pause": (),
}

#: The columns that an operator may write, by table. The server fills the others.
OPERATED = {
    "approval": ("run_id", "plan_hash", "verification", "actor", "note"),
    "event": ("run_id", "epoch", "kind", "actor", "from_state", "to_state", "detail"),
    "request": ("run_id", "kind", "detail", "actor"),
}

#: Columns that an INSERT of an operator returns.
_RETURNED = {"event": "id"}


def grants_of_viewer(database: str, role: str) -> list[str]:
    """The statements after which a role may watch the runs of a database and sees no value of a row."""
    to = f"TO {quoted(role)}"
    relations = [f"confiture.{name}" for name in (*OPEN, *(f"viewed_{name}" for name in VIEWED))]
    return [
        f"GRANT CONNECT ON DATABASE {quoted(database)} {to}",
        f"GRANT USAGE ON SCHEMA confiture {to}",
        f"GRANT SELECT ON {', '.join(relations)} {to}",
    ]


def grants_of_operator(database: str, role: str) -> list[str]:
    """The statements after which a role may also pause, resume, throttle and approve."""
    to = f"TO {quoted(role)}"
    writes = [f"GRANT INSERT ({', '.join(columns)}) ON confiture.{name} {to}" for name, columns in OPERATED.items()]
    reads = [f"GRANT SELECT ({column}) ON confiture.{name} {to}" for name, column in _RETURNED.items()]
    return [*grants_of_viewer(database, role), *writes, *reads]


#: The tables that a connection may not read and reads through their views. Privileges are looked up once for each.
_BY_CONNECTION: WeakKeyDictionary[Pg, frozenset[str]] = WeakKeyDictionary()
_UNREADABLE = """
SELECT name FROM unnest(%s::text[]) name
WHERE CASE WHEN to_regclass('confiture.viewed_' || name) IS NOT NULL
           THEN NOT has_table_privilege('confiture.' || name, 'SELECT') END
"""


def statements(tx: Transaction, file: str) -> dict[str, bytes]:
    """The named statements of a file, as :func:`confiture.sql.load`, for what the role of the session may read."""
    return _rewritten(file, _through_views(tx))


def readable(tx: Transaction, table: Table) -> Table:
    """A table of the journal, or its view if the role of the session may not read the table."""
    if table.name not in _through_views(tx):
        return table
    name = f"viewed_{table.name}"
    known = table.metadata.tables.get(f"confiture.{name}")
    return known if known is not None else table.to_metadata(table.metadata, name=name)


def _through_views(tx: Transaction) -> frozenset[str]:
    found = _BY_CONNECTION.get(tx.pg)
    if found is None:
        found = frozenset(name for (name,) in tx.pg.execute(_UNREADABLE, (list(VIEWED),)).fetchall())
        _BY_CONNECTION[tx.pg] = found
    return found


@cache
def _rewritten(file: str, names: frozenset[str]) -> dict[str, bytes]:
    if not names:
        return load(file)
    word = re.compile(rf"\bconfiture\.({'|'.join(sorted(names))})\b".encode())
    return {name: word.sub(rb"confiture.viewed_\1", text) for name, text in load(file).items()}
