"""The files of incremental migrations: ``db/migrations/VERSION_name.up.sql`` and ``.down.sql``.

All faults of the names are reported together. The statements of a file are read when it is to run, because a file that
is applied already may contain what this version refuses.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confiture import ddl, sql_file
from confiture.ddl import Statement
from confiture.errors import Fault, FaultyInput, UsageError
from confiture.incremental.model import Direction, Migration, Script

#: Where the files are, relative to the project.
FOLDER = Path("db/migrations")

_NAME = re.compile(r"(?P<version>\d{14})_(?P<name>[A-Za-z0-9_-]+)\.(?P<direction>up|down)\.sql", re.ASCII)
_FORM = "VERSION_name.up.sql or VERSION_name.down.sql, where VERSION is a UTC time YYYYMMDDHHMMSS"
_TIME = "%Y%m%d%H%M%S"
_DIRECTIVE = re.compile(r"^[ \t]*--[ \t]*confiture:[ \t]*(.*?)[ \t]*\r?$", re.MULTILINE)
#: The first line of a file whose statements are no transaction, without its comment sign.
NO_TRANSACTION = "no-transaction"
FIRST_LINE = f"-- confiture: {NO_TRANSACTION}"
#: Statements that have an effect until the end of their transaction only.
_OF_ONE_TRANSACTION = re.compile(r"(set (local|constraints|transaction)|savepoint|release|rollback|lock)\b")
#: The comment that allows a finding of the linter in the next statement, without its comment sign.
ALLOW = "allow "


def read(folder: Path) -> tuple[Migration, ...]:
    """The migrations of a folder by version; empty when the folder does not exist.

    :raises FaultyInput: with all faults: names, two files of one version, a missing file that applies a version.
    :raises UsageError: when a file cannot be read as UTF-8.
    """
    faults: list[Fault] = []
    scripts: dict[int, dict[Direction, list[tuple[str, Path]]]] = {}
    for path in _paths(folder, faults):
        found = _NAME.fullmatch(path.name)
        if found is None or _moment(found["version"]) is None:
            faults.append(Fault(str(path), 1, 1, "the name of the file is not that of a migration", f"use {_FORM}"))
            continue
        of_version = scripts.setdefault(int(found["version"]), {})
        of_version.setdefault(Direction(found["direction"]), []).append((found["name"], path))
    found_ones = [_migration(version, scripts[version], faults) for version in sorted(scripts)]
    if faults:
        raise FaultyInput("The migrations cannot be read", faults, fix="correct the files")
    return tuple(migration for migration in found_ones if migration is not None)


def _paths(folder: Path, faults: list[Fault]) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in sorted(found for found in folder.rglob("*") if found.suffix.lower() == ".sql"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.parent != folder:
            hint = f"move it to {folder}"
            faults.append(Fault(str(path), 1, 1, "a migration is not read from a folder below", hint))
        else:
            yield path


def _moment(version: str) -> datetime | None:
    try:
        return datetime.strptime(version, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def _migration(version: int, files: dict[Direction, list[tuple[str, Path]]], faults: list[Fault]) -> Migration | None:
    """The migration of a version; None with a fault."""
    ups, downs = files.get(Direction.UP, []), files.get(Direction.DOWN, [])
    for several in (ups, downs):
        for _, path in several[1:]:
            hint = f"{several[0][1].name} has it too: give one of them a later version"
            faults.append(Fault(str(path), 1, 1, f"two files have the version {version}", hint))
    if not ups:
        missing = downs[0][1].name.replace(".down.sql", ".up.sql")
        faults.append(Fault(str(downs[0][1]), 1, 1, f"{missing} is missing", "a file that reverts needs one to revert"))
    elif downs and downs[0][0] != ups[0][0] and len(ups) == len(downs) == 1:
        hint = f"{ups[0][1].name} has another name: use one name for both"
        faults.append(Fault(str(downs[0][1]), 1, 1, f"two files have the version {version}", hint))
    if len(ups) != 1 or len(downs) > 1 or (downs and downs[0][0] != ups[0][0]):
        return None
    name, path = ups[0]
    return Migration(version, name, script(path), script(downs[0][1]) if downs else None)


def script(path: Path) -> Script:
    """A file of a migration.

    :raises UsageError: when it cannot be read as UTF-8.
    """
    text = sql_file.read(path)
    first, _, _ = text.partition("\n")
    found = _DIRECTIVE.match(first)
    return Script(path, text, not (found and found[1] == NO_TRANSACTION))


def statements(scripts: Sequence[Script]) -> dict[Path, tuple[Statement, ...]]:
    """The statements of files that are to run, by file.

    :raises FaultyInput: with all faults of all files: text that cannot be split, statements that end a transaction or
        cannot run in one, a file without a statement, a comment for Confiture that it does not know.
    """
    found: dict[Path, tuple[Statement, ...]] = {}
    faults: list[Fault] = []
    for each in scripts:
        faults += _of_directives(each)
        try:
            found[each.path] = ddl.split(each.text, str(each.path))
        except FaultyInput as error:
            faults += error.faults
            continue
        if not found[each.path]:
            hint = "write one (SELECT 1 if nothing is to be done), or delete the file"
            faults.append(Fault(str(each.path), 1, 1, "the file contains no statement", hint))
        faults += (fault for statement in found[each.path] for fault in _refused(each, statement))
    if faults:
        raise FaultyInput("The migrations cannot run", faults, fix="correct the files")
    return found


def _of_directives(each: Script) -> Iterator[Fault]:
    for found in _DIRECTIVE.finditer(each.text):
        line = each.text.count("\n", 0, found.start()) + 1
        if found[1].startswith(ALLOW):  # read by the linter
            continue
        if found[1] != NO_TRANSACTION:
            yield Fault(str(each.path), line, 1, f"unknown comment for confiture: {found[1]}", f"write {FIRST_LINE}")
        elif line > 1:
            yield Fault(str(each.path), line, 1, f"{FIRST_LINE} has no effect here", "make it the first line")


def _refused(each: Script, statement: Statement) -> Iterator[Fault]:
    def fault(message: str, hint: str) -> Fault:
        return Fault(str(each.path), statement.line, statement.column, message, hint)

    never = ddl.controls_transactions(statement)
    alone = ddl.runs_alone(statement)
    if never is not None:
        one = "the migration already is one transaction" if each.transactional else "each statement is a transaction"
        hint = f"delete it: {'its output is not read' if never.startswith('COPY') else one}"
        yield fault(f"{never} cannot be part of a migration", hint)
    elif alone is not None and each.transactional:
        yield fault(f"{alone} cannot run in a transaction", f"make the first line of the file: {FIRST_LINE}")
    elif not each.transactional:
        outline = ddl.outline(statement)
        found = _OF_ONE_TRANSACTION.match(outline)
        if found:
            hint = "write SET" if found[0] == "set local" else "delete it, or use a file that is one transaction"
            yield fault(f"{found[0].upper()} has no effect, because each statement is a transaction", hint)
        if re.match(r"create( unique)? index concurrently on\b", outline):
            yield fault("the index has no name", "name it: the build is found by its name after a crash")
        if re.match(r"create( local| global)? temp(orary)?\b", outline):
            hint = "use a table of a schema: a session does not survive a crash, and its temporary tables do not either"
            yield fault("a temporary table cannot be part of a migration without a transaction", hint)


def generate(folder: Path, name: str, now: datetime) -> tuple[Path, Path]:
    """Write the two files of a new migration, whose version is above that of every other file; their paths.

    Existing files stay as they are. Another process that does the same gets another version.

    :param now: the present time, with its zone.
    :raises UsageError: when the name cannot be that of a file, or a file cannot be written.
    """
    word = re.sub(r"[\s-]+", "_", name.strip()).lower()
    if not re.fullmatch(r"[a-z0-9_]+", word):
        why = "a name consists of letters, digits and underscores"
        raise UsageError(f"a migration cannot have the name {name!r}", why=why, fix="such as add_email_to_customer")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            version = _next_version(folder, now)
            up, down = (folder / f"{version}_{word}.{direction}.sql" for direction in Direction)
            for path, text in ((up, _UP), (down, _DOWN)):
                with path.open("x", encoding="utf-8") as file:
                    file.write(text)
    except OSError as error:
        why = f"{error.filename or folder}: {error.strerror}"
        raise UsageError("a migration cannot be written", why=why, fix="name another --project") from None
    return up, down


_UP = f"""-- The change. The file is one transaction, unless its first line is:
-- "{FIRST_LINE.removeprefix("-- ")}"
"""
_DOWN = """-- The change in reverse.
"""


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Exclude other processes that do the same."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _next_version(folder: Path, now: datetime) -> str:
    versions = (found["version"] for found in map(_NAME.fullmatch, os.listdir(folder)) if found is not None)
    known = [moment for moment in map(_moment, versions) if moment is not None]
    least = max(known) + timedelta(seconds=1) if known else now
    return max(now.astimezone(UTC), least).strftime(_TIME)
