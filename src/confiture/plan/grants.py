"""Owners, privileges, comments and security labels that objects of the source have and the target's lack. No I/O.

The mapping's names apply: a table is compared with each table that it fills, and a column with those that it fills.
https://www.postgresql.org/docs/current/ddl-priv.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from psycopg import sql

from confiture.plan.model import Plan
from confiture.types import TableRef, counted, quoted

#: A privilege: the role, or None for PUBLIC; its name; whether the role may grant it.
Privilege = tuple[str | None, str, bool]
_Key = tuple[str, ...]

#: The name of a kind in pg_identify_object, and in statements.
_KINDS = {
    "function": "ROUTINE",
    "procedure": "ROUTINE",
    "aggregate": "ROUTINE",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
    "statistics object": "STATISTICS",
    "domain constraint": "CONSTRAINT",
    "table constraint": "CONSTRAINT",
}
#: The kinds that GRANT calls TABLE.
_TABLES = ("table", "view", "materialized view", "foreign table")
#: The objects that ALTER DEFAULT PRIVILEGES names, by their code in pg_default_acl.
_DEFAULTS = {"r": "TABLES", "S": "SEQUENCES", "f": "ROUTINES", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}
#: The PostgreSQL version since which large objects have default privileges.
_LARGE_OBJECTS_SINCE = 18


@dataclass(frozen=True, slots=True)
class Described:
    """An object with what DDL files often lack.

    :ivar kind: as pg_identify_object calls it; ``identity``: its quoted name there.
    :ivar relation: the table of a column, constraint, trigger, rule or policy, or the relation itself.
    :ivar part: the name of that column, constraint, trigger, rule or policy.
    :ivar owner: None where it cannot be given another owner.
    :ivar privileges: None if it has no privileges.
    :ivar usual: the privileges of such an object without a GRANT; None if it has no privileges.
    :ivar labels: (provider, label) of each security label.
    """

    kind: str
    identity: str
    relation: TableRef | None = None
    part: str | None = None
    owner: str | None = None
    privileges: frozenset[Privilege] | None = None
    usual: frozenset[Privilege] | None = None
    comment: str | None = None
    labels: frozenset[tuple[str, str]] = frozenset()

    @property
    def statement_kind(self) -> str:
        """The name of its kind in COMMENT, ALTER and SECURITY LABEL."""
        return "COLUMN" if self.kind.endswith(" column") else _KINDS.get(self.kind, self.kind.upper())

    @property
    def name(self) -> str:
        """Its name in these statements."""
        if self.relation is None or self.part is None:
            return self.identity.replace(" on ", " ON DOMAIN ") if self.kind == "domain constraint" else self.identity
        if self.statement_kind == "COLUMN":
            return f"{self.relation}.{quoted(self.part)}"
        return f"{quoted(self.part)} ON {self.relation}"


@dataclass(frozen=True, slots=True)
class DefaultPrivileges:
    """The privileges that ALTER DEFAULT PRIVILEGES has set for the objects that a role creates.

    :ivar schema: None for the whole database.
    :ivar kind: the code of pg_default_acl.
    """

    role: str
    schema: str | None
    kind: str
    privileges: frozenset[Privilege]
    usual: frozenset[Privilege]


@dataclass(frozen=True, slots=True)
class Side:
    """The objects and roles of one database.

    :ivar major: the version of its server, such as 18.
    """

    major: int
    objects: Sequence[Described]
    defaults: Sequence[DefaultPrivileges]
    roles: frozenset[str]


@dataclass(slots=True)
class Lacking:
    """The statements that the target lacks, by section.

    :ivar absent: the objects of the source that the target does not have.
    :ivar reserved: the roles of a newer version of PostgreSQL, which cannot be created.
    """

    roles: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    privileges: list[str] = field(default_factory=list)
    defaults: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    reserved: list[str] = field(default_factory=list)


def lacking(source: Side, target: Side, plan: Plan) -> Lacking:
    """Compare both sides.

    A role that the target's server lacks is created first. A privilege is revoked only if the target's object has it
    without a GRANT: what the new DDL grants stays.
    """
    names = _Names(plan)
    there = {_key(o): o for o in target.objects}
    found = Lacking()
    known = _KnownRoles(target.roles, found)
    for item in source.objects:
        counterparts = [there[key] for key in names.keys(item) if key in there]
        for counterpart in counterparts:
            _compare(item, counterpart, known, found)
        if not counterparts and _has_something(item):
            found.absent.append(f"{item.kind} {item.identity}")
    defaults = {(d.role, d.schema, d.kind): d for d in target.defaults}
    exist = {name for o in target.objects for _, name, _ in o.usual or ()}
    for default in source.defaults:
        if default.kind != "L" or target.major >= _LARGE_OBJECTS_SINCE:
            wanted, usual = (
                frozenset(p for p in some if p[1] in exist) for some in (default.privileges, default.usual)
            )
            wanted_here = replace(default, privileges=wanted, usual=usual)
            found.defaults += _of_defaults(
                wanted_here, defaults.get((default.role, default.schema, default.kind)), known
            )
    return found


class _Names:
    """The target's names of the source's objects."""

    def __init__(self, plan: Plan) -> None:
        self._tables: dict[TableRef, list[TableRef]] = {}
        self._columns: dict[tuple[TableRef, str], list[tuple[TableRef, str]]] = {}
        for table in plan.tables:
            self._tables.setdefault(table.source, []).append(table.target)
            for column in table.columns:
                if column.source is not None:
                    known = self._columns.setdefault((table.source, column.source), [])
                    known.append((table.target, column.target))
        for sequence in plan.sequences:
            for ref in sequence.sources:
                self._tables.setdefault(ref, []).append(sequence.target)

    def keys(self, item: Described) -> Iterator[_Key]:
        """The keys of the objects of the target that correspond to one of the source."""
        if item.kind == "database":
            yield ("database",)
        elif item.relation is None:
            yield _key(item)
        elif item.statement_kind == "COLUMN" and item.part is not None and item.relation in self._tables:
            for ref, name in self._columns.get((item.relation, item.part), ()):
                yield ("COLUMN", str(ref), name)
        else:
            for ref in self._tables.get(item.relation, [item.relation]):
                yield _key(item, ref)


def _key(item: Described, relation: TableRef | None = None) -> _Key:
    if item.kind == "database":
        return ("database",)
    if item.relation is None:
        return (item.statement_kind, item.identity)
    kind = "relation" if item.part is None else item.statement_kind
    return (kind, str(relation or item.relation), item.part or "")


def _has_something(item: Described) -> bool:
    granted = item.privileges is not None and item.usual is not None and item.privileges != item.usual
    return bool(granted or item.comment is not None or item.labels)


class _KnownRoles:
    """The roles that statements may name: those of the target's server, and those that are created first."""

    def __init__(self, roles: frozenset[str], found: Lacking) -> None:
        self._roles = set(roles)
        self._found = found

    def has(self, role: str | None) -> bool:
        """Whether a statement may name the role. One that is lacking is to be created."""
        if role is None or role in self._roles:
            return True
        if role.startswith("pg_"):
            if role not in self._found.reserved:
                self._found.reserved.append(role)
            return False
        self._roles.add(role)
        self._found.roles.append(f"CREATE ROLE {quoted(role)}")
        return True


