"""Resolve the name of an environment, or a conninfo, to a ``Database``. Only ``Database.conninfo`` contains secrets.

libpq itself reads PGPASSFILE, PGSERVICEFILE and the PG* variables when it connects, for parameters that the conninfo
lacks. https://www.postgresql.org/docs/current/libpq-connect.html
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import yaml
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from confiture.errors import SYNTAX_HINT, Fault, FaultyInput, Refused, UsageError
from confiture.receivers import Receiver, receivers
from confiture.types import did_you_mean, parsed_size

ENVIRONMENTS = Path("db/environments")
SCHEMA = Path("db/schema")
_LISTS = ("search_path", "include", "exclude")
_SWITCHES = ("require_approval", "protected")
_KEYS = ("database_url", "like", "database", "schema_dir", *_LISTS, "notify", "disk_free", *_SWITCHES)

#: Parameters with secrets. libpq marks them, except the SCRAM keys, which replace a password.
SECRETS = frozenset({"scram_client_key", "scram_server_key"}) | {
    option.keyword.decode() for option in pq.Conninfo.parse(b"") if option.dispchar == b"*"
}

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}", re.ASCII)
_URI = re.compile(r"postgres(?:ql)?://")
_URI_PASSWORD = re.compile(r"postgres(?:ql)?://[^/@:]*:([^/@]*)@")
_KEYWORD_PASSWORD = re.compile(r"(?:^|\s)password\s*=\s*('(?:[^'\\]|\\.)*'|\S*)")
_ENCODED = re.compile(r"(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_ENCODING_HINT = "write postgresql://user@host:port/database; in names @ is %40, / %2F, : %3A, % %25"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_ADDRESS = ("host", "port")
_BARE_WORD = re.compile(r"\w[\w.-]*")

_KEYWORDS = "|".join(sorted(SECRETS))
_STRING = r"'(?:[^'\\]|\\.|'')*(?:'|$)"
_VALUE = rf"{_STRING}|\"[^\"]*\"?|(?:\\.|[^\s&])+"
_REDACTIONS = (
    (re.compile(r"(://[^\s:/@]{0,200}):\S{0,2000}@"), r"\1:***@"),
    (re.compile(rf"([?&](?:{_KEYWORDS})=)[^&\s]*", re.IGNORECASE), r"\1***"),
    (re.compile(rf"((?:{_KEYWORDS})[\"']?\s*[=:]\s*)({_VALUE})", re.IGNORECASE), r"\1***"),
    (re.compile(rf"((?:{_KEYWORDS})\s+E?){_STRING}", re.IGNORECASE), r"\1'***'"),
)


class UnknownEnvironment(UsageError):
    """A bare word that is not the name of an environment of the project."""


@dataclass(frozen=True)
class Database:
    """The parameters of a connection to a database. Neither ``repr`` nor ``public`` contains a secret.

    :param name: the environment, or the conninfo without its secrets, that the user gave.
    :param conninfo: the whole libpq conninfo, including the password; never printed.
    :param search_path: exact schema names, for sessions that execute the user's DDL.
    :param environment: the environment; None if the user gave a conninfo.
    :param schema_dir: the directory of its DDL; None if it is not known.
    :param include: glob patterns over DDL paths relative to ``schema_dir``; empty means all.
    :param exclude: glob patterns of DDL paths that are left out.
    :param require_approval: whether a cutover to it needs an approval.
    :param protected: whether a sync may not write into it.
    :param notify: the receivers of the events of its runs, where it is the target.
    :param disk_free: free bytes of the server's disk before a run begins; None if this is not known.
    """

    name: str
    conninfo: str = field(repr=False)
    search_path: tuple[str, ...] = ("public",)
    environment: str | None = None
    schema_dir: Path | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    notify: tuple[Receiver, ...] = field(default=(), repr=False)
    disk_free: int | None = None
    require_approval: bool = False
    protected: bool = False

    @property
    def public(self) -> str:
        """The conninfo without secrets, for messages."""
        given = conninfo_to_dict(self.conninfo)
        return make_conninfo("", **{key: value for key, value in given.items() if key not in SECRETS})

    @property
    def dbname(self) -> str | None:
        """The name of the database; None if a service, PGDATABASE or the name of the user determines it."""
        dbname = conninfo_to_dict(self.conninfo).get("dbname")
        return str(dbname) if dbname else None

    @property
    def url(self) -> str:
        """``public`` as a URL."""
        return self._url(conninfo_to_dict(self.public))

    @property
    def application_url(self) -> str:
        """``url`` without the role, which is the migration's and not the application's."""
        return self._url({k: v for k, v in conninfo_to_dict(self.public).items() if k != "user"})

    @staticmethod
    def _url(given: dict[str, Any]) -> str:
        user, host, port, dbname = (str(given.pop(k, "")) for k in ("user", "host", "port", "dbname"))
        parameters = {"host": host, "port": port} if "," in host or host.startswith("/") else {}
        place = "" if parameters else f"[{host}]" if ":" in host else quote(host)
        if place and port:
            place += f":{port}"
        parameters |= {name: str(value) for name, value in given.items()}
        query = urlencode({name: value for name, value in parameters.items() if value})
        return f"postgresql://{quote(user) + '@' if user else ''}{place}/{quote(dbname)}{'?' + query if query else ''}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The passwords and other secrets in the conninfo, to search for them in texts."""
        return tuple(str(v) for k, v in conninfo_to_dict(self.conninfo).items() if k in SECRETS and v)

    def with_dbname(self, dbname: str) -> Database:
        """Another database of the same server, without an environment."""
        return self.with_conninfo(make_conninfo(self.conninfo, dbname=dbname))

    def with_conninfo(self, conninfo: str) -> Database:
        """Another database, without an environment, whose sessions execute the same DDL."""
        name = str(conninfo_to_dict(conninfo).get("dbname", ""))
        return replace(self, name=name, conninfo=conninfo, environment=None)


