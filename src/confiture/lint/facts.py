"""The facts that the catalog of a database adds to the text of migrations. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confiture.lint.model import Size
from confiture.types import TableRef


@dataclass(frozen=True)
class Column:
    """A column.

    :ivar type: as ``format_type`` prints it.
    :ivar not_null: whether it is declared NOT NULL.
    """

    type: str
    not_null: bool = False


@dataclass(frozen=True)
class Check:
    """A CHECK constraint.

    :ivar definition: the expression, as the server prints it.
    :ivar validated: whether every row is known to satisfy it.
    """

    name: str
    definition: str
    validated: bool


@dataclass(frozen=True)
class Dependent:
    """An object that a change of a table or of a column breaks.

    :ivar kind: such as ``view`` or ``function``.
    :ivar column: None where it depends on the table as a whole.
    """

    kind: str
    name: str
    column: str | None = None


@dataclass(frozen=True)
class Index:
    """An index.

    :ivar columns: of the key; an expression has a name of the server.
    """

    table: TableRef
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """A domain.

    :ivar base: the type beneath it, as ``format_type`` prints it.
    :ivar constrained: whether it, or a domain beneath it, has a constraint.
    """

    base: str
    constrained: bool


_EMPTY = Size(0, None)


@dataclass(frozen=True)
class Table:
    """A table, view or materialized view.

    :ivar kind: as ``pg_class.relkind``.
    :ivar key: the columns of the primary key; empty without one.
    :ivar partition_key: the first column of the key of a partitioned table; None for an expression.
    :ivar partitions: of a partitioned table, without that of DEFAULT.
    :ivar default_partition: of a partitioned table.
    :ivar partition_of: its parent, for a partition.
    :ivar unique_index: whether a unique index of plain columns without a condition covers every row.
    :ivar policies: the number of its row-level security policies.
    """

    ref: TableRef
    kind: str = "r"
    size: Size = _EMPTY
    columns: Mapping[str, Column] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    key: tuple[str, ...] = ()
    partition_key: str | None = None
    partitions: tuple[TableRef, ...] = ()
    default_partition: TableRef | None = None
    partition_of: TableRef | None = None
    unique_index: bool = False
    policies: int = 0
    dependents: tuple[Dependent, ...] = ()


@dataclass(frozen=True)
class Facts:
    """The objects of a database that migrations name.

    :ivar version: of the server, as ``server_version_num``.
    :ivar schemas: the search path, for names without a schema.
    :ivar indexes: those of the tables.
    :ivar functions: names of functions, without schemas, and whether one of that name is volatile.
    :ivar domains: by their names without schemas.
    """

    version: int
    schemas: tuple[str, ...] = ("public",)
    tables: Mapping[TableRef, Table] = field(default_factory=dict)
    indexes: Mapping[TableRef, Index] = field(default_factory=dict)
    functions: Mapping[str, bool] = field(default_factory=dict)
    domains: Mapping[str, Domain] = field(default_factory=dict)
