"""``init``: the first files of a project."""

from __future__ import annotations

import re
from pathlib import Path

from confiture import config
from confiture.errors import UsageError


def variable(name: str) -> str:
    """The variable that holds the address of an environment, as ``PROD_URL``."""
    return re.sub(r"\W|^(?=\d)", "_", name, flags=re.ASCII).upper() + "_URL"


def init(project: Path, name: str, url: str | None) -> Path:
    """Create the environment of the source and the folder of the new schema. Existing files stay as they are.

    The folder is created first: when the command ends at any point, the same command continues.

    :param url: the address of the source; None for the variable of :func:`variable`.
    :returns: the file of the environment.
    :raises Refused: the environment exists.
    :raises UsageError: the name or the address is not valid, the address contains a password, or a file cannot be
        written.
    """
    config.check_name(name)
    if url is not None:
        _check(url)
    folder = project / config.SCHEMA
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{folder}: {error.strerror}"
        raise UsageError("The folder of the schema cannot be created", why=why, fix="name another --project") from None
    return config.write_first_environment(project, name, url or f"${{{variable(name)}}}")


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
