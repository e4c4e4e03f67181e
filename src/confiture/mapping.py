"""Parse the mapping file: YAML -> ``Mapping``, with all faults, each at its line and column.

This module uses no database: the planner checks whether the names exist.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import yaml

from confiture.errors import SYNTAX_HINT, Fault, UsageError
from confiture.types import did_you_mean, quoted

T = TypeVar("T")

STRATEGIES = ("fdw", "copy", "auto")
_TABLE_DIRECTIVES = ("$from", "$where", "$key", "$strategy", "$omit")
_FILE_DIRECTIVES = ("$omit", "$large_objects", "$trust_functions")
_FIELDS = ("source_column", "transform", "reverse")

_NAME_BYTES = 63  # PostgreSQL's NAMEDATALEN - 1
_PART = r'"(?:[^"]|"")*"|[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*'
_NAME = re.compile(rf"({_PART})(?:\.({_PART}))?")
_FUNCTION = re.compile(rf"(?:{_PART})\.(?:{_PART})\(.*\)", re.DOTALL)
# In a UTF8 database PostgreSQL folds only ASCII letters.
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_YAML = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Position:
    """A position in the mapping file; line and column are 1-based."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a table in the file, folded as in SQL. ``schema`` is None if the file gives none."""

    schema: str | None
    name: str
    at: Position


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
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"The mapping {path} cannot be read", why=str(error.strerror), fix="make the file readable, or name another"
        ) from error
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8: byte {error.start + 1} cannot be decoded"
        raise UsageError(f"The mapping {path} cannot be read", why=why, fix="save it as UTF-8") from error
    return parse(text, str(path))


def parse(text: str, file: str) -> tuple[Mapping, tuple[Fault, ...]]:
    """The mapping in ``text`` and all its faults. If there are faults, the mapping is incomplete.

    :param text: the contents of the file; an empty file is an empty mapping.
    :param file: the name of the file, for the faults.
    """
    reader = _Reader(file)
    tables, omit, large_objects, trusted = reader.file_entries(reader.compose(text))
    faults = tuple(sorted(reader.faults, key=lambda fault: (fault.line, fault.column)))
    return Mapping(tables, omit, large_objects, text, file, trusted), faults


def as_written(name: str) -> str:
    """``name`` as it is written in a mapping file, for hints: Album is ``'"Album"'``."""
    sql = quoted(name)
    # Only double quotes of YAML preserve line breaks and control characters.
    style = None if sql.isprintable() else '"'
    text: str = yaml.safe_dump(sql, allow_unicode=sql.isprintable(), width=10_000, default_style=style)
    return text.removesuffix("\n").removesuffix("\n...")


def _printable(text: str) -> str:
    """``text`` on one line, with control characters escaped, because names may contain any character."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class _BadName(Exception):
    """A text that is not an SQL name."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def _name_parts(text: str) -> tuple[str, ...]:
    """``name`` or ``schema.name``, unquoted and folded.

    :raises _BadName: with the reason and a hint.
    """
    found = _NAME.fullmatch(text)
    if not found:
        raise _BadName(f"'{text}' is not a name", _advice(text))
    parts = tuple(_unquoted(part) for part in found.groups() if part is not None)
    for part in parts:
        if not part or "\0" in part or not _is_utf8(part):
            raise _BadName(f"'{text}' is not a name", "a name must not be empty, and must be valid UTF-8")
        if len(part.encode()) > _NAME_BYTES:
            raise _BadName(f"the name '{text}' is too long", f"PostgreSQL truncates names to {_NAME_BYTES} bytes")
    return parts


def _advice(text: str) -> str:
    if not text or not _is_utf8(text):
        return "a name must not be empty, and must be valid UTF-8"
    if text.count(".") > 1 and '"' not in text:
        return "write name, or schema.name"
    return f"write the double quotes of SQL inside single quotes of YAML: {as_written(text)}"


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.translate(_FOLD)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _is_null(node: yaml.Node | None) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _YAML + "null")