def _compare(source: Described, target: Described, roles: _KnownRoles, found: Lacking) -> None:
    kind, name = target.statement_kind, target.name
    if None not in (source.owner, target.owner) and source.owner != target.owner and roles.has(source.owner):
        found.owners.append(f"ALTER {kind} {name} OWNER TO {quoted(str(source.owner))}")
    if source.privileges is not None and target.privileges is not None:
        found.privileges += _of_object(source, target, roles)
    if source.comment is not None and source.comment != target.comment:
        found.comments.append(f"COMMENT ON {kind} {name} IS {_literal(source.comment)}")
    for provider, label in sorted(source.labels - target.labels):
        found.labels.append(f"SECURITY LABEL FOR {quoted(provider)} ON {kind} {name} IS {_literal(label)}")


def _of_object(source: Described, target: Described, roles: _KnownRoles) -> Iterator[str]:
    assert source.privileges is not None
    assert target.privileges is not None
    if source.part is not None:
        assert target.relation is not None
        assert target.part is not None
        on, column = f"ON TABLE {target.relation}", f" ({quoted(target.part)})"
        yield from _statements(source.privileges, target.privileges, frozenset(), roles, on, column)
        return
    # ALTER ... OWNER TO replaces the old owner by the new one in the privileges.
    usual, privileges = (
        frozenset((source.owner if r is not None and r == target.owner else r, p, g) for r, p, g in some)
        for some in (target.usual or frozenset(), target.privileges)
    )
    # A privilege that one of the versions does not have is neither granted nor revoked.
    both = {p for _, p, _ in source.usual or ()} & {p for _, p, _ in usual}
    wanted, there = (frozenset(x for x in some if x[1] in both) for some in (source.privileges, privileges))
    yield from _statements(wanted, there, usual, roles, f"ON {_granted(target)} {target.name}")


