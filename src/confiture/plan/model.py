"""The values of a plan, and their form in the journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property

from pydantic import TypeAdapter

from confiture.plan.keyset import KeyPart
from confiture.plan.projection import KEY_PREFIX, Projected
from confiture.types import NAMES_SHOWN, Json, TableRef, counted, quoted, some

#: A view, like any table, has at most this many columns.
TABLE_COLUMNS_MOST = 1600
#: Connections that a run has at most to the source, that of the target's server included, and to the target.
SOURCE_CONNECTIONS, TARGET_CONNECTIONS = 5, 5
#: MiB that any server copies within the write pause of a cutover.
RECOPY_MB = 64


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a plan, as the operator gave them.

    :ivar chunk_rows: rows per chunk; None to derive it from the row's width.
    :ivar strategy: ``fdw`` or ``copy`` for every table; None or ``auto`` to choose for each table.
    :ivar fdw_problem: why the target's server cannot use postgres_fdw; None if it can.
    :ivar near: whether a round trip from here to one of the servers is short.
    :ivar capture: whether the application writes to the source during the run.
    :ivar first: whether the run has no plan yet, so that it has written nothing to the target.
    :ivar recopy_mb: size limit in MiB for a table without a key, which the cutover copies again under its lock.
    :ivar agreed: the strategy of each target table in a plan that was agreed on, which is kept where it is possible.
    :ivar ddl: as in :class:`Plan`.
    """

    chunk_rows: int | None = None
    strategy: str | None = None
    fdw_problem: str | None = None
    near: bool = True
    capture: bool = True
    recopy_mb: int = RECOPY_MB
    first: bool = True
    agreed: Mapping[TableRef, str] = field(default_factory=dict)
    ddl: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The source's analysis of one expression: the columns that it reads, or the problem with it."""

    reads: tuple[str, ...] = ()
    problem: str | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Trusted:
    """A function that the mapping trusts though another role owns it (``$trust_functions``).

    :ivar side: ``source`` or ``target``.
    :ivar given: its name as written in the mapping; ``name`` as the server prints it, with its argument types.
    :ivar oid: its OID; another function of the same name is not trusted.
    :ivar digest: MD5 of its definition, in hexadecimal; a redefined function is no longer trusted.
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
    """A column of the key on the source, and the target column that holds its values.

    The types are the base types of domains. The change log has rows without a key, for TRUNCATE, which a domain with
    NOT NULL would reject.
    """

    source: str
    source_type: str
    target: str
    target_type: str


@dataclass(frozen=True, slots=True)
class TablePlan:
    """How one target table is filled.

    :ivar only: whether the source is read with ONLY, because its inheritance children are tables of the plan;
        ``target_only`` the same for the target.
    :ivar key: the key; if empty, the table is one chunk. ``key_reason`` gives the reason in both cases.
    :ivar ordered: whether both servers order the key alike, so that the target may compare ranges too.
    :ivar arbiter: the target's unique index on the columns of the key; None if there is none.
    :ivar chunk_rows: rows per chunk; ``fetch_rows``: rows per fetch of the foreign table.
    :ivar estimate: estimated rows of the source; ``estimate_bytes``: their size in bytes.
    :ivar kept: target columns without a value from the source; a row that is applied again keeps their values.
    :ivar rollback_problem: why a rollback after the cutover would lose data; None if it would not.
    :ivar recopied: whether the cutover copies the whole table again under its lock, as its changes cannot be logged.
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
    def is_wide(self) -> bool:
        """Whether a view has no room for the key beside the target's columns."""
        return len(self.columns) + len(self.key) > TABLE_COLUMNS_MOST

    @property
    def key_problem_if_wide(self) -> str | None:
        """Why the target's columns of a wide table cannot stand for its key in the view; None if they can."""
        for part, wire in zip(self.key, self.key_wires, strict=True):
            if self.is_wide and wire != part.source_type.partition("(")[0]:
                return (
                    f"a view has no room for the key beside {len(self.columns):,} columns, and the key column"
                    f" {quoted(part.target)} has another type than {quoted(part.source)}: give both the same type"
                )
        return None

    @property
    def keys_beside(self) -> tuple[str, ...]:
        """The source's key columns that the view has beside the target's columns; the latter stand for them if wide."""
        return () if self.is_wide else tuple(k.source for k in self.key)

    @property
    def view_key(self) -> tuple[KeyPart, ...]:
        """The key columns of the view and of the foreign table."""
        if self.is_wide:
            return tuple(KeyPart(k.target, k.source_type) for k in self.key)
        return tuple(KeyPart(f"{KEY_PREFIX}{i}", k.source_type) for i, k in enumerate(self.key, 1))

    @property
    def key_wires(self) -> tuple[str, ...]:
        """The types that the SELECT casts the key columns to.

        A key that the target printed is read with these types: an integer in numeric(10,2) is printed as 1.00, which
        is no valid integer.
        """
        wires = {p.target: p.wire for p in self.columns}
        return tuple(wires[k.target] for k in self.key)

    @property
    def source_key(self) -> tuple[KeyPart, ...]:
        """The key columns of the source table."""
        return tuple(KeyPart(k.source, k.source_type) for k in self.key)

    @property
    def target_key(self) -> tuple[KeyPart, ...]:
        """The columns of the target table that hold the key."""
        return tuple(KeyPart(k.target, k.target_type) for k in self.key)


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """The origins of a target sequence's value: it continues from the one that is furthest in its direction.

    :ivar sources: the sequences of the source that it replaces.
    :ivar columns: the target columns that it fills and that no sequence of the source fills.
    """

    target: TableRef
    sources: tuple[TableRef, ...]
    columns: tuple[tuple[TableRef, str], ...]


