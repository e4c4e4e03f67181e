"""Finding a secret in a text, as it is or encoded as URLs, conninfo strings, shells, SQL and JSON do, base64 and hex.

Also the secrets that this process has connected with: a password file or a service file holds them too, not only the
conninfo.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, unquote, unquote_plus

#: Encodings within encodings that are looked through: a percent-encoded DSN within a conninfo within JSON.
DEPTH = 3
#: Fewer characters of base64 are found in anything; every secret of four bytes has as many.
BASE64_CHARACTERS = 4

_used: set[str] = set()


def use(secrets: Iterable[str]) -> None:
    """Record the secrets of a connection that was made."""
    _used.update(filter(None, secrets))


def used() -> frozenset[str]:
    """The secrets of every connection that this process has made."""
    return frozenset(_used)


def contains(text: str, secrets: Iterable[str]) -> bool:
    """Whether ``text`` contains any of the secrets, which are no empty strings."""
    wanted = [secret for secret in secrets if secret]
    decoded = _decoded(text)
    if any(secret in form for secret in wanted for form in decoded):
        return True
    packed = re.sub(r"\s", "", text).replace("-", "+").replace("_", "/")
    return any(piece in packed for secret in wanted for piece in _base64(secret)) or any(
        secret.encode().hex() in form.lower() for secret in wanted for form in decoded
    )


def _decoded(text: str) -> set[str]:
    """``text`` and what it says once its encodings are undone, in whatever order."""
    found = {text}
    for _ in range(DEPTH):
        found |= {decode(form) for form in found for decode in _DECODERS}
    return found


def _characters(text: str) -> str:
    """JSON's and YAML's escapes of single characters."""
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), text)


_DECODERS: tuple[Callable[[str], str], ...] = (
    unquote,
    unquote_plus,
    lambda text: re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL),  # libpq, shells, JSON
    lambda text: text.replace("'\"'\"'", "'"),  # a quote within a shell's quotes
    lambda text: text.replace("''", "'"),  # SQL
    _characters,
)


def _base64(secret: str) -> set[str]:
    """What base64 makes of the secret at each of its three alignments, without what its neighbours decide."""
    found = set()
    for form in {secret, quote(secret, safe=""), quote(secret)}:
        for before in range(3):
            text = base64.b64encode(b"\0" * before + form.encode(errors="surrogateescape")).decode().rstrip("=")
            whole = (before + len(form.encode(errors="surrogateescape"))) * 8 // 6
            found.add(text[-(-before * 8 // 6) : whole])
    return {piece for piece in found if len(piece) >= BASE64_CHARACTERS}
