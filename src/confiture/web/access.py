"""The requests that the server answers: by method, by the address that a browser was given, and by the token."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from confiture.errors import UsageError

METHODS = ("GET", "HEAD")
#: The path that needs no token: it only states that the server is running.
HEALTH = "/healthz"
#: Names of this machine, besides those of its loopback addresses, that a browser may use without a token.
_LOCAL_NAMES = frozenset(("localhost", "localhost."))
#: Random bytes of a generated token, and characters that a token of one's own has at least.
TOKEN_BYTES, TOKEN_LEAST = 32, 16


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer other than the page, with headers."""

    status: HTTPStatus
    text: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """The rules of one server.

    :ivar token: None where every session of this machine may read.
    :ivar host: the address that the server is bound to, as it was given.
    """

    token: str | None
    host: str

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request is not answered; None if it is.

        :param headers: by name in lower case.
        """
        if method not in METHODS:
            return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "nothing can be changed here", {"allow": ", ".join(METHODS)})
        if self.token is None:
            return None if self._is_local(headers.get("host", "")) else _misdirected()
        if path == HEALTH or _matches(self.token, headers.get("authorization", "")):
            return None
        basic = {"www-authenticate": 'Basic realm="confiture", charset="UTF-8"'}
        return Refusal(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong", basic)

    def _is_local(self, host: str) -> bool:
        """Whether a browser was given an address of this machine.

        A page of another site can give its own name the address 127.0.0.1 (DNS rebinding), but it cannot change the
        name that the browser sends.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in _LOCAL_NAMES or name == self.host.lower() or is_loopback(name)


def is_loopback(name: str) -> bool:
    """Whether a text is a loopback address."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _misdirected() -> Refusal:
    text = "the address of this page is http://localhost or http://127.0.0.1; with a token, any name may be used"
    return Refusal(HTTPStatus.MISDIRECTED_REQUEST, text, {})


def _matches(token: str, authorization: str) -> bool:
    """Whether the header has the token: as ``Bearer``, or as the password of ``Basic``. Compared in constant time."""
    kind, _, given = authorization.strip().partition(" ")
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode(errors="replace").partition(":")[2]
        except binascii.Error:
            given = ""
    elif kind.lower() != "bearer":
        given = ""
    return hmac.compare_digest(given.strip().encode(), token.encode())


# The token's file ----------------------------------------------------------------------------------


def default_file() -> Path:
    """The file of a generated token, in the user's folder for state."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "confiture" / "serve.token"


def read_or_create(path: Path) -> str:
    """The token in a file; a new one, in a file with mode 0600, if there is no such file.

    :raises UsageError: when the file cannot be read or created, others may read it, or its token is too short.
    """
    try:
        return _created(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, getattr(error, "strerror", None) or str(error)) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(
            f"other users may read the token in {path}", why=f"its mode is {mode:04o}", fix=f"chmod 600 {path}"
        )
    if len(token) < TOKEN_LEAST or not token.isprintable():
        why = f"a token has at least {TOKEN_LEAST} printable characters in one line"
        raise UsageError(f"the token in {path} cannot be used", why=why, fix="remove the file to have one generated")
    return token


def _created(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    # O_EXCL: neither another token nor the file behind a link is replaced.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(token + "\n")
    return token


def _unusable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"the file of the token, {path}, cannot be used", why=why, fix="name another file with --token-file"
    )
