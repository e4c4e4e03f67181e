"""The values that the journal stores. No I/O: each module of this folder reads and writes the rows of its table."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, TypedDict, TypeVar

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from confiture.states import SCHEMA_TO_SCHEMA, CutoverPhase, Medium, ReadsPhase, State
from confiture.types import Backend, Json, KeyOperator, KeyRange, KeyValue, ShortId, TableRef, ValidBelow

#: Seconds without a heartbeat until the lease lapses, by the target's clock.
LEASE_SECONDS = 30


# Runs and runners ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the journal has it at one moment.

    :ivar medium: how it changes its target. A run of migrations changes one database: its source is its target.
    :ivar reads_phase: where reads are redirected before the cutover; None while they stay on the source.
    :ivar reads_since: when that phase began.
    :ivar reads_limit: seconds that the target may be behind for its readers.
    """

    id: uuid.UUID
    medium: Medium
    state: State
    state_since: datetime
    started_at: datetime
    epoch: int
    source_name: str
    source_conninfo: str
    source_identity: Json
    target_name: str
    target_identity: Json
    options: Json
    fdw: Json | None
    mapping: str | None
    mapping_file: str | None
    plan: Json | None
    plan_hash: str | None
    writes_served_by: str
    cutover_phase: CutoverPhase | None
    blocked_reason: str | None
    blocked_command: str | None
    reads_phase: ReadsPhase | None
    reads_since: datetime | None
    reads_limit: float | None

    @property
    def short(self) -> str:
        """The run's short name, also for its schema: the first eight hex digits of its id."""
        return self.id.hex[:8]

    @property
    def changes_source(self) -> bool:
        """Whether it has objects and an epoch on the source; other runs only read there."""
        return self.medium == SCHEMA_TO_SCHEMA

    @property
    def schema(self) -> str:
        """The schema of the run's own, on the source and (foreign tables) on the target."""
        return f"confiture_{self.short}"


@dataclass(frozen=True, slots=True)
class Event:
    """A transition or a notable fact of a run."""

    kind: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Runner:
    """The holder of a run. ``silent_seconds`` is since its last heartbeat, by the target's clock."""

    run_id: uuid.UUID
    epoch: int
    host: str
    pid: int
    command: str
    target_backends: tuple[Backend, ...]
    source_backends: tuple[Backend, ...]
    started_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None
    ended_why: str | None
    silent_seconds: float

    @property
    def lapsed(self) -> bool:
        """Whether its lease has run out."""
        return self.silent_seconds > LEASE_SECONDS


class BlockedDetail(TypedDict):
    """The detail of the event ``blocked``; ``status.sql`` reads the reason.

    :ivar command: the step with its options that continues the run.
    """

    reason: str
    command: str


class PartDetail(TypedDict):
    """A part of a write pause in seconds."""

    name: str
    seconds: float


class PauseDetail(TypedDict):
    """The detail of the event ``write pause``.

    :ivar command: ``cutover`` or ``rollback``.
    :ivar seconds: from the pause to the moment in which writes are accepted again.
    :ivar limit: ``--max-write-pause``; None where the application was stopped.
    :ivar complete: False when the command was killed: then there are no parts, and the pause was at most as long.
    :ivar began_at: by the target's clock, like ``ended_at``.
    """

    command: str
    parts: list[PartDetail]
    seconds: float
    limit: float | None
    complete: bool
    began_at: str
    ended_at: str


class ForecastDetail(TypedDict):
    """The detail of the event ``forecast recorded``, which setup writes with the run.

    :ivar forecast: as ``plan`` prints it, without the tables.
    :ivar database_bytes: the size of the target's database then.
    """

    forecast: Json
    database_bytes: int


