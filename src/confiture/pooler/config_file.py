"""PgBouncer's configuration file: find the entry of one pool, through %include, and change only its address.

Files are read as Latin-1, so that every byte is written back unchanged. The grammar is PgBouncer's own:
https://www.pgbouncer.org/config.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confiture.errors import Refused

_ITEM = re.compile(
    r"""\s*(?: (?P<comment> [\#;][^\n]* )
      | %include[ \t]+ (?P<include> [^\n]+ )
      | \[ (?P<section> [^\]\n]* ) \]
      | (?P<key> "(?:[^"]|"")*" | [A-Za-z0-9_.*-]+ ) [ \t]* = [ \t]* (?P<value> [^\n]* )
      | (?P<end> \Z ))""",
    re.VERBOSE | re.ASCII,
)
#: Blanks at the end of a value, in the C locale: the bytes of UTF-8 letters are not blanks.
_BLANKS = " \t\r\n\v\f"
_PAIR = re.compile(r"[ ]*(?P<key>[^ =]+)[ ]*=[ ]*(?P<value>'(?:[^']|'')*'|(?!')[^ ]+)")
#: The nesting of %include that PgBouncer itself accepts.
DEEPEST_INCLUDE = 10
DEFAULT_PORT = 5432


@dataclass(frozen=True, slots=True)
class Address:
    """The database that a pool points to. ``host`` is None for the pooler's default Unix socket."""

    host: str | None
    port: int
    dbname: str

    def __str__(self) -> str:
        return f"host={self.host or 'its Unix socket'} port={self.port} dbname={self.dbname}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A pool's line: its file, the file's text, and the offsets of the connection string in the text."""

    path: Path
    text: str
    start: int
    end: int

    @property
    def value(self) -> str:
        """The connection string."""
        return self.text[self.start : self.end]

    def changed(self, value: str) -> bytes:
        """The bytes of the whole file, with ``value`` as the connection string."""
        return (self.text[: self.start] + value + self.text[self.end :]).encode("latin-1")


def find(path: Path, pool: str, read: Callable[[Path], str] | None = None) -> Entry | None:
    """The entry that PgBouncer uses for ``pool``: the last one of that name, or None if there is none.

    :raises Refused: a file cannot be read, or PgBouncer would not accept it.
    """
    wanted = pool.encode().decode("latin-1")
    found = None
    for entry, section, name in _entries(path, [""], 0, read or _read):
        if section == "databases" and name == wanted:
            found = entry
    return found


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("latin-1")
    except OSError as error:
        raise Refused(
            f"the pooler's configuration {path} cannot be read",
            why=error.strerror or str(error),
            fix="run the cutover on the pooler's machine, as a user that can read and write the file, or name another"
            " file with --pgbouncer-config",
        ) from None


def _entries(
    path: Path, section: list[str], depth: int, read: Callable[[Path], str]
) -> Iterator[tuple[Entry, str, str]]:
    """Every ``key = value`` with its section. A section continues into an included file and behind it."""
    if depth > DEEPEST_INCLUDE:
        raise Refused(
            f"{path} is included too deeply", why="PgBouncer rejects the file as well", fix="correct the %include lines"
        )
    text = read(path)
    at = 0
    while at < len(text):
        item = _ITEM.match(text, at)
        if item is None:
            line = text.count("\n", 0, at) + 1
            raise Refused(
                f"{path}:{line} cannot be parsed",
                why="PgBouncer rejects the line as well",
                fix="correct the line; RELOAD must succeed during a cutover",
            )
        at = item.end()
        if item["include"] is not None:
            # PgBouncer resolves relative names in its working directory, which is unknown here. The directory of the
            # including file is the best guess.
            yield from _entries(path.parent / item["include"].strip(_BLANKS), section, depth + 1, read)
        elif item["section"] is not None:
            section[0] = item["section"]
        elif item["key"] is not None:
            end = item.start("value") + len(item["value"].rstrip(_BLANKS))
            name = item["key"]
            if name.startswith('"'):
                name = name[1:-1].replace('""', '"')
            yield Entry(path, text, item.start("value"), end), section[0], name


def address(value: str, pool: str) -> Address:
    """The address in a pool's connection string.

    :raises Refused: PgBouncer would not accept the connection string.
    """
    given = {m["key"]: _unquoted(m["value"]) for m in _pairs(value)}
    port = given.get("port", str(DEFAULT_PORT))
    return Address(given.get("host"), int(port) if port.isdecimal() else 0, given.get("dbname", pool))


def repointed(value: str, to: Address) -> str:
    """The connection string with the address ``to``; its other parameters are unchanged."""
    wanted = {"port": str(to.port), "dbname": to.dbname, **({"host": to.host} if to.host is not None else {})}
    parts, at, seen = [], 0, set()
    for m in _pairs(value):
        if m["key"] in wanted:
            parts += [value[at : m.start("value")], _quoted(wanted[m["key"]])]
            at = m.end("value")
            seen.add(m["key"])
    missing = [
        f"{key}={_quoted(wanted[key])}" for key in ("host", "port", "dbname") if key in wanted and key not in seen
    ]
    return " ".join(filter(None, ["".join(parts) + value[at:], *missing]))


def _pairs(value: str) -> list[re.Match[str]]:
    found, at = [], 0
    while value[at:].strip(" "):
        pair = _PAIR.match(value, at)
        if pair is None:
            raise Refused(
                "the pool's connection string cannot be parsed",
                why="it is not of the form key=value key=value",  # not shown: it may hold a password
                fix="correct it in the pooler's configuration",
            )
        found.append(pair)
        at = pair.end()
    return found


def _unquoted(value: str) -> str:
    text = value[1:-1].replace("''", "'") if value.startswith("'") else value
    return text.encode("latin-1").decode("utf-8", errors="replace")


def _quoted(value: str) -> str:
    text = value.encode().decode("latin-1")
    return text if re.fullmatch(r"[^\s']+", text, re.ASCII) else "'" + text.replace("'", "''") + "'"


# Writing -------------------------------------------------------------------------------------------


def refuse_unwritable(path: Path) -> None:
    """:raises Refused: :func:`replace` could not write the file, or could not keep its owner."""
    real = path.resolve()
    status, folder = real.stat(), os.access(real.parent, os.W_OK)
    ours = status.st_uid == os.geteuid() and status.st_gid in (os.getegid(), *os.getgroups())
    if not (os.access(real, os.W_OK) and folder and (ours or os.geteuid() == 0)):
        raise Refused(
            f"the pooler's configuration {real} cannot be replaced",
            why="this user cannot write the file or its directory, or cannot keep the file's owner",
            fix="run the cutover as the owner of the file, or as root",
        )


def replace(path: Path, data: bytes) -> None:
    """Replace the file's contents atomically, keeping its owner and permissions; a symbolic link stays a link.

    After a crash the file has either the old contents or the new contents.
    """
    real = path.resolve()
    status = real.stat()
    beside = real.with_name(f".{real.name}.confiture")
    beside.unlink(missing_ok=True)  # left behind by a crash
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, status.st_mode & 0o7777)
        file.flush()
        os.fsync(descriptor)
    beside.rename(real)
    folder = os.open(real.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
