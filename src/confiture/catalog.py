"""A database's catalogs as frozen values; the only module that reads them for planning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from psycopg.rows import dict_row

from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import TableRef

_SQL = "catalog.sql"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database this is. ``system_identifier`` and ``oid`` together name it for life.

    :ivar may_silence_events: the role may set ``event_triggers`` (PostgreSQL 17), as each session then does.
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
    may_silence_events: bool = False

    @property
    def major(self) -> int:
        """The PostgreSQL major version."""
        return self.version // 10000

    def same_database(self, other: Identity) -> bool:
        """Whether both are one database of one server."""
        return (self.system_identifier, self.oid) == (other.system_identifier, other.oid)

    def as_json(self) -> Json:
        """What the journal keeps, to know the database again."""
        return {
            "system_identifier": self.system_identifier,
            "database": self.database,
            "oid": self.oid,
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``base_*`` is its type with domains resolved.

    :ivar formatted: the declared type as SQL, qualified unless it lies in pg_catalog.
    :ivar base_kind: ``typtype`` of the base: b, c, e, r, m.
    :ivar typmod: of the base type, -1 for none.
    :ivar not_null: it takes no NULL; ``null_free``: and a validated constraint proves that it has none.
    :ivar identity: ``a`` (always), ``d`` (by default) or empty; ``generated``: ``s``, ``v`` or empty.
    :ivar collation: when not the database's default.
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


@dataclass(frozen=True, slots=True)
class Index:
    """An index; ``columns`` are its plain key columns in order.

    :ivar table: the table or partition it is on, ``level`` that one's depth below the root.
    :ivar parent: the index of the partitioned table above that it is attached to; None at a root.
    :ivar tree: one number for an index and all that is attached to it, at any depth.
    :ivar marked: it cannot be made anew as it is: the replica identity, the clustering index, one with
        statistics targets, a partitioned table's constraint with storage parameters.
    :ivar own_equality: every key column is compared by its own collation and a built-in default operator class.
    :ivar needed: something other than the table depends on it (a view's GROUP BY, a foreign key).
    :ivar options: storage parameters as ``name=value``.
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
    needed: bool

    @property
    def is_whole(self) -> bool:
        """Whether it holds every row once, by its own equality.

        An exclusion constraint and a temporal key (WITHOUT OVERLAPS) are GiST: several rows may share the columns.
        """
        sound = self.is_unique and self.immediate and self.valid and self.btree
        return sound and not self.partial and not self.expressions

    @property
    def is_key(self) -> bool:
        """Whether ``=`` on its columns finds each row by it, NULLs aside."""
        return self.is_whole and self.own_equality


@dataclass(frozen=True, slots=True)
class KeyOperator:
    """How one column of a foreign key is compared: ``referenced OPERATOR(...) referencing``.

    :ivar operator: as SQL, ``OPERATOR(schema.=)``; it takes ``left_type`` and ``right_type``.
    :ivar collation: of the referenced column; None where its type has none.
    """

    operator: str
    left_type: str
    right_type: str
    collation: str | None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key as declared, on ``table``: a table or one of its partitions.

    :ivar partitioned: the table is partitioned, and its server refuses NOT VALID there (before PostgreSQL 18).
    :ivar to_partitioned: the referenced table is partitioned.
    :ivar kept_as_declared: not enforced: it refuses nothing, so nothing stands in for it.
    :ivar period: its last columns are periods (PostgreSQL 18); their operator is "overlaps".
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
    kept_as_declared: bool
    period: bool
    operators: tuple[KeyOperator, ...]
    comment: str | None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user's trigger on a table or one of its partitions; ``enabled`` is ``tgenabled``."""

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

    :ivar table: the domain's name where it belongs to one.
    :ivar inherited: it comes and goes with its parent's; only its comment is its own.
    :ivar level: how many tables are above it in the inheritance tree.
    """

    table: TableRef
    name: str
    definition: str
    comment: str | None
    inherited: bool
    level: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table (partitions belong to their root). ``tuples`` is -1 where never analyzed.

    :ivar indexes: its own, ``partition_indexes`` those of its partitions.
    """

    oid: int
    ref: TableRef
    kind: str
    row_security: bool
    tuples: int
    bytes: int
    inherited_from: bool
    inherits: bool
    may_select: bool
    may_use_schema: bool
    may_lock: bool
    owned: bool
    owner: str
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

    @property
    def estimated_rows(self) -> int:
        """Rows by the statistics, or guessed from its size where there are none."""
        return self.tuples if self.tuples >= 0 else self.bytes // 100

    @property
    def row_bytes(self) -> int:
        """The average row's width in bytes; 100 where nothing is known."""
        return max(24, self.bytes // self.tuples) if self.tuples > 0 and self.bytes else 100

    @property
    def only(self) -> bool:
        """Whether it must be read with ONLY: its inheritance children are tables of their own."""
        return self.kind == "r" and self.inherited_from


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication under which a pass could not delete rows; ``publish`` is its parameter's value."""

    name: str
    publish: str


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """An event trigger of the database that is not disabled; ``event`` is ``evtevent``."""

    name: str
    event: str


@dataclass(frozen=True, slots=True)
class Filled:
    """A column that a sequence fills; ``plain``: with the sequence's value as it is."""

    table: TableRef
    column: str
    plain: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence.

    :ivar last: the value handed out last; None when there is none, or it may not be read.
    :ivar owner: the column that it is dropped with; None when it stands free.
    :ivar fills: the columns that draw from it: as identity, or by a default.
    """

    ref: TableRef
    increment: int
    minimum: int
    maximum: int
    last: int | None
    owner: tuple[TableRef, str] | None
    fills: tuple[Filled, ...]
    may_select: bool

    @property
    def columns(self) -> tuple[Filled, ...]:
        """The columns whose values come from it: the owner where no default and no identity tells."""
        return self.fills or ((Filled(*self.owner, plain=True),) if self.owner is not None else ())


@dataclass(frozen=True)
class Catalog:
    """Everything planning needs to know of a database."""

    identity: Identity
    tables: tuple[Table, ...]
    sequences: tuple[Sequence, ...]
    materialized_views: tuple[TableRef, ...]  # the populated ones
    extensions: tuple[str, ...] = field(default=())
    domain_checks: tuple[Unvalidated, ...] = field(default=())
    event_triggers: tuple[EventTrigger, ...] = field(default=())
    publications: tuple[Publication, ...] = field(default=())

    @cached_property
    def by_ref(self) -> Mapping[TableRef, Table]:
        """Tables by their exact name."""
        return {t.ref: t for t in self.tables}


def _query(tx: Transaction, block: str, **parameters: object) -> list[Json]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        text = load(_SQL)[block].decode()
        return cursor.execute(text, parameters or None).fetchall()


def identity(tx: Transaction) -> Identity:
    """Which database the transaction is in."""
    return Identity(**_query(tx, "identity")[0])


def _grouped(tx: Transaction, name: str, oids: list[int]) -> dict[int, list[Json]]:
    grouped: dict[int, list[Json]] = defaultdict(list)
    for row in _query(tx, name, tables=oids):
        grouped[row.pop("table_oid")].append(row)
    return grouped


def _of_table(row: Json) -> Json:
    table = TableRef(row.pop("table_schema"), row.pop("table_name"))
    return {**row, "table": table}


def _index(row: Json) -> Index:
    schema, name = row.pop("parent_schema"), row.pop("parent_name")
    row["parent"] = None if name is None else TableRef(schema, name)
    row["columns"], row["options"] = tuple(row["columns"]), tuple(row["options"])
    return Index(**_of_table(row))


def _foreign_key(row: Json) -> ForeignKey:
    row["references"] = TableRef(row.pop("ref_schema"), row.pop("ref_name"))
    row["columns"] = tuple(row["columns"])
    row["ref_columns"] = tuple(row["ref_columns"])
    row["operators"] = tuple(KeyOperator(**o) for o in row["operators"])
    return ForeignKey(**_of_table(row))


def read(tx: Transaction) -> Catalog:
    """Read the catalogs in the transaction's snapshot (REPEATABLE READ for a consistent one)."""
    rows = _query(tx, "tables")
    oids = [row["oid"] for row in rows]
    columns = _grouped(tx, "columns", oids)
    indexes = {oid: [_index(i) for i in found] for oid, found in _grouped(tx, "indexes", oids).items()}
    foreign_keys = _grouped(tx, "foreign_keys", oids)
    unvalidated = _grouped(tx, "unvalidated", oids)
    triggers = _grouped(tx, "triggers", oids)
    rules = _grouped(tx, "rules", oids)
    tables = tuple(
        Table(
            ref=TableRef(row.pop("schema"), row.pop("name")),
            columns=tuple(Column(**c) for c in columns[row["oid"]]),
            indexes=tuple(i for i in indexes.get(row["oid"], ()) if i.level == 0),
            partition_indexes=tuple(i for i in indexes.get(row["oid"], ()) if i.level > 0),
            foreign_keys=tuple(_foreign_key(f) for f in foreign_keys[row["oid"]]),
            unvalidated=tuple(Unvalidated(**_of_table(c)) for c in unvalidated[row["oid"]]),
            triggers=tuple(Trigger(**_of_table(t)) for t in triggers[row["oid"]]),
            rules=tuple(Rule(**_of_table(r)) for r in rules[row["oid"]]),
            **row,
        )
        for row in rows
    )
    return Catalog(
        identity=identity(tx),
        tables=tables,
        sequences=_sequences(tx, tables),
        materialized_views=tuple(TableRef(**v) for v in _query(tx, "materialized_views")),
        extensions=tuple(e["name"] for e in _query(tx, "extensions")),
        domain_checks=tuple(Unvalidated(**_of_table(c)) for c in _query(tx, "unvalidated_of_domains")),
        publications=tuple(Publication(**p) for p in _query(tx, "publications")),
        event_triggers=tuple(EventTrigger(**e) for e in _query(tx, "event_triggers")),
    )


def _sequences(tx: Transaction, tables: tuple[Table, ...]) -> tuple[Sequence, ...]:
    refs = {t.oid: t.ref for t in tables}
    found = []
    for row in _query(tx, "sequences"):
        table = refs.get(row["owner_table_oid"])
        owner = (table, row["owner_column"]) if table is not None and row["owner_column"] else None
        fills = (Filled(refs[f["table_oid"]], f["column"], f["plain"]) for f in row["fills"] if f["table_oid"] in refs)
        found.append(
            Sequence(
                ref=TableRef(row["schema"], row["name"]),
                increment=row["increment"],
                minimum=row["minimum"],
                maximum=row["maximum"],
                last=row["last"],
                owner=owner,
                fills=tuple(fills),
                may_select=row["may_select"],
            )
        )
    return tuple(found)