def redact(text: str) -> str:
    """``text`` with passwords hidden in everything that looks like a URI, a conninfo or SQL options."""
    for pattern, replacement in _REDACTIONS:
        text = pattern.sub(replacement, text)
    return text


#: Characters of a statement of another session that are shown.
QUERY_CHARACTERS = 80


def excerpt(query: str) -> str:
    """The beginning of a statement on one line. Secrets are hidden first, as half a password is not recognized."""
    return " ".join(redact(query).split())[:QUERY_CHARACTERS]


def address(given: str) -> str:
    """The address of a server as a conninfo. ``given`` is ``HOST``, ``HOST:PORT`` or ``host=... port=...``.

    :raises UsageError: the address cannot be parsed, or has other parameters.
    """
    place = re.fullmatch(r"(\[[^]]+\]|[^\s:=/]+)(?::(\d+))?", given)
    if place:
        return make_conninfo("", host=place[1].strip("[]"), **({"port": place[2]} if place[2] else {}))
    try:
        found = conninfo_to_dict(given)
    except psycopg.Error:
        found = {"": ""}
    other = [name for name in found if name not in _ADDRESS]
    if other or not found:
        why = f"it contains {', '.join(other)}" if any(other) else "it cannot be parsed"
        raise UsageError("An address cannot be used", why=why, fix="write HOST:PORT, or host=... port=...")
    return make_conninfo("", **found)


def place(conninfo: str) -> tuple[str | None, int | None]:
    """Host and port that a conninfo names, or libpq's defaults and PG* variables; None for what it leaves open.

    Several hosts are one text with commas, without a port. A service determines what its conninfo lacks.
    """
    given = conninfo_to_dict(conninfo)
    if "service" not in given:
        defaults = {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val}
        given = {**defaults, **given}
    host = given.get("host") or given.get("hostaddr")
    port = str(given.get("port") or "")
    return (str(host) if host else None), int(port) if port.isdecimal() else None


def find_project(start: Path) -> Path:
    """The nearest directory, from ``start`` upwards, with db/environments or confiture.yaml; else ``start``."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / ENVIRONMENTS).is_dir() or (folder / "confiture.yaml").is_file():
            return folder
    return start


def environments(project: Path) -> tuple[str, ...]:
    """The names of the project's environments, sorted; empty if it has none."""
    found = (project / ENVIRONMENTS).glob("*.yaml")
    return tuple(sorted(path.stem for path in found if not path.name.startswith(".")))


def resolve(name: str, project: Path) -> Database:
    """The database of ``name``: an environment, a libpq URI, a conninfo string or ``service=NAME``.

    :raises UnknownEnvironment: ``name`` is a bare word, and no environment has that name.
    :raises UsageError: the conninfo or the file of the environment cannot be read.
    """
    if "=" in name or "://" in name:
        return _unnamed(name, project)
    known = environments(project)
    if name not in known:
        # Not shown otherwise: it may be user:password@host, without the scheme.
        shown = f"{name!r}" if _BARE_WORD.fullmatch(name) else "of that name"
        raise UnknownEnvironment(
            f"There is no environment {shown}",
            why=_known(known, project),
            fix=did_you_mean(name, known)
            or ("name one of these, a libpq URI, or service=NAME" if known else first_environment(project)),
        )
    return _environment(name, project)