class RehearsalDetail(TypedDict):
    """The detail of the event ``rehearsed``.

    :ivar seconds: the expected write pause, or what was measured of it.
    :ivar limit: as in :class:`PauseDetail`, like ``command``.
    :ivar complete: whether every part was measured; else only those that precede the problem.
    :ivar lock_timeout: seconds that an attempt at the lock may delay writers before the pause begins.
    :ivar problem: why a switch that began now would be aborted; None when it would succeed.
    :ivar blockers: the sessions that blocked the lock, without their statements.
    """

    command: str
    parts: list[PartDetail]
    seconds: float
    limit: float | None
    complete: bool
    lock_timeout: float
    problem: str | None
    blockers: list[Json]


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of the history.

    :ivar kind: of a transition, the trigger that fired it; else the kind of the fact.
    :ivar actor: the user, the host and the process of the command: ``user@host[pid]``.
    :ivar role: the role of the command's database session; None in a journal of an older version.
    :ivar from_state: of a transition; None otherwise.
    :ivar to_state: of a transition, and of the run's creation; None otherwise.
    :ivar detail: the values that belong to the kind.
    """

    at: datetime
    kind: str
    actor: str
    role: str | None
    from_state: State | None
    to_state: State | None
    detail: Json


@dataclass(frozen=True, slots=True)
class RunHistory:
    """The history of a run, the oldest event first.

    :ivar run: the short name of the run.
    """

    run: ShortId
    medium: Medium
    state: State
    source: str
    target: str
    started_at: datetime
    events: tuple[Entry, ...]


# Tables and chunks --------------------------------------------------------------------------------


class TablePhase(StrEnum):
    """The phase of a table of the plan, in the order in which a table reaches them."""

    PLANNED = "planned"
    COPYING = "copying"
    COPIED = "copied"
    #: In reports only: copied, with an index or constraint that is not restored yet. The journal stores ``copied``.
    INDEXING = "indexing"
    FINISHED = "finished"


#: The phases in which the table's rows are in the target.
COPIED = (TablePhase.COPIED, TablePhase.FINISHED)


@dataclass(frozen=True, slots=True)
class TableProgress:
    """A table of the plan and how far its copy has come; ``estimate`` in rows."""

    number: int
    target: TableRef
    source: TableRef
    plan: Json
    estimate: int
    phase: TablePhase
    fingerprint: Json | None
    cursor_key: KeyValue | None
    next_chunk: int
    sealed: bool
    rows_done: int
    started_at: datetime | None
    finished_at: datetime | None


class ChunkError(TypedDict):
    """Why a chunk failed; ``status.sql`` reads the message.

    :ivar key: of the row, by column; None if the row is not known.
    :ivar place: the column, the constraint with its columns, or both.
    """

    message: str
    key: dict[str, str] | None
    place: str | None
    sqlstate: str


class BadRowDetail(ChunkError):
    """The detail of the event ``bad row``; ``status.sql`` reads the table and the message."""

    table: str


class ChunkStatus(StrEnum):
    """The state of a chunk's copy; a failed chunk is copied again by a later command."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range of keys and the state of its copy."""

    table_number: int
    number: int
    range: KeyRange
    status: ChunkStatus
    attempts: int
    rows: int | None
    seconds: float | None
    error: ChunkError | None


# Verifications ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verification:
    """One attempt at verifying; ``verdict`` is None until it has ended."""

    run_id: uuid.UUID
    number: int
    started_at: datetime
    ended_at: datetime | None
    epoch: int
    plan_hash: str
    purpose: str
    servers: Json
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Unit:
    """A part that was compared: a table's rows in a range, a foreign key, a sequence."""

    check_name: str
    subject: str
    unit: int
    source_rows: int | None
    target_rows: int | None
    hashes: Json
    equal: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs: the key's values by column, and both values as text."""

    check_name: str
    subject: str
    kind: str
    key: Mapping[str, str] | None = None
    column_name: str | None = None
    source_value: str | None = None
    target_value: str | None = None

    @property
    def key_values(self) -> tuple[str, ...]:
        """The values of the key alone."""
        return tuple((self.key or {}).values())

    @property
    def place(self) -> str:
        """Table, key, column and kind on one line, without the values."""
        key = ", ".join(f"{name} = {value}" for name, value in (self.key or {}).items())
        column = f"column {self.column_name}" if self.column_name else ""
        return f"{' '.join(filter(None, (self.subject, key, column)))}: {self.kind}"


@dataclass(frozen=True, slots=True)
class Round:
    """A round that is not through.

    :ivar verification: the number of the verification that it repeats.
    :ivar behind: the last part compared, by table number and part; None before the first.
    """

    run_id: uuid.UUID
    number: int
    verification: int
    behind: tuple[int, int] | None


# Deferred objects ----------------------------------------------------------------------------------


class DeferredStatus(StrEnum):
    """The status of a deferred object: off, represented by its interim, or as declared."""

    OFF = "off"
    INTERIM = "interim"
    BACK = "back"


def _pair(value: TableRef | list[str]) -> TableRef:
    return value if isinstance(value, TableRef) else TableRef(*value)