def _granted(item: Described) -> str:
    """The kind of an object as GRANT calls it."""
    if item.kind in _TABLES:
        return "TABLE"
    return "FOREIGN SERVER" if item.kind == "server" else item.statement_kind


def _statements(
    wanted: frozenset[Privilege],
    there: frozenset[Privilege],
    usual: frozenset[Privilege],
    roles: _KnownRoles,
    on: str,
    column: str = "",
) -> Iterator[str]:
    """GRANT what is wanted and not there, and REVOKE what is usual and not wanted."""
    held = {(role, name) for role, name, _ in wanted}
    revoked: dict[str | None, list[str]] = {}
    for role, name, _ in sorted(there & usual, key=_order):
        if (role, name) not in held and roles.has(role):
            revoked.setdefault(role, []).append(name + column)
    for role, some in revoked.items():
        yield f"REVOKE {', '.join(some)} {on} FROM {_role(role)}"
    granted: dict[tuple[str | None, bool], list[str]] = {}
    for role, name, grantable in sorted(wanted - there, key=_order):
        if (role, name, True) not in there and roles.has(role):
            granted.setdefault((role, grantable), []).append(name + column)
    for (role, grantable), some in granted.items():
        yield f"GRANT {', '.join(some)} {on} TO {_role(role)}{' WITH GRANT OPTION' if grantable else ''}"


def _order(privilege: Privilege) -> tuple[str, str, bool]:
    return privilege[0] or "", privilege[1], privilege[2]


def _role(name: str | None) -> str:
    return "PUBLIC" if name is None else quoted(name)


def _of_defaults(source: DefaultPrivileges, target: DefaultPrivileges | None, roles: _KnownRoles) -> Iterator[str]:
    there = target.privileges if target is not None else source.usual
    if not roles.has(source.role):
        return
    where = f" IN SCHEMA {quoted(source.schema)}" if source.schema is not None else ""
    on = f"ON {_DEFAULTS[source.kind]}"
    for statement in _statements(source.privileges, there, source.usual, roles, on):
        yield f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(source.role)}{where} {statement}"


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None).strip()


def as_sql(found: Lacking, *, built: bool) -> str:
    """The statements as a file for psql; only comments if nothing is lacking.

    :param built: whether migrate has built the indexes and constraints of the target.
    """
    sections: Mapping[str, Iterable[str]] = {
        "Roles that the target's server lacks, without attributes and passwords (pg_dumpall --roles-only has them)": (
            found.roles
        ),
        "Owners": found.owners,
        "Privileges": found.privileges,
        "Default privileges": found.defaults,
        "Comments": found.comments,
        "Security labels": found.labels,
    }
    lines: list[str] = []
    for title, statements in sections.items():
        some = [f"{statement};" for statement in statements]
        lines += [f"-- {title}", *some, ""] if some else []
    if not lines:
        lines = ["-- The target lacks no owner, privilege, comment or security label of the source.", ""]
    if found.reserved:
        names = ", ".join(map(quoted, found.reserved))
        lines.append(f"-- Not granted to predefined roles that the target's version does not have: {names}")
    if found.absent:
        lines.append(
            f"-- Not in the target, with privileges or comments in the source: {counted(len(found.absent), 'object')}"
        )
        if not built:
            lines.append("-- migrate has not built the indexes and constraints yet: repeat this command afterwards")
        lines += [f"--   {name!r}" if not name.isprintable() else f"--   {name}" for name in found.absent]
    return "\n".join(lines).rstrip("\n")
