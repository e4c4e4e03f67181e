"""The checksum of every row, and the rows behind a checksum that differs.

The hash of a row has 64 bits: the exclusive OR of the hashes of its columns, each with a seed of its own. A set of rows
has a count and two sums: each row adds two numbers that are mixed from its hash by two independent functions. Without
the mixing, the sums of each column would add up by themselves, and values swapped between two rows would cancel
(docs/invariants.md, I-6.1).

Two different rows have the same hash with a probability of 2^-64. Rows with different hashes leave both sums unchanged
with a probability of 2^-128. The hashes are not cryptographic: they detect faults, not an attacker who chooses values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from confiture.copy.run_table import RunTable
from confiture.journal.model import Difference
from confiture.plan.keyset import KeyPart, predicate
from confiture.plan.projection import Projected, comparable, raw
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.sql import template
from confiture.types import KeyRange, counted

Side = Literal["source", "target"]
Key = tuple[str, ...]

#: Rows of a bucket when a table cannot be compared range by range.
BUCKET_ROWS = 10_000
BUCKETS_MOST = 65_536
#: Bytes of a value that is recorded as it is; and types of which a value may have more, besides bytea.
SHOWN_MOST = 2**20
_LONG = {"text", "character varying", "bpchar", "json", "jsonb", "xml"}
#: Differing rows recorded per table; of more rows only the number is reported.
DIFFERENCES_MOST = 1_000
#: Buckets compared row by row with one scan of the table.
BUCKETS_AT_ONCE = 64

#: Of the two numbers that a row adds to the sums.
MIXED = (1, 0x5BD1E995)
#: Multiples of it are the seeds of columns: different, and with about as many ones as zeros among their 64 bits.
SEED = 0x9E3779B97F4A7C15
#: Wire types with a hash function whose result depends on every bit of the value, and on nothing else.
_HASHED = {"boolean", "smallint", "integer", "bigint", "uuid"}


def _literal(expression: str, wire: str, canon: str) -> Projected:
    return Projected("", f"({expression})", None, wire, None, canon, binary=True)


#: One value of each way of hashing; both servers must agree on its hash.
PROBE = (
    _literal("true", "boolean", "as_is"),
    _literal("7::int2", "smallint", "as_is"),
    _literal("-5::int4", "integer", "as_is"),
    _literal("4294967291::int8", "bigint", "int8send"),
    _literal("'f47ac10b-58cc-4372-a567-0e02b2c3d479'::uuid", "uuid", "as_is"),
    _literal("'Straße'::text", "text", "collated"),
    _literal("'[0:1]={1,2}'::int[]", "integer[]", "text"),
    _literal("'\\x00ff'::bytea", "bytea", "as_is"),
    _literal("'2000-02-29'::date", "date", "as_is"),
    _literal("'-0'::float8", "double precision", "float8send"),
    _literal("'294276-12-31 23:59:59.999999'::timestamp", "timestamp without time zone", "timestamp_send"),
    _literal("NULL::int4", "integer", "as_is"),
)


@dataclass(frozen=True, slots=True)
class Hashing:
    """How rows are hashed on both servers.

    :ivar kind: ``own`` functions of the types or, where the servers disagree on them, ``md5`` of the text.
    :ivar recode: encodings differ, so text is compared as UTF-8 bytes.
    """

    kind: Literal["own", "md5"]
    recode: bool


@dataclass(frozen=True, slots=True)
class Sum:
    """Count of a set of rows, and both sums of what each row adds, whatever their order."""

    rows: int
    first: str
    second: str


def agree(source: Transaction, target: Transaction, *, recode: bool) -> Hashing:
    """Hash fixed literals on both servers: they prove that the hashes mean the same (I-6.4)."""
    own = Hashing("own", recode)
    values = [(p, raw(p.expression)) for p in PROBE]
    query = _template("probe").format(hash=_hash(values, own), **_mixed(own))
    a, b = source.pg.execute(query).fetchone(), target.pg.execute(query).fetchone()
    return own if a == b else Hashing("md5", recode)


# Expressions ---------------------------------------------------------------------------------------


def _template(block: str) -> sql.SQL:
    return template("checksum.sql", block)


def _value(p: Projected, side: Side) -> sql.Composed:
    name = sql.Identifier(p.target)
    if side == "source":
        return sql.Composed([name])
    return sql.SQL("{}::{}").format(name, raw(p.wire))


def _row_hash(job: RunTable, side: Side, hashing: Hashing) -> sql.Composed:
    return _hash([(p, _value(p, side)) for p in job.table.columns], hashing)


def _hash(values: Sequence[tuple[Projected, sql.Composable]], hashing: Hashing) -> sql.Composed:
    """The hash of a row of values, each of its column's wire type."""
    if not values:
        return sql.Composed([sql.SQL("0::bigint")])
    forms = [comparable(value, p, recode=hashing.recode) for p, value in values]
    if hashing.kind == "md5":
        return _template("hash_by_md5").format(values=sql.SQL(", ").join(forms))
    hashed: list[sql.Composed] = []
    others: list[sql.Composed] = []
    for number, ((p, value), form) in enumerate(zip(values, forms, strict=True), 1):
        seeds = {"seed": sql.Literal(number * SEED % 2**63), "small_seed": sql.Literal(number * SEED % 2**31)}
        if p.wire in _HASHED:
            hashed.append(_template(f"hash_of_{p.wire}").format(value=value, **seeds))
        elif p.canon in ("text", "collated") and not hashing.recode:
            hashed.append(_template("hash_of_text").format(value=form, **seeds))
        else:
            others.append(form)
    if others:
        hashed.append(
            _template("hash_of_row").format(values=sql.SQL(", ").join(others), seed=sql.Literal(SEED % 2**63))
        )
    return sql.SQL(" # ").join(hashed)