@dataclass(frozen=True, slots=True)
class LargeObjectPlan:
    """How the large objects of the source are copied.

    :ivar rollback_problem: why a rollback after the cutover could not copy them to the source; None if it could.
    """

    rollback_problem: str | None = None


#: Parts of a plan that its hash identifies unless they have this value.
UNRECORDED: Mapping[str, object] = {"captured": True, "ddl": None}


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    :ivar reverse: how a rollback fills each source table from its target; empty when one table cannot be reversed.
    :ivar reverse_sequences: how a rollback sets the sequences of the source.
    :ivar recode: whether the encodings of the databases differ.
    :ivar trusted: the functions that ``$trust_functions`` names.
    :ivar large_objects: None where the large objects are not copied.
    :ivar captured: whether the application's writes are captured.
    :ivar ddl: SHA-256 of the DDL files that setup executes in the target; None for a target that had tables before.
    """

    tables: tuple[TablePlan, ...]
    reverse: tuple[TablePlan, ...] = ()
    reverse_sequences: tuple[SequencePlan, ...] = ()
    sequences: tuple[SequencePlan, ...] = ()
    materialized_views: tuple[TableRef, ...] = ()
    recode: bool = False
    notes: tuple[str, ...] = field(default=())
    trusted: tuple[Trusted, ...] = ()
    large_objects: LargeObjectPlan | None = None
    captured: bool = True
    ddl: str | None = None

    @property
    def rollback_problems(self) -> tuple[str, ...]:
        """Why a rollback after the cutover is not possible, one text for each reason; empty if it is possible."""
        found: dict[str, list[str]] = {}
        for table in self.tables:
            if table.rollback_problem is not None:
                found.setdefault(table.rollback_problem, []).append(str(table.target))
        problems = tuple(f"{_tables(names)}: {why}" for why, names in found.items())
        if self.large_objects is not None and self.large_objects.rollback_problem is not None:
            problems += (f"large objects: {self.large_objects.rollback_problem}",)
        return problems if problems or self.reverse else ("the plan has no table",)

    def as_json(self) -> Json:
        """The form stored in the journal."""
        return dict(_plan_form().dump_python(self, mode="json"))

    def hashed(self) -> Json:
        """The part of the plan that its hash identifies: no estimates or values derived from them, no notes."""
        value = self.as_json()
        for table in (*value["tables"], *value["reverse"]):
            for volatile in ("estimate", "estimate_bytes", "strategy_reason", "chunk_rows", "fetch_rows"):
                del table[volatile]
        for trusted in value["trusted"]:
            if trusted["side"] == "target":  # setup creates it, so that each attempt finds another OID
                del trusted["oid"]
        del value["notes"]
        # Plans of versions that did not record these keep their hash.
        return {k: v for k, v in value.items() if k not in UNRECORDED or v != UNRECORDED[k]}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of :meth:`hashed`, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.hashed(), sort_keys=True).encode()).hexdigest()


def _tables(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{counted(len(names), 'table')} ({some(names, NAMES_SHOWN)})"


@cache
def _plan_form() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)


@cache
def _table_form() -> TypeAdapter[TablePlan]:
    return TypeAdapter(TablePlan)


def plan_from_json(value: Json) -> Plan:
    """The plan from the form that the journal stores."""
    return _plan_form().validate_python(value)


def table_signature(table: TablePlan) -> str:
    """Identifies the rows of one table: plans with equal signatures copy the same rows."""
    value = _table_form().dump_python(table, mode="json")
    kept = ("target", "source", "only", "columns", "where", "key")
    return json.dumps({k: value[k] for k in kept}, sort_keys=True)
