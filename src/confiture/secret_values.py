"""Search for a secret in a text: plain, or encoded as in a URL, conninfo, shell, SQL or JSON, in base64 or in hex.

Also the secrets of the connections of this process, which may come from a password file or a service file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, unquote, unquote_plus

#: Nested encodings that are decoded, for example a percent-encoded URI in a conninfo in JSON.
DEPTH = 3
#: Shorter pieces of base64 occur in any text. Every secret of four bytes has a piece of this length.
BASE64_CHARACTERS = 4

_used: set[str] = set()


def use(secrets: Iterable[str]) -> None:
    """Record the secrets of an established connection."""
    _used.update(filter(None, secrets))


def used() -> frozenset[str]:
    """The secrets of every connection that this process has established."""
    return frozenset(_used)


def contains(text: str, secrets: Iterable[str]) -> bool:
    """Whether ``text`` contains any of the secrets. Empty secrets are ignored."""
    wanted = [secret for secret in secrets if secret]
    decoded = _decoded(text)
    if any(secret in form for secret in wanted for form in decoded):
        return True
    packed = re.sub(r"\s", "", text).replace("-", "+").replace("_", "/")
    return any(piece in packed for secret in wanted for piece in _base64(secret)) or any(
        secret.encode().hex() in form.lower() for secret in wanted for form in decoded
    )


def _decoded(text: str) -> set[str]:
    """``text`` and its decoded forms, for the encodings in any order."""
    found = {text}
    for _ in range(DEPTH):
        found |= {decode(form) for form in found for decode in _DECODERS}
    return found


def _characters(text: str) -> str:
    """``text`` with the \\u escapes of JSON and YAML decoded."""
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), text)


_DECODERS: tuple[Callable[[str], str], ...] = (
    unquote,
    unquote_plus,
    lambda text: re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL),  # libpq, shells, JSON
    lambda text: text.replace("'\"'\"'", "'"),  # a single quote in a shell's single quotes
    lambda text: text.replace("''", "'"),  # SQL
    _characters,
)


def _base64(secret: str) -> set[str]:
    """The base64 forms of the secret at each of the three alignments, without characters that depend on other bytes."""
    found = set()
    for form in {secret, quote(secret, safe=""), quote(secret)}:
        for before in range(3):
            text = base64.b64encode(b"\0" * before + form.encode(errors="surrogateescape")).decode().rstrip("=")
            whole = (before + len(form.encode(errors="surrogateescape"))) * 8 // 6
            found.add(text[-(-before * 8 // 6) : whole])
    return {piece for piece in found if len(piece) >= BASE64_CHARACTERS}
