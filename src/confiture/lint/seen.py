"""The state that earlier statements and the catalog of a database have established, when a statement is judged.

``noting`` updates it; the rules only read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from confiture.lint import facts as of_database
from confiture.lint import nodes
from confiture.lint.facts import Column, Dependent, Domain, Facts
from confiture.lint.locks import Lock
from confiture.types import TableRef


@dataclass
class Constraint:
    """A constraint that a statement has added.

    :ivar not_null: the columns that it forbids to be NULL.
    :ivar condition: of a CHECK constraint, as SQL; empty for others.
    :ivar validated: whether every row is known to satisfy it.
    :ivar transaction: that has added it.
    """

    not_null: frozenset[str]
    condition: str
    validated: bool
    transaction: int


@dataclass
class KnownTable:
    """A table, as earlier statements have left it.

    :ivar created_in: the number of the file that has created it; None for a table that existed.
    :ivar temporary: whether only its session sees it.
    :ivar partitioned: None where no statement shows it.
    :ivar partition_key: the first column of the key of a partitioned table.
    :ivar partitions: those that statements have created or attached, and whether each is the DEFAULT partition.
    :ivar columns: those of which the type is known.
    :ivar added: columns that this file has added.
    :ivar renamed: the former names of columns that this file has renamed.
    :ivar unique_index: whether a statement has created a unique index.
    :ivar policies: the number of row-level security policies that statements have created.
    """

    created_in: int | None = None
    temporary: bool = False
    partitioned: bool | None = None
    partition_key: str | None = None
    partitions: dict[TableRef, bool] = field(default_factory=dict)
    columns: dict[str, Column] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)
    renamed: set[str] = field(default_factory=set)
    constraints: dict[str, Constraint] = field(default_factory=dict)
    unique_index: bool = False
    policies: int = 0


@dataclass(frozen=True)
class KnownIndex:
    """An index that a statement has created.

    :ivar file: the number of the file that has created it.
    :ivar columns: of the key; an expression is left out.
    """

    table: TableRef
    file: int
    columns: tuple[str, ...]


@dataclass
class Seen:
    """The state before a statement.

    :ivar facts: of the database; None where no database is named.
    :ivar file: the number of the current file.
    :ivar transaction: the number of the current transaction.
    :ivar in_transaction: whether a transaction is open that contains more than one statement.
    :ivar schema: of names without one.
    :ivar held: the strongest lock that this transaction has taken on each table that existed, with the line.
    :ivar costly: tables that a statement of this file has scanned or rewritten, each with the line of the statement.
    :ivar indexes: those that statements have created.
    :ivar labels: values that this transaction has added to enum types.
    :ivar created_types: types that this transaction has created.
    :ivar domains: those that statements have created or changed, by name.
    :ivar recreated: names of objects that this file creates, wherever it does.
    :ivar secured: names of tables for which this file creates a policy, wherever it does.
    :ivar undone: names of objects and ``table.column`` that the file which this one undoes has created.
    :ivar lock_timeout: whether a statement of this file, or the command that runs it, has set it.
    """

    facts: Facts | None = None
    by_confiture: bool = True
    file: int = 0
    transaction: int = 0
    in_transaction: bool = True
    schema: str = "public"
    held: dict[TableRef, tuple[Lock, int]] = field(default_factory=dict)
    costly: dict[TableRef, int] = field(default_factory=dict)
    tables: dict[TableRef, KnownTable] = field(default_factory=dict)
    indexes: dict[TableRef, KnownIndex] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    created_types: set[str] = field(default_factory=set)
    domains: dict[str, Domain] = field(default_factory=dict)
    recreated: frozenset[str] = frozenset()
    secured: frozenset[str] = frozenset()
    undone: frozenset[str] = frozenset()
    lock_timeout: bool = True

    def ref(self, relation: Any) -> TableRef:
        """The table of a RangeVar. A name without a schema is looked up along the search path."""
        if relation.schemaname:
            return TableRef(relation.schemaname, relation.relname)
        return self.named([relation.relname])

    def named(self, name: list[str]) -> TableRef:
        """The table of a name with or without a schema."""
        if len(name) > 1:
            return TableRef(name[-2], name[-1])
        path = self.facts.schemas if self.facts is not None else ()
        for schema in (self.schema, *path):
            found = TableRef(schema, name[-1])
            if found in self.tables or (self.facts is not None and found in self.facts.tables):
                return found
        return TableRef(self.schema, name[-1])

    def index(self, name: list[str]) -> TableRef:
        """The index of a name with or without a schema."""
        if len(name) > 1:
            return TableRef(name[-2], name[-1])
        path = self.facts.schemas if self.facts is not None else ()
        for schema in (self.schema, *path):
            found = TableRef(schema, name[-1])
            if found in self.indexes or (self.facts is not None and found in self.facts.indexes):
                return found
        return TableRef(self.schema, name[-1])

    def index_is_new(self, index: TableRef) -> bool:
        """Whether this file has created the index."""
        return index in self.indexes and self.indexes[index].file == self.file

    def columns_of_index(self, name: str) -> tuple[str, ...]:
        """The columns of an index; empty where they are not known."""
        index = self.index([name])
        if index in self.indexes:
            return self.indexes[index].columns
        found = self.facts.indexes.get(index) if self.facts is not None else None
        return found.columns if found is not None else ()

    def known(self, table: TableRef) -> KnownTable:
        """The table as earlier statements have left it, to be changed or read."""
        return self.tables.setdefault(table, KnownTable())

    def fact(self, table: TableRef) -> of_database.Table | None:
        """The table in the database; None where no database is named or it lacks the table."""
        return self.facts.tables.get(table) if self.facts is not None else None

    def is_new(self, table: TableRef) -> bool:
        """Whether no other session uses the table: this file creates it, or an earlier one that is not applied yet."""
        known = self.tables.get(table)
        if known is None or known.created_in is None:
            return False
        if known.temporary or known.created_in == self.file:
            return True
        return self.facts is not None and table not in self.facts.tables

    def column(self, table: TableRef, name: str) -> Column | None:
        """A column; None where its type is not known."""
        known = self.tables.get(table)
        if known is not None and name in known.columns:
            return known.columns[name]
        found = self.fact(table)
        return found.columns.get(name) if found is not None else None

    def type(self, table: TableRef, name: str) -> nodes.Type | None:
        """The type of a column; None where it is not known."""
        found = self.column(table, name)
        return nodes.parsed_type(found.type) if found is not None else None

    def never_null(self, table: TableRef, column: str) -> bool:
        """Whether the column is NOT NULL, or a validated constraint proves it."""
        found = self.column(table, column)
        if found is not None and found.not_null:
            return True
        known = self.tables.get(table)
        if known is not None and any(c.validated and column in c.not_null for c in known.constraints.values()):
            return True
        return any(
            check.validated and column in nodes.not_null_columns(nodes.condition(check.definition))
            for check in self._checks(table)
        )

    def checks(self, table: TableRef) -> tuple[str, ...]:
        """The conditions of the validated CHECK constraints."""
        known = self.tables.get(table)
        added = known.constraints.values() if known is not None else ()
        here = [c.condition for c in added if c.validated and c.condition]
        return (*here, *(check.definition for check in self._checks(table) if check.validated))

    def checks_of(self, table: TableRef, column: str) -> dict[str, str]:
        """The conditions of the CHECK constraints that name a column, by the names of the constraints."""
        found = {check.name: check.definition for check in self._checks(table)}
        known = self.tables.get(table)
        found |= {n: c.condition for n, c in known.constraints.items() if c.condition} if known is not None else {}
        return {name: text for name, text in found.items() if column in nodes.columns(nodes.condition(text))}

    def indexed(self, table: TableRef, column: str) -> bool:
        """Whether an index of the table is known to have the column in its key."""
        of_files = [index.columns for index in self.indexes.values() if index.table == table]
        known = self.facts.indexes.values() if self.facts is not None else ()
        return any(column in columns for columns in (*of_files, *(i.columns for i in known if i.table == table)))

    def _checks(self, table: TableRef) -> tuple[of_database.Check, ...]:
        found = self.fact(table)
        return found.checks if found is not None else ()

    def partitioned(self, table: TableRef) -> bool:
        """Whether the table is known to be partitioned."""
        known, found = self.tables.get(table), self.fact(table)
        if known is not None and known.partitioned is not None:
            return known.partitioned
        return found is not None and found.kind == "p"

    def partition_key(self, table: TableRef) -> str | None:
        """The first column of the key of a partitioned table; None where it is not known, or an expression."""
        known, found = self.tables.get(table), self.fact(table)
        if known is not None and known.partition_key is not None:
            return known.partition_key
        return found.partition_key if found is not None else None

    def partitions(self, table: TableRef) -> dict[TableRef, bool]:
        """The known partitions of a table, those of partitions included, each with whether it is DEFAULT."""
        known, found = self.tables.get(table), self.fact(table)
        direct = dict.fromkeys(found.partitions, False) if found is not None else {}
        if found is not None and found.default_partition is not None:
            direct[found.default_partition] = True
        direct |= known.partitions if known is not None else {}
        below = [self.partitions(partition) for partition in direct]
        return direct | {name: False for more in below for name in more}

    def with_type(self, name: str) -> list[TableRef]:
        """The known tables with a column of a domain."""
        columns = {table: known.columns for table, known in self.tables.items()}
        if self.facts is not None:
            columns |= {t: {**f.columns, **columns.get(t, {})} for t, f in self.facts.tables.items()}
        return [t for t, of in columns.items() if any(nodes.parsed_type(c.type).name == name for c in of.values())]

    def table_of_index(self, index: TableRef) -> TableRef | None:
        """The table of an index; None where it is not known."""
        if index in self.indexes:
            return self.indexes[index].table
        found = self.facts.indexes.get(index) if self.facts is not None else None
        return found.table if found is not None else None

    def dependents(self, table: TableRef, column: str | None = None) -> tuple[Dependent, ...]:
        """The objects of the database that use a column, or the table where ``column`` is None."""
        found = self.fact(table)
        if found is None:
            return ()
        return tuple(d for d in found.dependents if column is None or d.column in (column, None))

    def constrained(self, domain: str) -> bool:
        """Whether the type is a domain that is known to have a constraint."""
        found = self._domain(domain)
        return found is not None and found.constrained

    def stored(self, type_: nodes.Type) -> nodes.Type:
        """The type beneath a domain, whose values are stored in the same way; the type itself for no domain."""
        found = self._domain(type_.name)
        if found is None or type_.array:
            return type_
        base = nodes.parsed_type(found.base)
        return base if base.name == type_.name else self.stored(base)

    def _domain(self, name: str) -> Domain | None:
        if name in self.domains:
            return self.domains[name]
        return self.facts.domains.get(name) if self.facts is not None else None
