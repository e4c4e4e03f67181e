"""The values of a plan, and their form in the journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter

from confiture.plan.keyset import KeyPart
from confiture.plan.projection import KEY_PREFIX, Projected
from confiture.types import TableRef

FDW_ROWS_THRESHOLD = 10_000_000
#: Copied within the cutover's pause on any machine.
RECOPY_MB = 64


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator chose.

    :ivar chunk_rows: rows per chunk; None to fit the row's width.
    :ivar strategy: for every table; None or ``auto`` to choose per table.
    :ivar fdw_problem: why the target's server cannot use postgres_fdw; None when it can.
    :ivar capture: the application writes meanwhile.
    :ivar recopy_mb: MiB up to which a table without a key is copied again under the cutover's lock.
    """

    chunk_rows: int | None = None
    strategy: str | None = None
    fdw_threshold: int = FDW_ROWS_THRESHOLD
    fdw_problem: str | None = None
    capture: bool = True
    recopy_mb: int = RECOPY_MB


@dataclass(frozen=True, slots=True)
class Facts:
    """What the source said of one expression: the columns it reads, or what is wrong with it."""

    reads: tuple[str, ...] = ()
    problem: str | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Trusted:
    """A function that the mapping trusts though another role owns it (``$trust_functions``).

    :ivar side: ``source`` or ``target``.
    :ivar given: its name as the mapping gives it, ``name`` as the server does, with its argument types.
    :ivar oid: of the function there: another one of the same name is not trusted.
    :ivar digest: of what it consists of: once it is redefined it is not trusted any more.
    """

    side: str
    given: str
    oid: int
    name: str
    digest: str


#: (source table, expression, wire type or empty for a condition) -> facts
AllFacts = Mapping[tuple[TableRef, str, str], Facts]


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the walk key: on the source, and its image in the target.

    The types are those behind a domain: the log's rows for TRUNCATE have no key, which a NOT NULL domain would refuse.
    """

    source: str
    source_type: str
    target: str
    target_type: str


@dataclass(frozen=True, slots=True)
class TablePlan:
    """How one target table gets its rows.

    :ivar only: the source is read with ONLY, ``target_only`` the target: rows of inheritance children are theirs.
    :ivar key: the walk key; empty means one chunk of its own, for ``key_reason``.
    :ivar ordered: both servers order the key alike, so ranges may be compared on the target too.
    :ivar arbiter: the target's unique index on the key's image; None when it has none.
    :ivar chunk_rows: rows per chunk; ``fetch_rows`` per fetch of the foreign table.
    :ivar kept: target columns that get no value from the source: a row that is brought anew keeps what it has.
    :ivar rollback_problem: why a rollback after the cutover would lose data; None when it would not.
    :ivar recopied: its changes cannot be logged: the cutover copies it whole again under its lock.
    """

    number: int
    target: TableRef
    source: TableRef
    only: bool
    target_only: bool
    view: str
    columns: tuple[Projected, ...]
    where: str | None
    key: tuple[KeyColumn, ...]
    key_reason: str
    ordered: bool
    arbiter: str | None
    strategy: str
    strategy_reason: str
    format: str
    chunk_rows: int
    fetch_rows: int
    estimate: int
    estimate_bytes: int
    rollback_problem: str | None
    kept: tuple[str, ...] = ()
    recopied: bool = False

    @property
    def view_key(self) -> tuple[KeyPart, ...]:
        """The key as the view and the foreign table have it."""
        return tuple(KeyPart(f"{KEY_PREFIX}{i}", k.source_type) for i, k in enumerate(self.key, 1))

    @property
    def key_wires(self) -> tuple[str, ...]:
        """The types that the SELECT casts the key's columns to. A key that the target printed is read back by them:
        an integer in numeric(10,2) prints as 1.00, which no integer is read from."""
        wires = {p.target: p.wire for p in self.columns}
        return tuple(wires[k.target] for k in self.key)

    @property
    def source_key(self) -> tuple[KeyPart, ...]:
        """The key in the source table."""
        return tuple(KeyPart(k.source, k.source_type) for k in self.key)

    @property
    def target_key(self) -> tuple[KeyPart, ...]:
        """The key's image in the target table."""
        return tuple(KeyPart(k.target, k.target_type) for k in self.key)


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """Where a target sequence takes its value from: what is furthest in its direction.

    :ivar sources: sequences of the source whose place it takes.
    :ivar columns: columns of the target that it fills and that no sequence of the source fills.
    """

    target: TableRef
    sources: tuple[TableRef, ...]
    columns: tuple[tuple[TableRef, str], ...]


@dataclass(frozen=True)
class Plan:
    """Everything that will happen, in order.

    :ivar reverse: how a rollback fills each source table from its target; empty when one table cannot be reversed.
    :ivar trusted: what ``$trust_functions`` names.
    """

    tables: tuple[TablePlan, ...]
    reverse: tuple[TablePlan, ...] = ()
    reverse_sequences: tuple[SequencePlan, ...] = ()
    sequences: tuple[SequencePlan, ...] = ()
    materialized_views: tuple[TableRef, ...] = ()
    recode: bool = False
    notes: tuple[str, ...] = field(default=())
    trusted: tuple[Trusted, ...] = ()

    @property
    def rollback_problems(self) -> tuple[str, ...]:
        """Why a rollback after the cutover is not possible, table by table; empty when it is."""
        problems = tuple(f"{t.target}: {t.rollback_problem}" for t in self.tables if t.rollback_problem is not None)
        return problems if problems or self.reverse else ("the plan has no table",)

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return dict(_PLAN.dump_python(self, mode="json"))

    @cached_property
    def hash(self) -> str:
        """Names the plan: equal plans have equal hashes. Estimates do not count."""
        value = self.as_json()
        for table in (*value["tables"], *value["reverse"]):
            for volatile in ("estimate", "estimate_bytes", "strategy_reason", "chunk_rows", "fetch_rows"):
                del table[volatile]
        del value["notes"]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


_PLAN = TypeAdapter(Plan)


def plan_from_json(value: dict[str, Any]) -> Plan:
    """The plan the journal keeps."""
    return _PLAN.validate_python(value)


def table_signature(table: TablePlan) -> str:
    """Names what one table's rows are: two plans with equal signatures copy the same rows."""
    value = TypeAdapter(TablePlan).dump_python(table, mode="json")
    kept = ("target", "source", "only", "columns", "where", "key")
    return json.dumps({k: value[k] for k in kept}, sort_keys=True)
