"""The objects of a database, as the system catalogs describe them: frozen values. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from confiture.types import Json, KeyOperator, TableRef, ValidBelow


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a database. ``system_identifier`` and ``oid`` together identify it permanently.

    :ivar large_objects: the number of large objects.
    :ivar inherits: whether the role has the privileges of its roles (before PostgreSQL 16, for all of them).
    :ivar role_connections: limit (-1 is none) and number in use, as for the database and for the server, whose
        reserved connections are not counted.
    :ivar may_silence_events: whether the role may set ``event_triggers`` (PostgreSQL 17), as its sessions then do.
    :ivar shared_buffers: in KiB, as ``maintenance_memory``, which is maintenance_work_mem.
    :ivar maintenance_workers: max_parallel_maintenance_workers; ``parallel_workers``: what the server has of them, by
        max_parallel_workers and max_worker_processes.
    """

    system_identifier: str
    database: str
    oid: int
    version: int
    encoding: str
    collate: str
    ctype: str
    locale_provider: str
    locale: str | None
    in_recovery: bool
    fsync: bool
    large_objects: int
    superuser: bool
    bypasses_row_security: bool
    role: str
    may_create: bool
    may_temp: bool
    inherits: bool = True
    may_create_databases: bool = True
    role_connections: tuple[int, int] = (-1, 0)
    database_connections: tuple[int, int] = (-1, 0)
    server_connections: tuple[int, int] = (-1, 0)
    may_silence_events: bool = False
    shared_buffers: int = 128 * 1024
    maintenance_memory: int = 64 * 1024
    maintenance_workers: int = 2
    parallel_workers: int = 8

    @property
    def major(self) -> int:
        """The PostgreSQL major version."""
        return self.version // 10000

    def same_database(self, other: Identity) -> bool:
        """Whether both are one database of one server."""
        return (self.system_identifier, self.oid) == (other.system_identifier, other.oid)

    def as_json(self) -> Json:
        """The form stored in the journal, to recognize the database."""
        return {
            "system_identifier": self.system_identifier,
            "database": self.database,
            "oid": self.oid,
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``base_*`` is its type with domains resolved.

    :ivar formatted: the declared type as SQL, qualified unless it is in pg_catalog.
    :ivar base_kind: ``typtype`` of the base type: b, c, e, r or m.
    :ivar typmod: the type modifier of the base type; -1 if there is none.
    :ivar not_null: whether it rejects NULL; ``null_free``: whether a validated constraint proves that it has none.
    :ivar identity: ``a`` (always), ``d`` (by default) or empty; ``generated``: ``s``, ``v`` or empty.
    :ivar collation: the name of its collation; None for the default of the database.
    :ivar attributes: names of the attributes of a composite type, or of an array of one, in their order; None for
        another type.
    """

    name: str
    formatted: str
    type_kind: str
    base_formatted: str
    base_name: str
    base_schema: str
    base_kind: str
    base_builtin: bool
    typmod: int
    not_null: bool
    null_free: bool
    has_default: bool
    identity: str
    generated: str
    collation: str | None
    deterministic: bool
    attributes: str | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """An index. ``columns`` are its key columns in order, without expressions.

    :ivar table: the table or partition that it belongs to; ``level`` is the depth of that one below the root.
    :ivar parent: the index of the parent table that it is attached to; None at the root.
    :ivar tree: the same number for an index and all indexes attached to it, at any depth.
    :ivar marked: whether it must stay or cannot be recreated unchanged: the replica identity of a published or
        partitioned table, a constraint of a partitioned table with storage parameters, or a primary key over an
        inherited NOT NULL.
    :ivar own_equality: whether each key column has its own collation there, and a built-in default operator class.
    :ivar options: storage parameters as ``name=value``.
    :ivar clustered: whether CLUSTER uses it; ``replica_identity``: whether its columns identify replicated rows.
    :ivar statistics: the statistics target of each of its columns that has one, by the column's number.
    :ivar partitioned: whether it belongs to a partitioned table.
    """

    table: TableRef
    level: int
    parent: TableRef | None
    tree: int
    name: str
    definition: str
    is_unique: bool
    is_primary: bool
    immediate: bool
    valid: bool
    partial: bool
    expressions: bool
    marked: bool
    btree: bool
    own_equality: bool
    columns: tuple[str, ...]
    constraint_name: str | None
    constraint_definition: str | None
    constraint_comment: str | None
    comment: str | None
    options: tuple[str, ...]
    tablespace: str | None
    clustered: bool = False
    replica_identity: bool = False
    statistics: tuple[tuple[int, int], ...] = ()
    partitioned: bool = False

    @classmethod
    def of_key(cls, table: TableRef, name: str, columns: tuple[str, ...]) -> Index:
        """A unique index that was valid and is off during a run, as far as a plan needs it."""
        return cls(
            table=table,
            level=0,
            parent=None,
            tree=0,
            name=name,
            definition="",
            is_unique=True,
            is_primary=False,
            immediate=True,
            valid=True,
            partial=False,
            expressions=False,
            marked=False,
            btree=True,
            own_equality=True,
            columns=columns,
            constraint_name=None,
            constraint_definition=None,
            constraint_comment=None,
            comment=None,
            options=(),
            tablespace=None,
        )

    @property
    def is_whole(self) -> bool:
        """Whether it contains every row, and its equality makes rows unique.

        An exclusion constraint and a temporal key (WITHOUT OVERLAPS) are GiST: several rows may share the columns.
        """
        sound = self.is_unique and self.immediate and self.valid and self.btree
        return sound and not self.partial and not self.expressions

    @property
    def can_be_adopted(self) -> bool:
        """Whether its constraint can be added to an index that was built before (ADD CONSTRAINT ... USING INDEX)."""
        return self.constraint_name is not None and self.is_unique and self.btree and not self.partitioned

    @property
    def is_key(self) -> bool:
        """Whether ``=`` on its columns identifies each row, except rows with NULLs."""
        return self.is_whole and self.own_equality


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key as declared, on ``table``: a table or one of its partitions.

    :ivar partitioned: whether the table is partitioned and its server rejects NOT VALID there (before PostgreSQL 18).
    :ivar to_partitioned: whether the referenced table is partitioned.
    :ivar parts_stay_unvalidated: whether VALIDATE CONSTRAINT leaves its parts NOT VALID (before PostgreSQL 18).
    :ivar kept_as_declared: whether it is NOT ENFORCED; it rejects nothing, so it needs no interim.
    :ivar period: whether its last columns are periods (PostgreSQL 18), which are compared by "overlaps".
    """

    table: TableRef
    name: str
    definition: str
    references: TableRef
    columns: tuple[str, ...]
    ref_columns: tuple[str, ...]
    match_full: bool
    no_action: bool
    is_deferrable: bool
    is_deferred: bool
    validated: bool
    partitioned: bool
    to_partitioned: bool
    parts_stay_unvalidated: bool
    kept_as_declared: bool
    period: bool
    operators: tuple[KeyOperator, ...]
    comment: str | None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user-defined trigger on a table or one of its partitions. ``enabled`` is ``tgenabled``."""

    table: TableRef
    name: str
    enabled: str
    definition: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule ON INSERT, UPDATE or DELETE of a table or one of its partitions; ``enabled`` is ``ev_enabled``."""

    table: TableRef
    name: str
    enabled: str
    definition: str


@dataclass(frozen=True, slots=True)
class Unvalidated:
    """A CHECK or NOT NULL constraint NOT VALID of a table, a partition or a domain: old rows may violate it.

    :ivar table: the table, or the domain that it belongs to.
    :ivar inherited: whether it is created and dropped with the constraint of its parent; its comment is its own.
    :ivar level: the number of tables above it in the inheritance tree.
    :ivar valid_below: the validated constraints of partitions and children that are dropped with it.
    """

    table: TableRef
    name: str
    definition: str
    comment: str | None
    inherited: bool
    level: int
    valid_below: tuple[ValidBelow, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table, with its partitions. ``tuples`` is -1 if it was never analyzed.

    :ivar bytes: its size without the large values, which are stored beside the rows; ``large_bytes``: their size.
    :ivar row_security: whether policies apply to the role; ``forces_row_security``: whether they apply to the owner.
    :ivar owned: whether the role has the privileges of the owner.
    :ivar indexes: its own indexes; ``partition_indexes``: those of its partitions.
    """

    oid: int
    ref: TableRef
    kind: str
    row_security: bool
    forces_row_security: bool
    tuples: int
    bytes: int
    inherited_from: bool
    inherits: bool
    may_select: bool
    may_use_schema: bool
    may_create_in_schema: bool
    owner_uses_schema: bool
    may_lock: bool
    owned: bool
    owner: str
    large_bytes: int = 0
    columns: tuple[Column, ...] = ()
    indexes: tuple[Index, ...] = ()
    partition_indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    unvalidated: tuple[Unvalidated, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    rules: tuple[Rule, ...] = ()

    def column(self, name: str) -> Column | None:
        """The column of that exact name."""
        return next((c for c in self.columns if c.name == name), None)

    def known_column(self, name: str) -> Column:
        """The column of that exact name, which an index or the plan of the table has named.

        :raises KeyError: when the table has no such column.
        """
        return {c.name: c for c in self.columns}[name]

    @property
    def estimated_rows(self) -> int:
        """The estimated number of rows, from the statistics, or from the size if there are none."""
        return self.tuples if self.tuples >= 0 else self.bytes // 100

    @property
    def row_bytes(self) -> int:
        """The average width of a row in bytes, with its large values; 100 without these if it is not known."""
        width = max(24, self.bytes // self.tuples) if self.tuples > 0 and self.bytes else 100
        return width + self.large_bytes // max(1, self.estimated_rows)

    @property
    def total_bytes(self) -> int:
        """Its size in bytes, with the large values."""
        return self.bytes + self.large_bytes

    @property
    def only(self) -> bool:
        """Whether it must be read with ONLY, because its inheritance children are separate tables."""
        return self.kind == "r" and self.inherited_from


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication that makes the server reject the DELETE of a pass. ``publish`` is the value of that parameter.

    :ivar tables: its tables without a replica identity; empty where a row filter or a column list is the only cause.
    """

    name: str
    publish: str
    tables: tuple[TableRef, ...] = ()


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """An event trigger that is not disabled. ``event`` is ``evtevent``."""

    name: str
    event: str


@dataclass(frozen=True, slots=True)
class Filled:
    """A column that a sequence fills. ``plain``: its default is the value of the sequence, without an expression."""

    table: TableRef
    column: str
    plain: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence.

    :ivar last: its last value; None if it has generated none, or if the role cannot read it.
    :ivar owner: the column that owns it; None if no column does.
    :ivar fills: the columns that it fills: identity columns, and columns with a default that calls nextval().
    """

    ref: TableRef
    increment: int
    minimum: int
    maximum: int
    last: int | None
    owner: tuple[TableRef, str] | None
    fills: tuple[Filled, ...]
    may_select: bool
    may_update: bool

    @property
    def columns(self) -> tuple[Filled, ...]:
        """The columns that it fills; the owner if no identity and no default uses it."""
        return self.fills or ((Filled(*self.owner, plain=True),) if self.owner is not None else ())


@dataclass(frozen=True, slots=True)
class LargeObjects:
    """The large objects of a database.

    :ivar bytes: the size of the catalog that stores them.
    :ivar owners: the roles that own some; ``grantees``: the roles with privileges on some.
    :ivar unreadable: how many the role cannot read; ``example``: the OID of one of them.
    :ivar unreadable_owners: the roles that own these.
    """

    bytes: int = 0
    owners: tuple[str, ...] = ()
    grantees: tuple[str, ...] = ()
    unreadable: int = 0
    example: int | None = None
    unreadable_owners: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaterializedView:
    """A materialized view.

    :ivar populated: whether it can be read; one WITH NO DATA cannot.
    :ivar reads: the materialized views that it reads, also through views.
    """

    ref: TableRef
    populated: bool = True
    reads: tuple[TableRef, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """The facts about a database that planning needs."""

    identity: Identity
    tables: tuple[Table, ...]
    sequences: tuple[Sequence, ...]
    materialized_views: tuple[MaterializedView, ...]  # in the order of their creation
    extensions: Mapping[str, str] = field(default_factory=dict)  # the versions, by name
    domain_checks: tuple[Unvalidated, ...] = field(default=())
    event_triggers: tuple[EventTrigger, ...] = field(default=())
    publications: tuple[Publication, ...] = field(default=())
    large_objects: LargeObjects = field(default=LargeObjects())
    roles: Mapping[str, bool] = field(default_factory=dict)  # of the server; whether the session may act as each
    of_others: tuple[tuple[str, str, str], ...] = field(default=())  # (kind, name, owner)

    @cached_property
    def by_ref(self) -> Mapping[TableRef, Table]:
        """Tables by their exact name."""
        return {t.ref: t for t in self.tables}