def _did_you_mean(word: str, known: tuple[str, ...]) -> str:
    return did_you_mean(word, known) or f"valid are {', '.join(known)}"


def _identity(text: str) -> tuple[str, ...]:
    """A value that is equal for two spellings of the same key."""
    try:
        return _name_parts(text)
    except _BadName:
        return ("", text)  # no name has an empty part


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


class _Reader:
    """Parses the nodes of one file and collects the faults. A method that finds a fault returns None."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []

    def fault(self, at: Position, message: str, hint: str = "") -> None:
        self.faults.append(Fault(self.file, at.line, at.column, _printable(message), _printable(hint)))

    def compose(self, text: str) -> yaml.Node | None:
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
            self.fault(at, f"not valid YAML: {error.problem or error.context}", error.note or SYNTAX_HINT)
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            at = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
            self.fault(at, f"not valid YAML: {error.reason}")
        except (ValueError, OverflowError):
            # The scanner does not reject an escape such as "\UFFFFFFFF".
            self.fault(Position(1, 1), "not valid YAML: an escape is not a valid character")
        except RecursionError:
            self.fault(Position(1, 1), "not a mapping file: nested too deeply")
        return None

    # -- levels -------------------------------------------------------------------------------------

    def file_entries(
        self, root: yaml.Node | None
    ) -> tuple[tuple[TableMapping, ...], tuple[Name, ...], str | None, tuple[Function, ...]]:
        tables: list[TableMapping | None] = []
        omit: tuple[Name, ...] = ()
        large_objects: str | None = None
        trusted: list[Function] = []
        hint = "one entry per table; unquoted names are folded to lower case, '\"Album\"' is not"
        for key, value in () if _is_null(root) or root is None else self.pairs(root, "table: entries", hint):
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
        target, target_at = self.table_name(key), _position(key)
        draft = _Draft()
        if _is_null(node) or not node.value:
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
        if _is_null(node):
            self.fault(_position(key), f"{key.value} is empty", "write source: target, or the long form")
            return None
        target = self.column_name(node)
        if source is None or target is None:
            return None
        return ColumnMapping(target, source, None, None, True, _position(key))

    def long_form(self, key: yaml.ScalarNode, target: str | None, node: yaml.Node) -> ColumnMapping | None:
        if not node.value:
            self.fault(_position(key), f"{key.value} is empty", f"valid are {', '.join(_FIELDS)}")
        source: str | None = None
        expressions: dict[str, str | None] = {}
        for name, value in self.pairs(node, "source_column, transform, reverse"):
            if name.value == "source_column":
                source = self.column_name(value)
            elif name.value in _FIELDS:
                expressions[name.value] = self.text(value, name.value, "an SQL expression")
            else:
                self.fault(_position(name), f"unknown key {name.value!r}", _did_you_mean(name.value, _FIELDS))
        if target is None or not node.value:
            return None
        transform, reverse = expressions.get("transform"), expressions.get("reverse")
        return ColumnMapping(target, source, transform, reverse, False, _position(key))

    # -- pieces -------------------------------------------------------------------------------------

    def pairs(self, node: yaml.Node, what: str, hint: str = "") -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """The entries of a YAML mapping. The keys must be scalars, and distinct after folding as in SQL."""
        if not isinstance(node, yaml.MappingNode):
            self.fault(_position(node), f"expected {what}", "write it as a YAML mapping, key: value")
            return
        first: dict[tuple[str, ...], int] = {}
        for key, value in node.value:
            at = _position(key)
            if not isinstance(key, yaml.ScalarNode):
                self.fault(at, "a key must be a name")
                continue
            same = _identity(key.value)
            if same in first:
                self.fault(at, f"{key.value} is given twice (first in line {first[same]})", hint)
                continue
            first[same] = at.line
            yield key, value

    def items(
        self, node: yaml.Node, what: str, read: Callable[[yaml.Node], T | None], same: Callable[[T], object]
    ) -> list[T]:
        """The items of a list of names, or of a single name. The items must be distinct."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not nodes or _is_null(node):
            self.fault(_position(node), f"{what} is empty", "give a name or a list of names, or remove it")
            return []
        found: dict[object, T] = {}
        for each in nodes:
            item = read(each)
            if item is None:
                continue
            if same(item) in found:
                self.fault(_position(each), f"{each.value} is given twice in {what}")
            found.setdefault(same(item), item)
        return list(found.values())

    def omitted_tables(self, node: yaml.Node) -> tuple[Name, ...]:
        return tuple(self.items(node, "$omit", self.table_name, lambda name: (name.schema, name.name)))

    def function(self, node: yaml.Node) -> Function | None:
        """A function by its full name. Without schema or argument types, the name could later mean another function."""
        text = self.text(node, "$trust_functions", "a list of functions")
        if text is None or _FUNCTION.fullmatch(text.strip()):
            return None if text is None else Function(text.strip(), _position(node))
        hint = "write schema.name(argument types), as in 'app.slug(text, integer)'"
        self.fault(_position(node), f"{text!r} does not name one function", hint)
        return None

    def text(self, node: yaml.Node, what: str, expected: str) -> str | None:
        """A scalar as it is written: ``0`` and ``true`` are SQL expressions, just as a string is."""
        if not isinstance(node, yaml.ScalarNode):
            self.fault(_position(node), f"{what} must be {expected}", "write it as one string, in quotes")
        elif _is_null(node) or not node.value.strip():
            hint = f"give {expected}; the null value of SQL is written 'NULL', in quotes"
            self.fault(_position(node), f"{what} is empty", hint)
        elif self.has_tag(node):
            pass
        elif "\0" in node.value or not _is_utf8(node.value):
            self.fault(_position(node), f"{what} contains a character that PostgreSQL cannot store")
        else:
            return str(node.value)
        return None

    def choice(self, node: yaml.Node, what: str, known: tuple[str, ...]) -> str | None:
        text = self.text(node, what, " or ".join(known))
        if text is None or text in known:
            return text
        self.fault(_position(node), f"{what} cannot be {text!r}", _did_you_mean(text, known))
        return None

    def has_tag(self, node: yaml.Node) -> bool:
        if node.tag.startswith(_YAML):
            return False
        self.fault(_position(node), f"the YAML tag {node.tag} is not allowed here", "remove it")
        return True

    def unknown_directive(self, key: yaml.ScalarNode, known: tuple[str, ...]) -> None:
        hint = f"{_did_you_mean(key.value, known)}; a name that begins with $ must be quoted: '\"$name\"'"
        self.fault(_position(key), f"unknown directive {key.value}", hint)

    def name_parts(self, node: yaml.Node, what: str) -> tuple[str, ...] | None:
        # A key is never null: `null: x` is an entry of the column null.
        if not isinstance(node, yaml.ScalarNode):
            self.fault(_position(node), f"expected {what}")
            return None
        if self.has_tag(node):
            return None
        try:
            return _name_parts(node.value)
        except _BadName as error:
            self.fault(_position(node), error.message, error.hint)
            return None

    def table_name(self, node: yaml.Node) -> Name | None:
        parts = self.name_parts(node, "a table's name")
        if parts is None:
            return None
        return Name(parts[0] if len(parts) == 2 else None, parts[-1], _position(node))

    def column_name(self, node: yaml.Node) -> str | None:
        parts = self.name_parts(node, "a column's name")
        if parts is None or len(parts) == 1:
            return parts[0] if parts else None
        hint = f"a name that contains a dot must be quoted: {as_written(node.value)}"
        self.fault(_position(node), f"{node.value} is the name of a table and a column", hint)
        return None

    def placed_column(self, node: yaml.Node) -> tuple[str, Position] | None:
        name = self.column_name(node)
        return None if name is None else (name, _position(node))