#: A name that is stored as a list of the schema and the name.
_Pair = Annotated[TableRef, BeforeValidator(_pair), PlainSerializer(lambda ref: [ref.schema, ref.name])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """An object that is removed, disabled or relaxed during the run; each kind has its own class.

    :cvar kind: as the journal stores it.
    :ivar table: the table, partition or domain that it belongs to; empty for a publication.
    :ivar definition: the statement or definition that restores it as declared.
    """

    kind: ClassVar[str]

    table: TableRef
    name: str
    definition: str
    comment: str | None = None
    status: DeferredStatus = DeferredStatus.OFF

    @property
    def tables(self) -> tuple[TableRef, ...]:
        """The tables that a change of the object locks."""
        return (self.table,)


#: One kind of deferred object, or all of them.
AnyDeferred = TypeVar("AnyDeferred", bound=Deferred)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredIndex(Deferred):
    """An index.

    :ivar tablespace: None for the default one.
    :ivar level: the depth of its table below the root of the partitions.
    :ivar parent: the index that it is attached to; None at the root.
    :ivar key: its columns if it identifies each row; empty otherwise.
    :ivar statistics: the statistics target of each of its columns that has one, by the column's number.
    :ivar clustered: whether CLUSTER uses it; ``replica_identity``: whether its columns identify replicated rows.
    """

    kind: ClassVar[str] = "index"

    tablespace: str | None = None
    level: int = 0
    parent: _Pair | None = None
    key: tuple[str, ...] = ()
    statistics: tuple[tuple[int, int], ...] = ()
    clustered: bool = False
    replica_identity: bool = False

    @property
    def statement(self) -> str | None:
        """The statement that builds it; None if only its constraint does."""
        return self.definition

    @property
    def is_finished_apart(self) -> bool:
        """Whether its table is locked for a moment after the build, for a constraint or a mark."""
        return self.clustered or self.replica_identity


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredConstraint(DeferredIndex):
    """A unique, primary key or exclusion constraint, with its index.

    :ivar options: the storage parameters of the index as ``name=value``.
    :ivar index: the statement that builds the index, which the constraint then adopts; None if it builds its own.
    """

    kind: ClassVar[str] = "constraint"

    options: tuple[str, ...] = ()
    index_comment: str | None = None
    index: str | None = None

    @property
    def statement(self) -> str | None:
        """As in :class:`DeferredIndex`."""
        return self.index

    @property
    def is_finished_apart(self) -> bool:
        """As in :class:`DeferredIndex`."""
        return self.index is not None or self.clustered or self.replica_identity


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredForeignKey(Deferred):
    """A foreign key.

    :ivar interim: the definition that is in force until the cutover; None when the key stays as declared.
    :ivar interim_name: the name of the interim; that of the key itself where the key is altered.
    :ivar partitioned: whether the table is partitioned and its server rejects NOT VALID there.
    :ivar by_leaf: whether the declared key of a partitioned table is added to each leaf first.
    :ivar whole: whether it must be added validated, because VALIDATE CONSTRAINT does not reach all its parts.
    :ivar plain: whether the key has no action, so that its interim is the same key with another deferrability.
    :ivar validated: False when the key is declared NOT VALID.
    :ivar period: whether its last columns are periods.
    :ivar operators: of each pair of columns; None in the record of an older version.
    """

    kind: ClassVar[str] = "foreign_key"

    interim: str | None
    interim_name: str
    partitioned: bool
    by_leaf: bool = False
    whole: bool = False
    plain: bool
    deferrable: bool
    deferred: bool
    validated: bool
    references: _Pair
    columns: tuple[str, ...]
    ref_columns: tuple[str, ...]
    period: bool = False
    operators: tuple[KeyOperator, ...] | None = None

    @property
    def tables(self) -> tuple[TableRef, ...]:
        """The tables that a change of the key locks: its own, and the one that it references."""
        return (self.table, self.references)

    @property
    def standing(self) -> str:
        """The name of the constraint that is in place until the opening, by the status."""
        return self.interim_name if self.status is DeferredStatus.INTERIM else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredTrigger(Deferred):
    """A trigger; ``enabled`` is ``tgenabled`` as declared."""

    kind: ClassVar[str] = "trigger"

    enabled: str = "O"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredRule(Deferred):
    """A rule; ``enabled`` is ``ev_enabled`` as declared."""

    kind: ClassVar[str] = "rule"

    enabled: str = "O"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredCheck(Deferred):
    """A CHECK or NOT NULL constraint that is NOT VALID.

    :ivar level: the number of tables above its own; -1 when it is created and dropped with that of its parent.
    :ivar domain: whether it belongs to a domain.
    :ivar inherited: whether it is created and dropped with that of its parent.
    :ivar valid_below: the validated constraints of partitions and children, which stay in force without it.
    """

    kind: ClassVar[str] = "check"

    level: int = 0
    domain: bool = False
    inherited: bool = False
    valid_below: tuple[ValidBelow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredPublication(Deferred):
    """A publication; ``definition`` lists the operations that it publishes."""

    kind: ClassVar[str] = "publication"

    @property
    def tables(self) -> tuple[TableRef, ...]:
        """No table: a change of a publication locks none."""
        return ()


#: Kinds that are off while Confiture writes, and that are restored in the commit that opens the database.
SUSPENDED = (DeferredTrigger, DeferredRule, DeferredCheck, DeferredPublication)

_KINDS: dict[str, type[Deferred]] = {
    kind.kind: kind for kind in (DeferredIndex, DeferredConstraint, DeferredForeignKey, *SUSPENDED)
}
#: The values that each kind has; the others are its detail.
_COMMON = ("table", "name", "definition", "interim", "comment", "status")


@cache
def _form(kind: str) -> TypeAdapter[Deferred]:
    return TypeAdapter(_KINDS[kind])


def deferred_as_json(item: Deferred) -> Json:
    """The form that both databases store: ``kind``, the values that every kind has, and ``detail``."""
    values: Json = _form(item.kind).dump_python(item, mode="json")
    common = {name: values.pop(name, None) for name in _COMMON}
    if values.get("interim_name") == item.name:
        del values["interim_name"]
    return {"kind": item.kind, **common, "detail": values}


def deferred_from_json(value: Mapping[str, Any]) -> Deferred:
    """The object from the form of :func:`deferred_as_json`."""
    own = {"interim_name": value["name"], **(value["detail"] or {})}
    return _form(value["kind"]).validate_python({**value, **own})