def _mixed(hashing: Hashing) -> dict[str, sql.Composed]:
    """The two numbers that a row adds to the sums, from its hash ``h``."""
    block = _template("mixed_by_md5" if hashing.kind == "md5" else "mixed")
    first, second = (block.format(seed=sql.Literal(seed)) for seed in MIXED)
    return {"first": first, "second": second}


def _from(job: RunTable, side: Side) -> sql.Composed:
    if side == "source":
        return sql.Composed([job.view])
    return job.target_rows


def _key(job: RunTable, side: Side) -> tuple[KeyPart, ...]:
    return job.table.view_key if side == "source" else job.table.target_key


def _bucket(job: RunTable, side: Side, hashing: Hashing, buckets: int) -> sql.Composed:
    """A number below ``buckets`` from the key's image, or from the whole row without a key."""
    images = {k.target for k in job.table.key}
    parts = [p for p in job.table.columns if p.target in images] or list(job.table.columns)
    return sql.SQL("({}) & {}").format(_hash([(p, _value(p, side)) for p in parts], hashing), sql.Literal(buckets - 1))


# Sums ----------------------------------------------------------------------------------------------


def _sum(job: RunTable, side: Side, hashing: Hashing, rows: sql.Composable, condition: sql.Composable) -> sql.Composed:
    return _template("range_sum").format(
        hash=_row_hash(job, side, hashing), table=rows, condition=condition, **_mixed(hashing)
    )


def range_sum(tx: Transaction, job: RunTable, side: Side, hashing: Hashing, span: KeyRange) -> Sum:
    """The sum of the rows in a range of keys, which both servers order alike."""
    query = _sum(job, side, hashing, _from(job, side), predicate(_key(job, side), span))
    return Sum(*only_row(tx.pg.execute(query)))


def sum_of(tx: Transaction, job: RunTable, hashing: Hashing, rows: sql.Composable) -> Sum:
    """The sum of some rows of the source.

    :param rows: their SELECT in parentheses and its name; it has the columns of the run's view.
    """
    return Sum(*only_row(tx.pg.execute(_sum(job, "source", hashing, rows, sql.SQL("true")))))


def repeated(job: RunTable, select: sql.Composable, *, recode: bool) -> dict[Side, str]:
    """The statements that compare all rows of a table once more, on each side without any object of the run.

    Their results are equal if the rows are. They use hashes that every server computes alike, and need the settings of
    :data:`confiture.postgres.profile.OF_VALUES`.

    :param select: the SELECT of the planned table.
    """
    rows: dict[Side, sql.Composable] = {"source": sql.SQL("({}) AS planned").format(select), "target": job.target_rows}
    hashing = Hashing("md5", recode)
    return {side: _sum(job, side, hashing, of, sql.SQL("true")).as_string() for side, of in rows.items()}


