"""Read the mask file: YAML -> ``MaskFile``, with all faults, each at its line and column.

This module uses no database: :mod:`confiture.masking.assignment` checks whether the names exist and the rules fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from confiture.errors import Fault
from confiture.masking.model import ColumnRule, DefaultRule, Kind, MaskFile, Rule, TableRules
from confiture.yaml_nodes import NodeReader, closest, is_null, position, read_text

_DIRECTIVES = ("$defaults",)
#: The options of each kind of rule, the required ones first; those required are in _REQUIRED.
OPTIONS: dict[Kind, tuple[str, ...]] = {
    Kind.KEEP: (),
    Kind.NULL: (),
    Kind.CONSTANT: ("value",),
    Kind.HASH: ("length",),
    Kind.EMAIL: ("domain",),
    Kind.PHONE: (),
    Kind.NAME: ("part",),
    Kind.ADDRESS: ("part",),
    Kind.UUID: (),
    Kind.TEXT: (),
    Kind.NUMBER_NOISE: ("percent",),
    Kind.DATE_SHIFT: ("days", "by"),
}
_REQUIRED = {Kind.CONSTANT: "value"}
#: The option of an SQL expression.
LEAK_PERCENT = "leak_percent"
_RULES = tuple(str(kind) for kind in OPTIONS)
NAME_PARTS = ("first", "last", "full")
ADDRESS_PARTS = ("street", "city", "postcode", "full")
#: Characters of a hash: as many as the HMAC has hexadecimal digits.
HASH_LENGTHS = (4, 64)
#: A year: beyond it, an age is no longer near the true one.
DAYS_MOST = 366
#: Names that no mail is delivered to. https://www.rfc-editor.org/rfc/rfc2606
_RESERVED = re.compile(r"(?:[a-z0-9-]+\.)*(?:example\.(?:com|net|org)|[a-z0-9-]+\.(?:test|example|invalid|localhost))")
_PATTERN = re.compile(r"[^\s\0]+")


def load(path: Path) -> tuple[MaskFile, tuple[Fault, ...]]:
    """Read and parse a mask file.

    :returns: the file and its faults, as :func:`parse` does.
    :raises UsageError: the file is missing, cannot be read or is not UTF-8.
    """
    return parse(read_text(path, "mask file"), str(path))


def parse(text: str, file: str) -> tuple[MaskFile, tuple[Fault, ...]]:
    """The mask file in ``text`` and all its faults. If there are faults, the file is incomplete.

    :param text: the contents; an empty file masks nothing.
    :param file: the name of the file, for the faults.
    """
    reader = _Reader(file)
    tables, defaults = reader.file_entries(reader.compose(text))
    faults = tuple(sorted(reader.faults, key=lambda fault: (fault.line, fault.column)))
    return MaskFile(tables, defaults, text, file), faults


def rule_from(text: str) -> Rule:
    """The rule that a text of the package has, in the form of the mask file.

    :raises ValueError: it is no rule.
    """
    reader = _Reader("")
    node = reader.compose(text)
    rule = reader.rule(node) if node is not None else None
    if rule is None:
        raise ValueError(f"{text!r} is no rule: {reader.faults}")
    return rule


class _Reader(NodeReader):
    """Parses the nodes of one mask file."""

    def file_entries(self, root: yaml.Node | None) -> tuple[tuple[TableRules, ...], tuple[DefaultRule, ...]]:
        tables: list[TableRules | None] = []
        defaults: tuple[DefaultRule, ...] = ()
        hint = "one entry per table; unquoted names are folded to lower case, '\"Album\"' is not"
        for key, value in () if is_null(root) or root is None else self.pairs(root, "table: entries", hint):
            if not key.value.startswith("$"):
                tables.append(self.table(key, value))
            elif key.value == "$defaults":
                defaults = self.defaults(value)
            else:
                self.unknown_directive(key, _DIRECTIVES)
        return tuple(table for table in tables if table), defaults

    def table(self, key: yaml.ScalarNode, node: yaml.Node) -> TableRules | None:
        name = self.table_name(key)
        if is_null(node) or not node.value:
            self.fault(position(key), f"{key.value} has no entries", "write column: rule below it, or remove it")
            return None
        columns = []
        for column, value in self.pairs(node, "column: rule", "a column has one rule"):
            called, rule = self.column_name(column), self.rule(value)
            if called is not None and rule is not None:
                columns.append(ColumnRule(called, rule, position(column)))
        return TableRules(name, tuple(columns)) if name else None

    def defaults(self, node: yaml.Node) -> tuple[DefaultRule, ...]:
        found = []
        for key, value in () if is_null(node) else self.pairs(node, "pattern: rule", "a pattern has one rule"):
            rule = self.rule(value)
            if not _PATTERN.fullmatch(key.value):
                hint = "write the name of a column, with * for any characters, in quotes: '*_email'"
                self.fault(position(key), f"{key.value!r} is no pattern of column names", hint)
            elif rule is not None and rule.kind is Kind.SQL:
                self.fault(position(key), "an SQL expression reads columns of one table", "write it below that table")
            elif rule is not None:
                found.append(DefaultRule(key.value.lower(), rule, position(key)))
        return tuple(found)

    def rule(self, node: yaml.Node) -> Rule | None:
        """A rule: its name alone, or with options, or an SQL expression."""
        if isinstance(node, yaml.ScalarNode):
            kind = Kind.NULL if is_null(node) and node.value else self.kind(node)
            return self._complete(node, kind, Rule(kind)) if kind is not None else None
        if not isinstance(node, yaml.MappingNode):
            self.fault(position(node), "expected a rule", "write its name, or {rule: NAME, OPTION: VALUE}")
            return None
        entries = {key.value: (key, value) for key, value in self.pairs(node, "rule, options")}
        if "sql" in entries:
            return self._expression(entries)
        if "rule" not in entries:
            self.fault(position(node), "the rule has no name", "write {rule: NAME, OPTION: VALUE}, or {sql: ...}")
            return None
        named = entries.pop("rule")[1]
        kind = Kind.NULL if is_null(named) else self.kind(named)
        return self._with_options(node, kind, entries) if kind is not None else None

    def kind(self, node: yaml.Node) -> Kind | None:
        hint = f"valid are {', '.join(_RULES)}, and {{sql: ...}}"
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            self.fault(position(node), "expected the name of a rule", hint)
            return None
        if self.has_tag(node):
            return None
        name = re.sub(r"[\s_-]+", " ", node.value.strip().lower())
        if name in _RULES:
            return Kind(name)
        near = closest(name, _RULES)
        self.fault(position(node), f"unknown rule {node.value!r}", near if near.startswith("did") else hint)
        return None

    def _expression(self, entries: dict[str, tuple[yaml.ScalarNode, yaml.Node]]) -> Rule | None:
        for name, (key, _) in entries.items():
            if name not in ("sql", LEAK_PERCENT):
                self.fault(position(key), f"{name} beside sql", f"its only option is {LEAK_PERCENT}")
        text = self.text(entries["sql"][1], "sql", "an SQL expression over the source row")
        percent = None
        if LEAK_PERCENT in entries:
            percent = self._number(entries[LEAK_PERCENT][1], LEAK_PERCENT, 0, 100, whole=False)
        return Rule(Kind.SQL, sql=text, leak_percent=percent) if text is not None else None

    def _with_options(
        self, node: yaml.Node, kind: Kind, entries: dict[str, tuple[yaml.ScalarNode, yaml.Node]]
    ) -> Rule | None:
        known = OPTIONS[kind]
        before = len(self.faults)
        given: dict[str, Any] = {}
        for name, (key, value) in entries.items():
            if name not in known:
                hint = closest(name, known) if known else f"the rule {kind} has no options"
                self.fault(position(key), f"unknown option {name!r} of the rule {kind}", hint)
            else:
                given[name] = self._option(kind, name, value)
        return self._complete(node, kind, replace(Rule(kind), **given)) if len(self.faults) == before else None

    def _complete(self, node: yaml.Node, kind: Kind, rule: Rule) -> Rule | None:
        required = _REQUIRED.get(kind)
        if required is not None and getattr(rule, required) is None:
            self.fault(position(node), f"the rule {kind} lacks {required}", f"write {{rule: {kind}, {required}: ...}}")
            return None
        return rule

    def _option(self, kind: Kind, name: str, node: yaml.Node) -> object:
        read: dict[str, Callable[[], object]] = {
            "value": lambda: self._constant(node),
            "length": lambda: self._number(node, name, *HASH_LENGTHS, whole=True),
            "percent": lambda: self._number(node, name, 0.1, 99, whole=False),
            "days": lambda: self._number(node, name, 1, DAYS_MOST, whole=True),
            "by": lambda: self.column_name(node),
            "part": lambda: self.choice(node, name, NAME_PARTS if kind is Kind.NAME else ADDRESS_PARTS),
            "domain": lambda: self._domain(node),
        }
        return read[name]()

    def _constant(self, node: yaml.Node) -> str | None:
        """A value as it is written; unlike an SQL expression it may be empty."""
        if isinstance(node, yaml.ScalarNode) and not is_null(node) and not node.value.strip():
            return str(node.value)
        return self.text(node, "value", "a value")

    def _number(self, node: yaml.Node, name: str, least: float, most: float, *, whole: bool) -> float | None:
        text = self.text(node, name, "a number")
        if text is None:
            return None
        try:
            number: float = int(text) if whole else float(text.removesuffix("%"))
        except ValueError:
            number = least - 1
        if least <= number <= most:
            return number
        kind = "a whole number" if whole else "a number"
        self.fault(position(node), f"{name} cannot be {text!r}", f"give {kind} from {least:g} to {most:g}")
        return None

    def _domain(self, node: yaml.Node) -> str | None:
        text = self.text(node, "domain", "a reserved domain")
        if text is None or _RESERVED.fullmatch(text.lower()):
            return text.lower() if text else None
        hint = "example.com, example.net, example.org, or a name below .test, .example or .invalid (RFC 2606)"
        self.fault(position(node), f"mail to {text!r} may be delivered", hint)
        return None
