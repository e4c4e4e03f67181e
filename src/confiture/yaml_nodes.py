"""Read the nodes of a YAML file that names tables and columns: each fault at its line and column, all at once.

The mapping and the mask file are such files. Names follow SQL: unquoted ones are folded to lower case.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from confiture.errors import SYNTAX_HINT, Fault, UsageError
from confiture.types import did_you_mean, quoted

T = TypeVar("T")

_NAME_BYTES = 63  # PostgreSQL's NAMEDATALEN - 1
#: A regular expression of one part of a name.
PART = r'"(?:[^"]|"")*"|[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*'
_NAME = re.compile(rf"({PART})(?:\.({PART}))?")
_COLUMN = re.compile(rf"(?:(?P<schema>{PART})\.)?(?P<table>{PART})\.(?P<column>{PART})")
# In a UTF8 database PostgreSQL folds only ASCII letters.
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_YAML = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a file; line and column are 1-based."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a table in the file, folded as in SQL. ``schema`` is None if the file gives none."""

    schema: str | None
    name: str
    at: Position


def as_written(name: str) -> str:
    """``name`` as it is written in YAML, for hints: Album is ``'"Album"'``."""
    sql = quoted(name)
    # Only double quotes of YAML preserve line breaks and control characters.
    style = None if sql.isprintable() else '"'
    text: str = yaml.safe_dump(sql, allow_unicode=sql.isprintable(), width=10_000, default_style=style)
    return text.removesuffix("\n").removesuffix("\n...")