def bucket_sums(
    tx: Transaction, job: RunTable, side: Side, hashing: Hashing, buckets: int, span: KeyRange | None = None
) -> dict[int, Sum]:
    """The sums of a table's rows by bucket, in one scan.

    :param span: of the side's own keys; None for the whole table.
    """
    within = predicate(_key(job, side), span or KeyRange(None, None))
    query = _template("bucket_sums").format(
        hash=_row_hash(job, side, hashing),
        bucket=_bucket(job, side, hashing, buckets),
        table=_from(job, side),
        condition=within,
        **_mixed(hashing),
    )
    return {row[0]: Sum(*row[1:]) for row in tx.pg.execute(query).fetchall()}


def add(sums: Iterable[Sum]) -> Sum:
    """The sum of several sets of rows that have none in common."""
    rows, first, second = 0, 0, 0
    for s in sums:
        rows, first, second = rows + s.rows, first + int(s.first), second + int(s.second)
    return Sum(rows, str(first), str(second))


def add_buckets(parts: Iterable[dict[int, Sum]]) -> dict[int, Sum]:
    """The sums by bucket of several sets of rows that have none in common."""
    found: dict[int, Sum] = {}
    for part in parts:
        for bucket, s in part.items():
            found[bucket] = add([found[bucket], s]) if bucket in found else s
    return found


def bucket_count(rows: int) -> int:
    """A power of two that leaves about ``BUCKET_ROWS`` rows in each."""
    wanted = max(1, rows // BUCKET_ROWS)
    return min(BUCKETS_MOST, 1 << (wanted - 1).bit_length())


# Rows behind a difference --------------------------------------------------------------------------


def range_condition(job: RunTable, span: KeyRange) -> dict[Side, sql.Composed]:
    """The rows of a range, as a condition on each side."""
    return {"source": predicate(_key(job, "source"), span), "target": predicate(_key(job, "target"), span)}


def bucket_condition(job: RunTable, hashing: Hashing, buckets: int, among: Sequence[int]) -> dict[Side, sql.Composed]:
    """The rows of some buckets, as a condition on each side."""
    test = sql.SQL("({}) = ANY ({})")

    def on(side: Side) -> sql.Composed:
        return test.format(_bucket(job, side, hashing, buckets), sql.Literal(list(among)))

    return {"source": on("source"), "target": on("target")}


def differences(
    source: Transaction, target: Transaction, job: RunTable, hashing: Hashing, where: dict[Side, sql.Composed]
) -> list[Difference]:
    """Every row in ``where`` that differs: by key, column and both values; at most DIFFERENCES_MOST."""
    if not job.table.key:
        return _keyless(source, target, job, hashing, where)
    a = hashes(source, job, "source", hashing, where["source"])
    b = hashes(target, job, "target", hashing, where["target"])
    keys = [k for k in a.keys() | b.keys() if a.get(k) != b.get(k)]
    found: list[Difference] = []
    for key in sorted(keys)[:DIFFERENCES_MOST]:
        found += _row(source, target, job, hashing, key, (key in a, key in b))
        if len(found) >= DIFFERENCES_MOST:
            break
    return found[:DIFFERENCES_MOST]


def suspects(
    source: Transaction, target: Transaction, job: RunTable, hashing: Hashing, where: dict[Side, sql.Composed]
) -> list[Difference]:
    """Every row in ``where`` that differs now, by key alone and without a limit.

    While the application writes, nearly all of these rows agree a moment later. A row that a limit left out might not.
    """
    a = hashes(source, job, "source", hashing, where["source"])
    b = hashes(target, job, "target", hashing, where["target"])
    return named(job, sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k)))


def named(job: RunTable, keys: Iterable[Key]) -> list[Difference]:
    """Rows that differ, by key alone."""
    names = [k.target for k in job.table.key]
    subject = str(job.table.target)
    return [Difference("rows", subject, "differs", dict(zip(names, key, strict=True))) for key in keys]


def _key_texts(job: RunTable, side: Side) -> sql.Composed:
    by_image = {p.target: p for p in job.table.columns}
    texts = [sql.SQL("({})::text").format(_value(by_image[k.target], side)) for k in job.table.key]
    return sql.SQL(", ").join(texts)


def hashes(
    tx: Transaction, job: RunTable, side: Side, hashing: Hashing, where: sql.Composed
) -> dict[Key, tuple[int, ...]]:
    """The hashes of the rows in ``where`` by key as text; several where the key is not unique, in order."""
    query = _template("row_hashes").format(
        hash=_row_hash(job, side, hashing),
        key_texts=_key_texts(job, side),
        table=_from(job, side),
        condition=where,
    )
    found: dict[Key, tuple[int, ...]] = {}
    for row in tx.pg.execute(query):
        key = tuple(row[1:])
        found[key] = tuple(sorted((*found.get(key, ()), row[0])))
    return found


