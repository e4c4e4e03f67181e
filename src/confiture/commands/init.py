"""``init``: the first files of a project."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from confiture import config
from confiture.errors import Refused, UsageError


def variable(name: str) -> str:
    """The variable that holds the address of an environment, as ``PROD_URL``."""
    return re.sub(r"\W|^(?=\d)", "_", name, flags=re.ASCII).upper() + "_URL"


@dataclass(frozen=True, slots=True)
class NewProject:
    """The files of a new project.

    :ivar written: the files that were created, in their order; ``kept``: those that existed and were not changed.
    """

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def init(project: Path, name: str, url: str | None) -> NewProject:
    """Create the environment of the source, the folders of schema and migrations, and examples of the other files.

    Existing files stay as they are. Each file is complete or does not exist: when the command ends at any point, the
    same command continues.

    :param url: the address of the source; None for the variable of :func:`variable`.
    :raises Refused: an address is given, and the environment exists.
    :raises UsageError: the name or the address is not valid, the address contains a password, or a file cannot be
        written.
    """
    config.check_name(name)
    if url is not None:
        _check(url)
    written, kept = _environment(project, name, url)
    root = resources.files(__package__) / "new_project"
    for relative, file in _files(root, Path()):
        path = project / relative
        (written if _create(path, file.read_text(encoding="utf-8")) else kept).append(path)
    return NewProject(tuple(written), tuple(kept))


def _environment(project: Path, name: str, url: str | None) -> tuple[list[Path], list[Path]]:
    try:
        return [config.write_first_environment(project, name, url or f"${{{variable(name)}}}")], []
    except Refused:
        if url is not None:
            raise
        return [], [project / config.ENVIRONMENTS / f"{name}.yaml"]


def _files(folder: Traversable, relative: Path) -> list[tuple[Path, Traversable]]:
    found: list[tuple[Path, Traversable]] = []
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        path = relative / each.name
        found += _files(each, path) if each.is_dir() else [(path, each)]
    return found


def _create(path: Path, text: str) -> bool:
    """Create a file; whether it did not exist."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        config.write_new(path, text, mode=0o644)
    except FileExistsError:
        return False
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written",
            why=error.strerror or "",
            fix="make the folder writable, or name another --project",
        ) from error
    return True


def _check(url: str) -> None:
    if re.fullmatch(r"\$\{\w+\}", url, re.ASCII):
        return
    if "=" not in url and "://" not in url:
        # Not shown: it may be user:password@host, without the scheme.
        raise UsageError(
            "The address of the source is not a URI or conninfo",
            why="it has neither '://' nor '='",
            fix="write --url postgresql://USER@HOST:5432/DATABASE",
        )
    # A variable in the place of the password is not a password.
    if config.public_form(re.sub(r":\$\{\w+\}@", "@", url, flags=re.ASCII)) is not None:
        raise UsageError(
            "The address of the source contains a password",
            why="it would be stored in the file of the environment",
            fix="omit the password and store it in ~/.pgpass, or omit --url and set the variable that the file names",
        )
