"""The statement that creates a database like another one."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from confiture.catalog_model import Identity

#: Locale providers other than libc, with the first major version that has them for a database.
PROVIDERS_SINCE = {"i": ("icu", 15), "b": ("builtin", 17)}
#: Their clauses of CREATE DATABASE.
_PROVIDERS: dict[str, LiteralString] = {
    "i": "LOCALE_PROVIDER icu ICU_LOCALE {}",
    "b": "LOCALE_PROVIDER builtin BUILTIN_LOCALE {}",
}


def create_statement(
    name: str, like: Identity, server_version: int, *, encoding: str | None = None, locale: str | None = None
) -> sql.Composed:
    """CREATE DATABASE of an empty database.

    :param like: the database whose encoding and locale it gets.
    :param server_version: that of the server that creates it, as libpq reports it.
    :param encoding: another encoding; ``locale``: another locale, of libc.
    """
    parts: list[sql.Composable] = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
            sql.Identifier(name), sql.Literal(encoding or like.encoding)
        )
    ]
    collate, ctype = (locale, locale) if locale else (like.collate, like.ctype)
    parts.append(sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(sql.Literal(collate), sql.Literal(ctype)))
    provider = _PROVIDERS.get(like.locale_provider)
    if not locale and provider is not None and like.locale:
        parts.append(sql.SQL(provider).format(sql.Literal(like.locale)))
    elif server_version >= 150000:
        parts.append(sql.SQL("LOCALE_PROVIDER libc"))
    return sql.SQL(" ").join(parts)