def _row(
    source: Transaction, target: Transaction, job: RunTable, hashing: Hashing, key: Key, there: tuple[bool, bool]
) -> Iterator[Difference]:
    subject = str(job.table.target)
    named = dict(zip((k.target for k in job.table.key), key, strict=True))
    if not there[1]:
        yield Difference("rows", subject, "missing in target", named)
    elif not there[0]:
        yield Difference("rows", subject, "not in source", named)
    else:
        a = _values(source, job, "source", hashing, key)
        b = _values(target, job, "target", hashing, key)
        if len(a) != 1 or len(b) != 1:
            yield Difference("rows", subject, f"{counted(len(a), 'row')} in source, {len(b):,} in target", named)
            return
        for p, (x, same_x), (y, same_y) in zip(job.table.columns, a[0], b[0], strict=True):
            if same_x != same_y:
                yield Difference("rows", subject, "value differs", named, p.target, x, y)


def _values(
    tx: Transaction, job: RunTable, side: Side, hashing: Hashing, key: Key
) -> list[list[tuple[str | None, str | None]]]:
    """Each column of the row as (text, comparable form): two values with the same text may differ in the latter."""
    items = []
    for p in job.table.columns:
        value = _value(p, side)
        items.append(_shown(value, p.wire))
        recoded = hashing.recode and p.canon in ("text", "collated")
        items.append(_shown(comparable(value, p, recode=hashing.recode), "bytea" if recoded else p.wire))
    by_image = {p.target: p for p in job.table.columns}
    tests = [
        sql.SQL('({})::text COLLATE "C" = {}').format(_value(by_image[k.target], side), sql.Literal(text))
        for k, text in zip(job.table.key, key, strict=True)
    ]
    query = _template("row_values").format(
        texts=sql.SQL(", ").join(items),
        table=_from(job, side),
        condition=sql.SQL(" AND ").join([*_indexed(job, side, key), *tests]),
    )
    return [list(zip(row[0][::2], row[0][1::2], strict=True)) for row in tx.pg.execute(query).fetchall()]


def _shown(value: sql.Composed, kind: str) -> sql.Composed:
    """A value as text; a long one by its length and digest, because a row of such texts may exceed 1 GB.

    :param kind: its type.
    """
    block = "shown_bytea" if kind == "bytea" else "shown_text" if kind in _LONG else "shown"
    return _template(block).format(value=value, most=sql.Literal(SHOWN_MOST))


def _indexed(job: RunTable, side: Side, key: Key) -> list[sql.Composed]:
    """The key as typed literals, so that its index finds the row."""
    parts = _key(job, side)
    return [
        sql.SQL("{} = {}::{}::{}").format(sql.Identifier(part.name), sql.Literal(text), raw(wire), raw(part.type))
        for part, wire, text in zip(parts, job.table.key_wires, key, strict=True)
    ]


def _keyless(
    source: Transaction, target: Transaction, job: RunTable, hashing: Hashing, where: dict[Side, sql.Composed]
) -> list[Difference]:
    """Rows without a key, as a multiset: those that one side has more often, with their text."""
    a = _texts(source, job, "source", hashing, where["source"])
    b = _texts(target, job, "target", hashing, where["target"])
    subject = str(job.table.target)
    found = [
        Difference("rows", subject, f"{n} time{'s' if n > 1 else ''} too few in target", None, None, text, None)
        for (_, text), n in (a - b).items()
    ]
    found += [
        Difference("rows", subject, f"{n} time{'s' if n > 1 else ''} too many in target", None, None, None, text)
        for (_, text), n in (b - a).items()
    ]
    return found[:DIFFERENCES_MOST]


def _texts(
    tx: Transaction, job: RunTable, side: Side, hashing: Hashing, where: sql.Composed
) -> Counter[tuple[int, str]]:
    values = sql.SQL(", ").join(_shown(_value(p, side), p.wire) for p in job.table.columns)
    query = _template("row_texts").format(
        hash=_row_hash(job, side, hashing), values=values, table=_from(job, side), condition=where
    )
    return Counter((row[0], row[1]) for row in tx.pg.execute(query))
