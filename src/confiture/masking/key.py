"""The key of the masks, and the settings that pass it to a session of the source.

HMAC-SHA-256 is SHA-256 over the outer pad and the SHA-256 over the inner pad and the message. The source computes it
with its own function sha256() from the two pads, which need no extension. https://www.rfc-editor.org/rfc/rfc2104
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping

from confiture.errors import Refused

#: The environment variable that has the key. It is never stored.
KEY_VARIABLE = "CONFITURE_MASK_KEY"
#: The least length in bytes: 128 bits.
KEY_BYTES_LEAST = 16
#: The block of SHA-256, in bytes.
_BLOCK = 64
#: The settings that precede a value in a message of SHA-256: one for hashes of texts, and one for all other rules, so
#: that a hash and an address of the same value cannot be recognised as such.
HASH, SHORT = "confiture.mask_hash", "confiture.mask_short"
#: The bytes of these settings: as strong as the least key.
_SHORT = 16
_HINT = f'export {KEY_VARIABLE}="$(openssl rand -hex 32)", and keep it: the same key gives the same masked values'


def from_environment(environment: Mapping[str, str] = os.environ) -> bytes:
    """The key.

    :raises Refused: the variable is not set, or its value is too short.
    """
    key = environment.get(KEY_VARIABLE, "").encode(errors="surrogateescape")
    if not key:
        raise Refused("The masks need a key", why=f"the environment variable {KEY_VARIABLE} is not set", fix=_HINT)
    if len(key) < KEY_BYTES_LEAST:
        why = f"{KEY_VARIABLE} has {len(key)} bytes; a key has at least {KEY_BYTES_LEAST}"
        raise Refused("The key of the masks is too short", why=why, fix=_HINT)
    return key


def settings(key: bytes) -> dict[str, str]:
    """The settings, by name, that the expressions of the masks read. They are secrets.

    They are passed as parameters of ``set_config(name, value, false)`` to each session that evaluates a mask.
    ``mask_inner`` and ``mask_outer`` are the pads of an HMAC, which a hash of more than 128 bits needs. The others
    precede a value in a message of SHA-256, which is a single block for most values: an HMAC takes four of them. No
    more than half of this hash is used, so that, as with an HMAC, that of a longer message cannot be derived from it.
    https://doi.org/10.1007/11535218_26
    """
    derived = _derived(key, 1)
    return {
        "confiture.mask_inner": _pad(derived, 0x36),
        "confiture.mask_outer": _pad(derived, 0x5C),
        SHORT: "\\x" + _derived(key, 2)[:_SHORT].hex(),
        HASH: "\\x" + _derived(key, 3)[:_SHORT].hex(),
    }


def _derived(key: bytes, number: int) -> bytes:
    return hmac.new(key, f"confiture mask {number}".encode(), hashlib.sha256).digest()


def check_value(key: bytes, run_id: str) -> str:
    """A value that only this key gives for this run, in hexadecimal. It reveals nothing about the key."""
    return hmac.new(key, b"confiture run " + run_id.encode(), hashlib.sha256).hexdigest()


def _pad(derived: bytes, byte: int) -> str:
    return "\\x" + bytes(b ^ byte for b in derived.ljust(_BLOCK, b"\0")).hex()
