"""Give each column its rule, and check that the rule fits the column. No I/O.

The rule of a column is, in this order: the one that the file gives the column; the one that the file gives a column
that foreign keys link with it; ``keep`` if an option allows it; the first default whose pattern matches and whose rule
fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import reduce

from confiture.catalog_model import Catalog, Column, Table
from confiture.errors import Fault
from confiture.masking import leaks, uniqueness
from confiture.masking.expressions import Place, email_length, expression
from confiture.masking.families import APPLIES, Family, Room, family, room
from confiture.masking.groups import linked, referencing
from confiture.masking.model import DefaultRule, Kind, Mask, MaskFile, Masks, Rule
from confiture.masking.parts import with_part
from confiture.masking.people import shift_columns
from confiture.types import TableRef, did_you_mean, quoted, short_names
from confiture.yaml_nodes import BadName, Name, Position, column_parts

#: Characters of a uuid as text.
_UUID_LENGTH = 36
_Key = tuple[TableRef, str]


@dataclass(frozen=True, slots=True)
class _Given:
    """A rule and its origin; ``at`` is None if an option gives it."""

    rule: Rule
    why: str
    at: Position | None


def assigned(
    source: Catalog, target: Catalog, file: MaskFile, allowed: Iterable[str] = ()
) -> tuple[Masks, tuple[Fault, ...]]:
    """The mask of each column that has a rule, and all faults. With faults, the masks are incomplete.

    Tables and columns of both databases correspond by their names. A column that only one side has is not copied.

    :param allowed: columns that may stay unmasked, as ``TABLE.COLUMN`` in SQL.
    """
    work = Assignment(source, target, file)
    work.read_file()
    work.read_allowed(allowed)
    work.spread()
    work.read_defaults()
    masks = Masks(tuple(mask for key in sorted(work.given) if (mask := work.mask(*key)) is not None))
    faults = sorted(work.faults, key=lambda fault: (fault.line, fault.column))
    return masks, tuple(faults)


class Assignment:
    """Collects the rules of the columns and the faults.

    :ivar tables: the tables of the source that the target has too.
    """

    def __init__(self, source: Catalog, target: Catalog, file: MaskFile) -> None:
        self.source, self.target, self.file = source, target, file
        self.tables = {t.ref: t for t in source.tables if t.ref in target.by_ref}
        self.names = short_names(self.tables)
        self.groups = linked((*source.tables, *target.tables))
        self.numbers = {group: n for n, group in enumerate(sorted(set(self.groups.values())), 1)}
        self.leaves = referencing((*source.tables, *target.tables))
        self.given: dict[_Key, _Given] = {}
        self.faults: list[Fault] = []

    def fault(self, at: Position | None, message: str, hint: str = "") -> None:
        if at is None:
            self.faults.append(Fault("", 0, 0, message, hint))
        else:
            self.faults.append(Fault(self.file.file, at.line, at.column, message, hint))

    def named(self, key: _Key) -> str:
        return f"{self.names.get(key[0], str(key[0]))}.{quoted(key[1])}"

    # The origins of rules --------------------------------------------------------------------------

    def read_file(self) -> None:
        entries: dict[TableRef, int] = {}
        for entry in self.file.tables:
            table = self.table(entry.table, entry.table.at)
            if table is None:
                continue
            if table.ref in entries:
                message = f"table {self.names[table.ref]} is given twice (first in line {entries[table.ref]})"
                self.fault(entry.table.at, message, "join the two entries")
                continue
            entries[table.ref] = entry.table.at.line
            for column in entry.columns:
                if self.column(table, column.column, column.at) is not None:
                    why = f"line {column.at.line}"
                    self.given[table.ref, column.column] = _Given(column.rule, why, column.at)

    def read_allowed(self, allowed: Iterable[str]) -> None:
        for text in allowed:
            try:
                name, called = column_parts(text)
            except BadName as error:
                self.fault(None, f"--allow-unmasked: {error.message}", error.hint)
                continue
            table = self.table(name, None)
            if table is None or self.column(table, called, None) is None:
                continue
            first = self.given.get((table.ref, called))
            if first is not None and first.rule.kind is not Kind.KEEP:
                message = f"--allow-unmasked names {self.named((table.ref, called))}, which has the rule {first.rule}"
                self.fault(first.at, message, "remove one of the two")
            elif first is None:
                self.given[table.ref, called] = _Given(Rule(Kind.KEEP), "--allow-unmasked", None)

    def spread(self) -> None:
        """Give the rule of a column to all columns that foreign keys link with it."""
        for group in self.numbers:
            rules = {key: self.given[key] for key in group if key in self.given and not self.drops_link(key)}
            if not rules:
                continue
            (origin, first), *others = rules.items()
            for key, other in others:
                if other.rule != first.rule and not self.own_expressions(rules):
                    message = f"{self.named(key)} has the rule {other.rule}, and {self.named(origin)} {first.rule}"
                    self.fault(other.at or first.at, message, "foreign keys link the two: give both the same rule")
            for key in group:
                if key not in self.given:
                    self.give_linked(key, origin, first)

    def drops_link(self, key: _Key) -> bool:
        """Whether the column refers to others, is referred to by none, and becomes NULL: the link is not kept."""
        return key in self.leaves and self.given[key].rule.kind is Kind.NULL

    def own_expressions(self, rules: Mapping[_Key, _Given]) -> bool:
        return all(given.rule.kind is Kind.SQL for given in rules.values())

    def give_linked(self, key: _Key, origin: _Key, first: _Given) -> None:
        table = self.tables.get(key[0])
        if table is None or table.column(key[1]) is None:
            return
        if first.rule.kind is Kind.SQL:
            message = (
                f"{self.named(origin)} has an SQL expression, and {self.named(key)}, which a foreign key links, none"
            )
            self.fault(first.at, message, f"write for {self.named(key)} an expression that gives the same values")
            return
        self.given[key] = _Given(first.rule, f"foreign key with {self.named(origin)}", first.at)

    def read_defaults(self) -> None:
        """Give a rule to columns whose names match a pattern, and to the columns that foreign keys link with them."""
        for ref, table in self.tables.items():
            for column in table.columns:
                key, found = (ref, column.name), self.default(column)
                group = self.groups.get(key, (key,))
                if found is None or any(each in self.given for each in group):
                    continue
                if all(self.accepts_by_default(each, found.rule) for each in group):
                    given = _Given(found.rule, f"default in line {found.at.line}", found.at)
                    self.given[key] = given
                    for each in group:
                        if each not in self.given:
                            self.give_linked(each, key, given)

    def accepts_by_default(self, key: _Key, rule: Rule) -> bool:
        """Whether the column may have the rule, or is not copied."""
        table = self.tables.get(key[0])
        column = table.column(key[1]) if table is not None else None
        target = self.target.by_ref[key[0]].column(key[1]) if table is not None else None
        if table is None or column is None or target is None:
            return True
        return not target.generated and self.accepts(table, column, rule)

    def default(self, column: Column) -> DefaultRule | None:
        lower = column.name.lower()
        return next((d for d in self.file.defaults if fnmatchcase(lower, d.pattern)), None)

    # Names -----------------------------------------------------------------------------------------

    def table(self, name: Name, at: Position | None) -> Table | None:
        hits = [t for t in self.tables.values() if t.ref.name == name.name and name.schema in (None, t.ref.schema)]
        if name.schema is None and len(hits) > 1:
            hits = [t for t in hits if t.ref.schema == "public"] or hits
        if len(hits) == 1:
            return hits[0]
        if hits:
            schemas = ", ".join(sorted(t.ref.schema for t in hits))
            self.fault(at, f"table {quoted(name.name)} is in several schemas: {schemas}", "write schema.table")
            return None
        written = quoted(name.name) if name.schema is None else str(TableRef(name.schema, name.name))
        side = "target" if any(t.ref.name == name.name for t in self.source.tables) else "source"
        hint = did_you_mean(name.name, [t.ref.name for t in self.tables.values()], quoted)
        self.fault(at, f"the {side} has no table {written}", hint)
        return None

    def column(self, table: Table, name: str, at: Position | None) -> Column | None:
        column, target = table.column(name), self.target.by_ref[table.ref].column(name)
        if column is not None and target is not None:
            if not target.generated:
                return column
            hint = "its value is computed by the target: mask the columns that it is computed from"
            self.fault(at, f"{self.named((table.ref, name))} is a generated column", hint)
            return None
        hint = did_you_mean(name, [c.name for c in table.columns], quoted)
        side = "source" if column is None else "target"
        self.fault(at, f"{self.names[table.ref]} has no column {quoted(name)} in the {side}", hint)
        return None

    # One column ------------------------------------------------------------------------------------

    def mask(self, ref: TableRef, name: str) -> Mask | None:
        """The mask of a column; None if it is not copied, or after a fault."""
        given, table = self.given[ref, name], self.tables[ref]
        column, target = table.column(name), self.target.by_ref[ref].column(name)
        if column is None or target is None:
            return None
        group = self.groups.get((ref, name), ())
        rule, space = with_part(given.rule, name), self.room(target, group)
        by = self.by(table, rule, given.at)
        found = self.mismatch(column, target, rule, group) or self.problem(table, target, rule, space)
        if found is not None:
            self.fault(given.at, f"{self.named((ref, name))}: {found[0]}", found[1])
            return None
        return Mask(
            table=ref,
            column=name,
            rule=rule,
            why=given.why,
            expression=expression(rule, Place(column, space, by)),
            reads=() if rule.kind is Kind.SQL else tuple(dict.fromkeys((name, *by))),
            unique=any(uniqueness.unique_indexes(self.target.by_ref[ref], name)),
            group=self.numbers.get(group),
            leak_percent=leaks.allowed_percent(rule, target),
        )

    def mismatch(self, column: Column, target: Column, rule: Rule, group: tuple[_Key, ...]) -> tuple[str, str] | None:
        """Why the rule cannot be applied to the two columns of the databases, and a hint; None if it can."""
        if rule.kind in (Kind.KEEP, Kind.NULL, Kind.CONSTANT, Kind.SQL):
            return None
        if family(column) is not family(target):
            message = f"has type {column.formatted} in the source and {target.formatted} in the target"
            return message, "write an SQL expression"
        if group and not (column.deterministic and target.deterministic):
            message = f"{rule.kind} gives values different that the collation {column.collation} treats as equal"
            return message, "write for each end of the foreign key an SQL expression, such as one of lower(...)"
        return None

    def accepts(self, table: Table, column: Column, rule: Rule) -> bool:
        """Whether a column of the source may have the rule."""
        target = self.target.by_ref[table.ref].known_column(column.name)
        group = self.groups.get((table.ref, column.name), ())
        space = self.room(target, group)
        return self.mismatch(column, target, rule, group) is None and self.problem(table, target, rule, space) is None

    def by(self, table: Table, rule: Rule, at: Position | None) -> tuple[str, ...]:
        """The columns that decide the shift of a date."""
        if rule.kind is not Kind.DATE_SHIFT:
            return ()
        if rule.by is not None:
            return (rule.by,) if self.column(table, rule.by, at) is not None else ()
        masked = {key for key, given in self.given.items() if given.rule.kind is not Kind.KEEP}
        return shift_columns(table, self.tables, masked)

    def room(self, column: Column, group: tuple[_Key, ...]) -> Room:
        """The room of a value that all columns of the group can hold, on both sides."""
        rooms = [room(column)]
        for ref, name in group:
            for catalog in (self.source, self.target):
                found = catalog.by_ref[ref].column(name) if ref in catalog.by_ref else None
                rooms += [room(found)] if found is not None else []
        return reduce(Room.narrowed, rooms)

    def problem(self, table: Table, column: Column, rule: Rule, space: Room) -> tuple[str, str] | None:
        """Why the rule does not fit the column, and a hint; None if it does."""
        kind, place = family(column), Place(column, space)
        if rule.kind is Kind.NULL and column.not_null:
            return "the column is NOT NULL", "give it another rule, such as constant"
        applies = APPLIES.get(rule.kind)
        if applies is not None and kind not in applies:
            return f"{rule.kind} does not apply to {column.formatted}", fitting(kind)
        if rule.kind is Kind.EMAIL and email_length(rule, place) < _LOCAL_LEAST:
            return f"an address with its reserved domain does not fit {column.formatted}", "use hash"
        if rule.kind is Kind.UUID and space.length is not None and space.length < _UUID_LENGTH:
            return f"a uuid does not fit {column.formatted}", "use hash"
        indexes = tuple(uniqueness.unique_indexes(self.target.by_ref[table.ref], column.name))
        return uniqueness.problem(rule, place, table, indexes)


#: Characters of the hash in an address, at least.
_LOCAL_LEAST = 4


def fitting(kind: Family) -> str:
    """A hint: the rules that apply to a family."""
    rules = [str(rule) for rule, families in APPLIES.items() if kind in families]
    return f"to {kind} apply {', '.join([*rules, 'null', 'constant'])} and {{sql: ...}}"