def _unnamed(given: str, project: Path) -> Database:
    try:
        conninfo = _normalised(given)
    except _Unreadable as error:
        # Not shown: it may contain a password.
        raise UsageError("A database's URI or conninfo cannot be read", why=str(error), fix=_ENCODING_HINT) from None
    database = Database("", conninfo, schema_dir=project / SCHEMA)
    return replace(database, name=database.public or "(libpq's defaults)")


def public_form(given: str) -> str | None:
    """A libpq URI or conninfo without its secrets; None if it has none, or if it is the name of an environment.

    :raises UsageError: the conninfo cannot be parsed.
    """
    if "=" not in given and "://" not in given:
        return None
    database = _unnamed(given, Path())
    return (database.public or "postgresql://") if database.secrets else None


def write_environment(project: Path, name: str, like: str, database: str) -> Path:
    """Write the environment ``name`` with the server of ``like`` and another database. The file has mode 0600.

    After a crash at any point, the file is either complete or does not exist.

    :raises Refused: the file exists.
    :raises UsageError: ``name`` is not valid, or the directory cannot be written.
    """
    check_name(name)
    values = {"like": like, "database": database}
    return _create(project, name, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def write_first_environment(project: Path, name: str, url: str) -> Path:
    """Write the environment ``name`` with an address. The file has mode 0600, and is complete or does not exist.

    :raises Refused: the file exists.
    :raises UsageError: ``name`` is not valid, or the directory cannot be written.
    """
    check_name(name)
    return _create(project, name, yaml.safe_dump({"database_url": url}, allow_unicode=True, width=10_000))


def check_name(name: str) -> None:
    """Refuse a name of an environment that is not a plain file name.

    :raises UsageError: it is not.
    """
    if not _BARE_WORD.fullmatch(name):
        raise UsageError(
            f"{redact(name)!r} is not a valid name of an environment",
            why="it is not a plain file name",
            fix="use letters, digits, '_', '-' and '.'",
        )


def _create(project: Path, name: str, text: str) -> Path:
    path = project / ENVIRONMENTS / f"{name}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, text)
    except FileExistsError:
        raise Refused(f"Environment {name} exists", why=str(path), fix="edit it, or choose another name") from None
    except OSError as error:
        why = f"{path}: {error.strerror}"
        raise UsageError(f"Environment {name} cannot be written", why=why, fix="make the directory writable") from error
    return path


def write_new(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file that does not exist yet. After a crash at any point, it is either complete or does not exist.

    :raises FileExistsError: it exists, and stays as it is.
    """
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
        # Unlike a rename, a link never replaces an existing file.
        os.link(file.name, path)


def first_environment(project: Path) -> str:
    """The instruction for a project without environments: the file to write, in whole lines."""
    return (
        f"run: confiture init, or write {project / ENVIRONMENTS / 'prod.yaml'}:\n"
        "  # the database with the old schema; its password belongs in ~/.pgpass\n"
        "  database_url: postgresql://USER@HOST:5432/DATABASE\n"
        "  search_path: [public]"
    )


def _known(known: tuple[str, ...], project: Path) -> str:
    folder = project / ENVIRONMENTS
    return f"{folder} has: {', '.join(known)}" if known else f"{folder} has no environments"


class _Unreadable(Exception):
    """A conninfo that libpq cannot parse, or would misinterpret. The message contains no part of it."""


def _normalised(given: str) -> str:
    """``given`` in keyword form.

    :raises _Unreadable: without the message of libpq, which contains parts of the conninfo.
    """
    given = given.strip()
    _check_uri(given)
    try:
        parameters = conninfo_to_dict(given)
        conninfo = make_conninfo("", **parameters)
    except (psycopg.Error, UnicodeError):
        raise _Unreadable("libpq cannot parse it") from None
    ports = str(parameters.get("port") or "").split(",")
    if not all(port.strip().isdecimal() for port in ports if port):
        raise _Unreadable("its port is not a number")
    return conninfo


def _check_uri(given: str) -> None:
    """Refuse an unencoded ``@`` or ``/`` in a password, as the rest would be shown as a host or a database."""
    if not given or "\0" in given:
        raise _Unreadable("it is empty, or contains a NUL character")
    if not _URI.match(given):
        if re.match(r"\s*[\w+.-]*://", given):
            raise _Unreadable("its scheme is not postgresql://")
        return
    # As in libpq, user and password end at the first '@' that no '/' precedes.
    server = re.sub(r"^[^@/]*@", "", given.partition("://")[2]).partition("?")[0]
    if "@" in server:
        raise _Unreadable("it contains an '@' or '/' that is not encoded")


@dataclass(frozen=True)
class _Value:
    """The value of a key of an environment, with its position."""

    items: tuple[str, ...]
    is_list: bool
    line: int
    column: int

    @property
    def text(self) -> str:
        return self.items[0] if self.items else ""


class _EnvironmentFile:
    """One environment file: its keys, and the faults found so far. No fault contains a value of database_url."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[Fault] = []
        self.values: dict[str, _Value] = {}
        self.notify: tuple[Receiver, ...] = ()
        root = self._compose()
        if isinstance(root, yaml.MappingNode):
            for key, value in root.value:
                self._read(key, value)
        elif not self.faults:
            self.fault(1, 1, "the file has no keys", "give database_url, or like and database")

    def fault(self, line: int, column: int, message: str, hint: str = "") -> None:
        self.faults.append(Fault(str(self.path), line, column, message, hint))

    def fault_at(self, key: str, message: str, hint: str = "") -> None:
        value = self.values[key]
        self.fault(value.line, value.column, message, hint)

    def _fault_of_node(self, node: yaml.Node, message: str, hint: str) -> None:
        self.fault(node.start_mark.line + 1, node.start_mark.column + 1, message, hint)

    def raise_faults(self) -> None:
        if self.faults:
            what = f"Environment {self.path.stem} cannot be used"
            unset = all("is not set" in fault.message for fault in self.faults)
            fix = "set the variable, or correct the file" if unset else "correct the file"
            raise FaultyInput(what, self.faults, fix=fix)

    def texts(self, key: str, inherited: tuple[str, ...]) -> tuple[str, ...]:
        """The list of a key. search_path may also be one string with commas, as in SQL."""
        value = self.values.get(key)
        if value is None:
            return inherited
        if value.is_list or key != "search_path":
            return value.items
        return tuple(part.strip() for part in value.text.split(",") if part.strip())

    def switched_on(self, key: str) -> bool:
        """Whether the value of a key is true; False without the key."""
        value = self.values.get(key)
        return value is not None and value.text.lower() == "true"

    def _compose(self) -> yaml.Node | None:
        try:
            return yaml.compose(self.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except OSError as error:
            why = f"{self.path}: {error.strerror}"
            raise UsageError("An environment cannot be read", why=why, fix="make the file readable") from error
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            # The message of the parser may contain parts of the file, so only the position is reported.
            mark = getattr(error, "problem_mark", None)
            self.fault(mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, "not valid YAML", SYNTAX_HINT)
            return None

    def _read(self, key: yaml.Node, node: yaml.Node) -> None:
        line, column = key.start_mark.line + 1, key.start_mark.column + 1
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if name not in _KEYS:
            hint = did_you_mean(name, _KEYS) or f"the keys are {', '.join(_KEYS)}"
            self.fault(line, column, f"unknown key {redact(name)!r}", hint)
        elif name in self.values:
            self.fault(line, column, f"{name} is given twice", f"first in line {self.values[name].line}")
        elif name == "notify":
            self.values[name] = _Value((), True, line, column)
            self.notify = receivers(node, self._fault_of_node)
        else:
            if name in _SWITCHES and not (_is_text(node) and node.value.lower() in ("true", "false")):
                self.fault(node.start_mark.line + 1, node.start_mark.column + 1, f"{name} must be true or false")
                return
            self.values[name] = _Value(
                self._items(name, node),
                isinstance(node, yaml.SequenceNode),
                node.start_mark.line + 1,
                node.start_mark.column + 1,
            )

    def _items(self, name: str, node: yaml.Node) -> tuple[str, ...]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) and name in _LISTS else [node]
        texts = tuple(item.value for item in nodes if _is_text(item))
        if len(texts) != len(nodes) or (name == "search_path" and not nodes):
            expected = "a string or a list of strings" if name in _LISTS else "a string"
            self.fault(node.start_mark.line + 1, node.start_mark.column + 1, f"{name} must be {expected}")
        return texts


def _is_text(node: yaml.Node) -> bool:
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
        return False
    return bool(node.value.strip()) and not _UNSTORABLE.search(node.value)


def _environment(name: str, project: Path, followed: tuple[str, ...] = ()) -> Database:
    file = _EnvironmentFile(project / ENVIRONMENTS / f"{name}.yaml")
    _check_origin(file)
    file.raise_faults()
    if "like" in file.values:
        base = _like(file, name, project, followed).with_dbname(file.values["database"].text)
    else:
        base = Database(name, _conninfo(file), schema_dir=project / SCHEMA)
    schema_dir = file.values.get("schema_dir")
    return replace(
        base,
        name=name,
        environment=name,
        search_path=file.texts("search_path", base.search_path),
        schema_dir=project / schema_dir.text if schema_dir else base.schema_dir,
        include=file.texts("include", base.include),
        exclude=file.texts("exclude", base.exclude),
        notify=file.notify if "notify" in file.values else base.notify,
        disk_free=_disk_free(file, base.disk_free),
        # A target that is like another one does not lift the requirement of the other one.
        require_approval=file.switched_on("require_approval") or base.require_approval,
        protected=file.switched_on("protected") if "protected" in file.values else base.protected,
    )


def _disk_free(file: _EnvironmentFile, inherited: int | None) -> int | None:
    if "disk_free" not in file.values:
        return inherited
    try:
        return parsed_size(file.values["disk_free"].text)
    except ValueError:
        file.fault_at("disk_free", "disk_free must be a size", "write it as 500GB, 466GiB or a number of bytes")
    file.raise_faults()
    return None


def _check_origin(file: _EnvironmentFile) -> None:
    keys = file.values.keys()
    if "like" in keys and "database_url" in keys:
        file.fault_at("like", "like and database_url are mutually exclusive", "remove one of them")
    elif "like" in keys and "database" not in keys:
        file.fault_at("like", "like requires database", "add database: NAME")
    elif "database" in keys and "like" not in keys:
        file.fault_at("database", "database requires like", "name the database in database_url")
    elif not file.faults and not keys & {"like", "database_url"}:
        file.fault(1, 1, "the file names no database", "give database_url, or like and database")


def _like(file: _EnvironmentFile, name: str, project: Path, followed: tuple[str, ...]) -> Database:
    like, chain, known = file.values["like"].text, (*followed, name), environments(project)
    if like in chain:
        file.fault_at("like", f"like is circular: {' -> '.join((*chain, like))}")
    elif like not in known:
        file.fault_at("like", f"there is no environment {redact(like)!r}", did_you_mean(like, known))
    file.raise_faults()
    return _environment(like, project, chain)


def _conninfo(file: _EnvironmentFile) -> str:
    url = _expanded(file, os.environ)
    file.raise_faults()
    conninfo = ""
    try:
        conninfo = _normalised(url)
    except _Unreadable as error:
        file.fault_at("database_url", f"database_url cannot be used: {error}", _ENCODING_HINT)
    file.raise_faults()
    return conninfo


def _expanded(file: _EnvironmentFile, variables: Mapping[str, str]) -> str:
    """database_url with ``${VAR}`` and ``${VAR:-default}`` expanded, as in a shell.

    A value is inserted unchanged. A password is encoded if necessary: otherwise the text after its ``@`` would be
    parsed, and shown, as the host.
    """
    template = file.values["database_url"].text
    # A mask of the same length, so that a ':' in a placeholder is not mistaken for one of the URI.
    mask = _VARIABLE.sub(lambda found: "x" * len(found[0]), template)
    if "${" in mask:
        file.fault_at("database_url", "a '${' in database_url is not ${VAR} or ${VAR:-default}")
    password = _URI_PASSWORD.match(mask) or _KEYWORD_PASSWORD.search(mask)

    def value(found: re.Match[str]) -> str:
        text = variables.get(found["name"])
        if text is None and found["default"] is None:
            example = f"export {found['name']}=postgresql://USER@HOST:5432/DATABASE"
            hint = "" if password and password.start(1) <= found.start() < password.end(1) else example
            file.fault_at("database_url", f"the environment variable {found['name']} is not set", hint)
        text = text or found["default"] or ""
        inside = password and password.start(1) <= found.start() < password.end(1)
        return _as_password(text, uri=bool(_URI.match(mask))) if inside else text

    return _VARIABLE.sub(value, template)


def _as_password(text: str, *, uri: bool) -> str:
    if uri:
        return text if _ENCODED.fullmatch(text) else quote(text, safe="")
    return re.sub(r"([\s'\\])", r"\\\1", text)
