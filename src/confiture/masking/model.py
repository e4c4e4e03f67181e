"""The values of masking: rules, the mask file, the mask of each column, and suspicions. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from confiture.types import TableRef
from confiture.yaml_nodes import Name, Position


class Kind(StrEnum):
    """The kinds of rules, by the names that the mask file has."""

    KEEP = "keep"
    NULL = "null"
    CONSTANT = "constant"
    HASH = "hash"
    EMAIL = "email"
    PHONE = "phone"
    NAME = "name"
    ADDRESS = "address"
    UUID = "uuid"
    TEXT = "text"
    NUMBER_NOISE = "number noise"
    DATE_SHIFT = "date shift"
    SQL = "sql"


#: Rules that give different values for different values, so that unique columns stay unique and joins survive.
KEEPS_APART = frozenset({Kind.KEEP, Kind.HASH, Kind.EMAIL, Kind.UUID})
#: Rules whose result depends on the key.
KEYED = frozenset({
    Kind.HASH, Kind.EMAIL, Kind.PHONE, Kind.NAME, Kind.ADDRESS, Kind.UUID, Kind.NUMBER_NOISE, Kind.DATE_SHIFT,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with its options; an option that the kind lacks, or that the file does not give, is None.

    :ivar length: characters of a ``hash``.
    :ivar value: of a ``constant``, as the file has it.
    :ivar percent: the largest change of ``number noise``, above 0 and below 100.
    :ivar days: the largest change of ``date shift``, in days.
    :ivar by: the column whose value decides the shift of ``date shift``.
    :ivar part: of a ``name`` or an ``address``.
    :ivar domain: of an ``email``.
    :ivar sql: an SQL expression over the source row.
    :ivar leak_percent: of the distinct values of that expression, the most that may also occur in the source.
    """

    kind: Kind
    length: int | None = None
    value: str | None = None
    percent: float | None = None
    days: int | None = None
    by: str | None = None
    part: str | None = None
    domain: str | None = None
    sql: str | None = None
    leak_percent: float | None = None

    def __str__(self) -> str:
        options = [
            f"{name} {value}"
            for name in ("length", "value", "percent", "days", "by", "part", "domain", "sql")
            if (value := getattr(self, name)) is not None
        ]
        return str(self.kind) if not options else f"{self.kind} ({', '.join(options)})"


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """The rule that the file gives a column."""

    column: str
    rule: Rule
    at: Position


@dataclass(frozen=True, slots=True)
class TableRules:
    """The rules that the file gives the columns of a table."""

    table: Name
    columns: tuple[ColumnRule, ...]


@dataclass(frozen=True, slots=True)
class DefaultRule:
    """A rule for every column whose name matches a pattern, unless the file names the column.

    :ivar pattern: in lower case; ``*`` stands for any characters, ``?`` for one.
    """

    pattern: str
    rule: Rule
    at: Position


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A whole mask file. ``text`` is its contents; ``file`` is empty if there is none."""

    tables: tuple[TableRules, ...] = ()
    defaults: tuple[DefaultRule, ...] = ()
    text: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Mask:
    """How one column is masked.

    :ivar table: the table, which has the same name on both sides.
    :ivar rule: a :class:`Rule`; ``keep`` copies the column as it is.
    :ivar why: the origin of the rule: the line of the file, a foreign key, or an option.
    :ivar expression: SQL over the source row. It is a masked value, or the column itself.
    :ivar reads: the source columns that the expression reads; empty for an SQL expression of the file, which only the
        source can analyze.
    :ivar unique: whether a unique index of the target contains the column.
    :ivar group: the number of the columns that foreign keys link, which are masked alike; None without a foreign key.
    :ivar leak_percent: of the distinct masked values, the most that may also occur in the source; None: not checked.
    """

    table: TableRef
    column: str
    rule: Rule
    why: str
    expression: str
    reads: tuple[str, ...]
    unique: bool
    group: int | None
    leak_percent: float | None

    @property
    def is_masked(self) -> bool:
        """Whether the copy has other values than the source."""
        return self.rule.kind is not Kind.KEEP

    @property
    def is_keyed(self) -> bool:
        """Whether the expression needs the settings of the key."""
        return self.rule.kind in KEYED

    @property
    def joins_survive(self) -> bool:
        """Whether equal values stay equal, and different values different."""
        return self.rule.kind in KEEPS_APART


@dataclass(frozen=True)
class Masks:
    """The masks of all columns that have a rule; a column without one is copied as it is."""

    masks: tuple[Mask, ...] = field(default=())

    @cached_property
    def by_column(self) -> Mapping[tuple[TableRef, str], Mask]:
        """The masks by table and column."""
        return {(mask.table, mask.column): mask for mask in self.masks}

    def of(self, table: TableRef) -> Mapping[str, Mask]:
        """The masks of a table by column."""
        return {mask.column: mask for mask in self.masks if mask.table == table}

    @property
    def needs_key(self) -> bool:
        """Whether an expression needs the settings of the key."""
        return any(mask.is_keyed for mask in self.masks)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A column without a rule that looks personal.

    :ivar why: what shows it: its name, or the share of values in a sample that look like personal ones.
    :ivar rule: a rule that fits the column, for the suggestion.
    """

    table: TableRef
    column: str
    why: str
    rule: Rule
