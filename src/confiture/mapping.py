"""Parse the mapping file: YAML -> ``Mapping``, with all faults, each at its line and column.

This module uses no database: the planner checks whether the names exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from confiture.errors import Fault
from confiture.types import quoted
from confiture.yaml_nodes import PART, Name, NodeReader, Position, as_written, closest, is_null, position, read_text

__all__ = ["ColumnMapping", "Function", "Mapping", "Name", "Position", "TableMapping", "as_written", "load", "parse"]

STRATEGIES = ("fdw", "copy", "auto")
_TABLE_DIRECTIVES = ("$from", "$where", "$key", "$strategy", "$omit")
_FILE_DIRECTIVES = ("$omit", "$large_objects", "$trust_functions")
_FIELDS = ("source_column", "transform", "reverse")

_FUNCTION = re.compile(rf"(?:{PART})\.(?:{PART})\(.*\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """One entry of a table. ``short`` marks the form ``source: target``."""

    target: str
    source: str | None
    transform: str | None
    reverse: str | None
    short: bool
    at: Position


@dataclass(frozen=True, slots=True)
class TableMapping:
    """The column entries and directives of one target table."""

    target: Name
    source: Name | None
    where: str | None
    key: tuple[str, ...] | None
    strategy: str | None
    omit: tuple[tuple[str, Position], ...]
    columns: tuple[ColumnMapping, ...]
    at: Position


@dataclass(frozen=True, slots=True)
class Function:
    """A function that ``$trust_functions`` names: ``schema.name(argument types)``, as written."""

    name: str
    at: Position


@dataclass(frozen=True, slots=True)
class Mapping:
    """A whole mapping file. ``text`` is its contents, for the journal; ``file`` is empty if there is none.

    :ivar large_objects: ``copy``, ``leave``, or None where the file does not say.
    """

    tables: tuple[TableMapping, ...] = ()
    omit: tuple[Name, ...] = ()
    large_objects: str | None = None
    text: str = ""
    file: str = ""
    trusted: tuple[Function, ...] = ()


def load(path: Path) -> tuple[Mapping, tuple[Fault, ...]]:
    """Read and parse a mapping file.

    :returns: the mapping and its faults, as :func:`parse` does.
    :raises UsageError: the file is missing, cannot be read or is not UTF-8.
    """
    return parse(read_text(path, "mapping"), str(path))


def parse(text: str, file: str) -> tuple[Mapping, tuple[Fault, ...]]:
    """The mapping in ``text`` and all its faults. If there are faults, the mapping is incomplete.

    :param text: the contents of the file; an empty file is an empty mapping.
    :param file: the name of the file, for the faults.
    """
    reader = _Reader(file)
    tables, omit, large_objects, trusted = reader.file_entries(reader.compose(text))
    faults = tuple(sorted(reader.faults, key=lambda fault: (fault.line, fault.column)))
    return Mapping(tables, omit, large_objects, text, file, trusted), faults


@dataclass(slots=True)
class _Draft:
    """The entry of a table while it is parsed."""

    source: Name | None = None
    where: str | None = None
    key: tuple[str, ...] | None = None
    strategy: str | None = None
    omit: tuple[tuple[str, Position], ...] = ()
    columns: dict[str, ColumnMapping] = field(default_factory=dict)

    def finished(self, target: Name, at: Position) -> TableMapping:
        columns = tuple(self.columns.values())
        return TableMapping(target, self.source, self.where, self.key, self.strategy, self.omit, columns, at)


class _Reader(NodeReader):
    """Parses the nodes of one mapping."""

    def file_entries(
        self, root: yaml.Node | None
    ) -> tuple[tuple[TableMapping, ...], tuple[Name, ...], str | None, tuple[Function, ...]]:
        tables: list[TableMapping | None] = []
        omit: tuple[Name, ...] = ()
        large_objects: str | None = None
        trusted: list[Function] = []
        hint = "one entry per table; unquoted names are folded to lower case, '\"Album\"' is not"
        for key, value in () if is_null(root) or root is None else self.pairs(root, "table: entries", hint):
            if not key.value.startswith("$"):
                tables.append(self.table(key, value))
            elif key.value == "$omit":
                omit = self.omitted_tables(value)
            elif key.value == "$large_objects":
                large_objects = self.choice(value, "$large_objects", ("copy", "leave"))
            elif key.value == "$trust_functions":
                trusted = self.items(value, "$trust_functions", self.function, lambda function: function.name)
            else:
                self.unknown_directive(key, _FILE_DIRECTIVES)
        return tuple(table for table in tables if table), omit, large_objects, tuple(trusted)

    def table(self, key: yaml.ScalarNode, node: yaml.Node) -> TableMapping | None:
        target, target_at = self.table_name(key), position(key)
        draft = _Draft()
        if is_null(node) or not node.value:
            self.fault(target_at, f"{key.value} has no entries", "remove it: a table with equal names needs no entry")
            return None
        hint = "to fill two target columns from one, use the long form: target: {source_column: ...}"
        for name, value in self.pairs(node, "column entries", hint):
            if name.value.startswith("$"):
                self.directive(draft, name, value)
            else:
                self.column(draft, name, value)
        return draft.finished(target, target_at) if target else None

    def directive(self, draft: _Draft, key: yaml.ScalarNode, node: yaml.Node) -> None:
        match key.value:
            case "$from":
                draft.source = self.table_name(node)
            case "$where":
                draft.where = self.text(node, "$where", "an SQL condition")
            case "$key":
                names = self.items(node, "$key", self.column_name, lambda name: name)
                draft.key = tuple(names) or None
            case "$strategy":
                draft.strategy = self.choice(node, "$strategy", STRATEGIES)
            case "$omit":
                draft.omit = tuple(self.items(node, "$omit", self.placed_column, lambda placed: placed[0]))
            case _:
                self.unknown_directive(key, _TABLE_DIRECTIVES)

    def column(self, draft: _Draft, key: yaml.ScalarNode, node: yaml.Node) -> None:
        name = self.column_name(key)
        if isinstance(node, yaml.MappingNode):
            entry = self.long_form(key, name, node)
        else:
            entry = self.short_form(key, name, node)
        if entry is None:
            return
        first = draft.columns.setdefault(entry.target, entry)
        if first is not entry:
            message = f"target column {quoted(entry.target)} is given twice (first in line {first.at.line})"
            self.fault(entry.at, message, "the short form is source: target; the key of the long form is the target")

    def short_form(self, key: yaml.ScalarNode, source: str | None, node: yaml.Node) -> ColumnMapping | None:
        if is_null(node):
            self.fault(position(key), f"{key.value} is empty", "write source: target, or the long form")
            return None
        target = self.column_name(node)
        if source is None or target is None:
            return None
        return ColumnMapping(target, source, None, None, True, position(key))

    def long_form(self, key: yaml.ScalarNode, target: str | None, node: yaml.Node) -> ColumnMapping | None:
        if not node.value:
            self.fault(position(key), f"{key.value} is empty", f"valid are {', '.join(_FIELDS)}")
        source: str | None = None
        expressions: dict[str, str | None] = {}
        for name, value in self.pairs(node, "source_column, transform, reverse"):
            if name.value == "source_column":
                source = self.column_name(value)
            elif name.value in _FIELDS:
                expressions[name.value] = self.text(value, name.value, "an SQL expression")
            else:
                self.fault(position(name), f"unknown key {name.value!r}", closest(name.value, _FIELDS))
        if target is None or not node.value:
            return None
        transform, reverse = expressions.get("transform"), expressions.get("reverse")
        return ColumnMapping(target, source, transform, reverse, False, position(key))

    def omitted_tables(self, node: yaml.Node) -> tuple[Name, ...]:
        return tuple(self.items(node, "$omit", self.table_name, lambda name: (name.schema, name.name)))

    def function(self, node: yaml.Node) -> Function | None:
        """A function by its full name. Without schema or argument types, the name could later mean another function."""
        text = self.text(node, "$trust_functions", "a list of functions")
        if text is None or _FUNCTION.fullmatch(text.strip()):
            return None if text is None else Function(text.strip(), position(node))
        hint = "write schema.name(argument types), as in 'app.slug(text, integer)'"
        self.fault(position(node), f"{text!r} does not name one function", hint)
        return None