def read_text(path: Path, what: str) -> str:
    """The text of a file.

    :param what: the kind of file, for the error, such as ``mapping``.
    :raises UsageError: the file is missing, cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"The {what} {path} cannot be read", why=str(error.strerror), fix="make the file readable, or name another"
        ) from error
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8: byte {error.start + 1} cannot be decoded"
        raise UsageError(f"The {what} {path} cannot be read", why=why, fix="save it as UTF-8") from error


def _printable(text: str) -> str:
    """``text`` on one line, with control characters escaped, because names may contain any character."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class BadName(Exception):
    """A text that is not an SQL name."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def name_parts(text: str) -> tuple[str, ...]:
    """``name`` or ``schema.name``, unquoted and folded.

    :raises BadName: with the reason and a hint.
    """
    found = _NAME.fullmatch(text)
    if not found:
        raise BadName(f"'{text}' is not a name", _advice(text))
    parts = tuple(_unquoted(part) for part in found.groups() if part is not None)
    for part in parts:
        if not part or "\0" in part or not _is_utf8(part):
            raise BadName(f"'{text}' is not a name", "a name must not be empty, and must be valid UTF-8")
        if len(part.encode()) > _NAME_BYTES:
            raise BadName(f"the name '{text}' is too long", f"PostgreSQL truncates names to {_NAME_BYTES} bytes")
    return parts


def column_parts(text: str) -> tuple[Name, str]:
    """``table.column`` or ``schema.table.column``, unquoted and folded.

    :raises BadName: with the reason and a hint.
    """
    found = _COLUMN.fullmatch(text)
    if not found:
        raise BadName(f"'{text}' is not the name of a column", "write table.column, or schema.table.column")
    schema = None if found["schema"] is None else name_parts(found["schema"])[0]
    return Name(schema, name_parts(found["table"])[0], Position(1, 1)), name_parts(found["column"])[0]


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


def position(node: yaml.Node) -> Position:
    """The place where a node begins."""
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def is_null(node: yaml.Node | None) -> bool:
    """Whether there is no node, or a null value."""
    return node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _YAML + "null")


def closest(word: str, known: tuple[str, ...]) -> str:
    """A hint: the known word that is close to ``word``, or all of them."""
    return did_you_mean(word, known) or f"valid are {', '.join(known)}"


def _identity(text: str) -> tuple[str, ...]:
    """A value that is equal for two spellings of the same key."""
    try:
        return name_parts(text)
    except BadName:
        return ("", text)  # no name has an empty part


class NodeReader:
    """Reads the nodes of one file and collects the faults. A method that finds a fault returns None."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []

    def fault(self, at: Position, message: str, hint: str = "") -> None:
        """Record a fault."""
        self.faults.append(Fault(self.file, at.line, at.column, _printable(message), _printable(hint)))

    def compose(self, text: str) -> yaml.Node | None:
        """The root node of the file; None if it is empty or no YAML."""
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
            self.fault(Position(1, 1), "not such a file: nested too deeply")
        return None

    def pairs(self, node: yaml.Node, what: str, hint: str = "") -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """The entries of a YAML mapping. The keys must be scalars, and distinct after folding as in SQL."""
        if not isinstance(node, yaml.MappingNode):
            self.fault(position(node), f"expected {what}", "write it as a YAML mapping, key: value")
            return
        first: dict[tuple[str, ...], int] = {}
        for key, value in node.value:
            at = position(key)
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
        if not nodes or is_null(node):
            self.fault(position(node), f"{what} is empty", "give a name or a list of names, or remove it")
            return []
        found: dict[object, T] = {}
        for each in nodes:
            item = read(each)
            if item is None:
                continue
            if same(item) in found:
                self.fault(position(each), f"{each.value} is given twice in {what}")
            found.setdefault(same(item), item)
        return list(found.values())

    def text(self, node: yaml.Node, what: str, expected: str) -> str | None:
        """A scalar as it is written: ``0`` and ``true`` are SQL expressions, just as a string is."""
        if not isinstance(node, yaml.ScalarNode):
            self.fault(position(node), f"{what} must be {expected}", "write it as one string, in quotes")
        elif is_null(node) or not node.value.strip():
            hint = f"give {expected}; the null value of SQL is written 'NULL', in quotes"
            self.fault(position(node), f"{what} is empty", hint)
        elif self.has_tag(node):
            pass
        elif "\0" in node.value or not _is_utf8(node.value):
            self.fault(position(node), f"{what} contains a character that PostgreSQL cannot store")
        else:
            return str(node.value)
        return None

    def choice(self, node: yaml.Node, what: str, known: tuple[str, ...]) -> str | None:
        """One of the known words."""
        text = self.text(node, what, " or ".join(known))
        if text is None or text in known:
            return text
        self.fault(position(node), f"{what} cannot be {text!r}", closest(text, known))
        return None

    def has_tag(self, node: yaml.Node) -> bool:
        """Whether the node has a tag that is not of YAML itself, which is a fault."""
        if node.tag.startswith(_YAML):
            return False
        self.fault(position(node), f"the YAML tag {node.tag} is not allowed here", "remove it")
        return True

    def unknown_directive(self, key: yaml.ScalarNode, known: tuple[str, ...]) -> None:
        """Record that a key that begins with $ is none of the known ones."""
        hint = f"{closest(key.value, known)}; a name that begins with $ must be quoted: '\"$name\"'"
        self.fault(position(key), f"unknown directive {key.value}", hint)

    def parts_of(self, node: yaml.Node, what: str) -> tuple[str, ...] | None:
        """The parts of an SQL name, unquoted and folded."""
        # A key is never null: `null: x` is an entry of the column null.
        if not isinstance(node, yaml.ScalarNode):
            self.fault(position(node), f"expected {what}")
            return None
        if self.has_tag(node):
            return None
        try:
            return name_parts(node.value)
        except BadName as error:
            self.fault(position(node), error.message, error.hint)
            return None

    def table_name(self, node: yaml.Node) -> Name | None:
        """The name of a table, with its schema or without."""
        parts = self.parts_of(node, "a table's name")
        if parts is None:
            return None
        return Name(parts[0] if len(parts) == 2 else None, parts[-1], position(node))

    def column_name(self, node: yaml.Node) -> str | None:
        """The name of a column."""
        parts = self.parts_of(node, "a column's name")
        if parts is None or len(parts) == 1:
            return parts[0] if parts else None
        hint = f"a name that contains a dot must be quoted: {as_written(node.value)}"
        self.fault(position(node), f"{node.value} is the name of a table and a column", hint)
        return None

    def placed_column(self, node: yaml.Node) -> tuple[str, Position] | None:
        """The name of a column, with its position."""
        name = self.column_name(node)
        return None if name is None else (name, position(node))
