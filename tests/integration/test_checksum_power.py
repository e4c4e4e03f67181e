"""A thousand and more corruptions, each of which a checksum of its rows detects.

Each corruption is made in the target, its rows are summed, and it is rolled back. So each one must change the sum by
itself, and none can hide behind another one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from confiture import config
from confiture.compare import checksum
from confiture.compare.checksum import Hashing, Sum
from confiture.copy.run_table import RunTable
from confiture.plan.model import plan_from_json
from confiture.postgres.session import Session, Transaction
from confiture.types import KeyRange
from live import LiveRun
from servers import Databases

pytestmark = pytest.mark.xdist_group("checksum_power")  # one worker runs its move, once

SEED = 12
#: Corruptions of each kind; each has two rows of its own.
EACH = 100
EXTENSIONS = "CREATE EXTENSION citext;"


@dataclass(frozen=True)
class Kind:
    """A table, and statements of which each corrupts two of its rows.

    :ivar columns: beside ``id``.
    :ivar values: of row ``n`` of pair ``p``, as SQL; empty for NULL in each column.
    :ivar spoil: statements, used in turn; ``{a}`` and ``{b}`` are the ids of a pair, ``{x}`` lies between them, and
        ``{r}`` is a random number.
    :ivar keyless: the table has no key.
    :ivar twins: it has none, and both rows of a pair have the same id.
    """

    columns: str
    values: str
    spoil: tuple[str, ...]
    keyless: bool = False
    twins: bool = False


def setting(*columns: str) -> tuple[str, ...]:
    """Corruptions of one row, each an assignment."""
    return tuple(f"UPDATE {{t}} SET {column} WHERE id = {{a}}" for column in columns)


#: Of both rows, in one statement: what the first condition does to one, the second does to the other.
BOTH = "UPDATE {{t}} SET v = CASE id WHEN {{a}} THEN {} ELSE {} END WHERE id IN ({{a}}, {{b}})"
KINDS = {
    "values swapped between two rows": Kind(
        "v text, w bigint, d numeric, j jsonb",
        "'v' || n, n * 7919, n / 8.0, jsonb_build_object('n', n)",
        tuple(
            f"UPDATE {{t}} i SET {c} = o.{c} FROM {{t}} o WHERE (i.id, o.id) IN (({{a}}, {{b}}), ({{b}}, {{a}}))"
            for c in ("v", "w", "d", "j")
        ),
    ),
    "values swapped between two columns": Kind(
        "v text, w text, a int, b int, c bigint, d bigint, e uuid, f uuid, g timestamp, h timestamp, x bool, y bool",
        "'v' || n, 'w' || n, n, n * 3, n, n * 5, md5(n::text)::uuid, md5('f' || n)::uuid,"
        " 'epoch'::timestamp + n * interval '1 s', 'epoch'::timestamp + n * interval '1 h', n % 4 > 1, n % 4 < 2",
        setting("v = w, w = v", "a = b, b = a", "c = d, d = c", "e = f, f = e", "g = h, h = g", "x = y, y = x"),
    ),
    "a missing row": Kind("v text", "'v' || n", ("DELETE FROM {t} WHERE id = {a}", "DELETE FROM {t} WHERE id = {b}")),
    "an extra row": Kind(
        "v text",
        "'v' || n",
        ("INSERT INTO {t} SELECT {x}, v FROM {t} WHERE id = {a}", "INSERT INTO {t} VALUES ({x})"),
    ),
    "a row twice where there is no key": Kind(
        "v text",
        "'v' || n",
        (
            "INSERT INTO {t} SELECT * FROM {t} WHERE id = {a}",
            "UPDATE {t} SET id = {a}, v = (SELECT v FROM {t} WHERE id = {a}) WHERE id = {b}",
        ),
        keyless=True,
    ),
    "NULL, and empty or zero": Kind(
        "v text, i int, l bigint, n numeric, f float8, b bool, y bytea, a int[], j jsonb, t timestamp",
        "",
        setting("v = ''", "i = 0", "l = 0", "n = 0", "f = 0", "b = false", "y = ''", "a = '{{}}'", "j = 'null'")
        + setting("t = '2000-01-01'", "j = '{{}}'", "a = '{{NULL}}'", "v = 'NULL'", "y = '\\x00'"),
    ),
    "a value in another column, and NULL in its own": Kind(
        "v text, w text, a int, b int, c bigint, d bigint",
        "'v' || n, NULL, n, NULL, n, NULL",
        setting("v = NULL, w = v", "a = NULL, b = a", "c = NULL, d = c"),
    ),
    "values that are equal and differ": Kind(
        "n numeric, f float8, r real, s varchar(8), c char(3), w text, j json, b jsonb, i interval, e citext,"
        " a numeric[], k text",
        "1.0, 0, 0, 'a', 'a', 'a', '{\"a\":1,\"b\":2}', '[1.0]', '1 day', 'Ann', '{1.0}', 'Stra' || chr(223) || 'e'",
        setting("n = 1.00", "n = 1", "f = '-0'", "r = '-0'", "s = 'a '", "w = 'a '", "c = 'A'")
        + setting('j = \'{{"b":2,"a":1}}\'', 'j = \'{{"a": 1,"b":2}}\'', "b = '[1.00]'", "i = '24 hours'")
        + setting("e = 'ann'", "a = '{{1.00}}'", "k = 'Strasse'", "k = 'stra' || chr(223) || 'e'"),
    ),
    "signs, infinities and NaN": Kind(
        "n numeric, f float8, r real, t timestamp, d date, j jsonb",
        "5, 'NaN', 'NaN', 'infinity', 'infinity', '[5]'",
        setting("n = -5", "n = 'NaN'", "f = 'Infinity'", "f = '-Infinity'", "r = 'Infinity'", "t = '-infinity'")
        + setting("d = '-infinity'", "j = '[-5]'", "n = 'Infinity'", "j = '[[5]]'"),
    ),
    "one bit of bytes and of a long value": Kind(
        "v bytea, w text, b varbit, u uuid",
        "(SELECT string_agg(decode(md5(n || ' ' || i), 'hex'), '') FROM generate_series(1, 700) i),"
        " (SELECT string_agg(md5(n || ' ' || i), '') FROM generate_series(1, 400) i),"
        " n::bit(32)::varbit, md5(n::text)::uuid",
        setting(
            "v = set_bit(v, {r} % 89600, 1 - get_bit(v, {r} % 89600))",
            "w = overlay(w placing 'x' from 1 + {r} % 12800)",
            "b = set_bit(b, {r} % 32, 1 - get_bit(b, {r} % 32))",
            "u = overlay(u::text placing translate(substr(u::text, 1, 1), '0123456789abcdef', '1032547698badcfe')"
            " from 1)::uuid",
        ),
    ),
    "the bounds and the dimensions of an array": Kind(
        "v int[], w text[]",
        "ARRAY[n, n + 1], ARRAY['a', 'b,c']",
        setting("v = format('[0:1]={{%s,%s}}', v[1], v[2])::int[]", "v = ARRAY[v]", "v = v || NULL::int")
        + setting("w = '{{a,b,c}}'", "w = '{{\"a,b\",c}}'", "w = ARRAY[w[2], w[1]]"),
    ),
    "off by one": Kind(
        "v int, s smallint, l bigint, n numeric(12, 2), d date, t timestamp, z timestamptz, f float8",
        "n, n, n::bigint << 33, n / 4.0, date '2026-01-01' + n, timestamp '2026-01-01' + n * interval '1 h',"
        " timestamptz '2026-01-01' + n * interval '1 h', n",
        setting("v = v + 1", "v = v - 1", "s = s + 1", "l = l + 1", "l = l - 1", "n = n + 0.01", "d = d + 1")
        + setting("t = t + interval '1 us'", "z = z - interval '1 us'", "f = f + 2.3e-13", "v = -v", "l = -l"),
    ),
    "numbers whose halves cancel": Kind(
        # hashint8 combines both halves of a number in one exclusive OR, and so does the hash of a timestamp.
        "v bigint, t timestamp",
        "n * 4294967296 + n, 'epoch'::timestamp + n * interval '1 day'",
        setting(
            "v = (((v >> 32) # d) << 32) | ((v & 4294967295) # d) FROM (SELECT 1 + {r} % 1000 AS d) x",
            "v = v # -1",
            "t = t + ((((m >> 32) # d) << 32 | ((m & 4294967295) # d)) - m) * interval '1 us' FROM (SELECT"
            " 1 + {r} % 1000 AS d, (extract(epoch FROM (SELECT t FROM {t} WHERE id = {a}) - '2000-01-01')"
            " * 1000000)::bigint AS m) x",
        ),
    ),
    "corruptions that cancel in a sum": Kind(
        "v bigint, w int",
        "n * 1000, n",
        (
            BOTH.format("v + {r}", "v - {r}"),
            "UPDATE {t} SET w = w + CASE id WHEN {a} THEN 1 ELSE -1 END WHERE id IN ({a}, {b})",
            "UPDATE {t} SET v = v + 31, w = w - 1 WHERE id = {a}",
        ),
    ),
    "corruptions that cancel in an exclusive OR": Kind(
        "v text, w bigint",
        "'v' || p, p",
        setting("v = 'other'", "w = w # {r}", "v = NULL", "w = -w"),
        twins=True,
    ),
}
#: Values that are one value, whatever is typed: no sum may change.
SAME = Kind(
    "z timestamptz, j jsonb, c char(4), n numeric(8, 2), u uuid, a int[]",
    "timestamptz '2026-07-01 12:00 UTC', '{\"a\":1,\"b\":2}', 'a', 1.5, md5('u')::uuid, '{1,2}'",
    setting("z = '2026-07-01 14:00 +02'", 'j = \'{{"b": 2, "a": 1}}\'', "c = 'a '", "n = 1.50")
    + setting("u = upper(u::text)::uuid", "a = '[1:2]={{1,2}}'"),
)
TABLES = {f"k{i}": kind for i, kind in enumerate((*KINDS.values(), SAME), 1)}


def ddl(name: str, kind: Kind) -> str:
    key = "" if kind.keyless or kind.twins else "PRIMARY KEY"
    return f"CREATE TABLE {name} (id bigint NOT NULL {key}, {kind.columns});"


def rows(name: str, kind: Kind) -> str:
    number = "p * 20 - 10" if kind.twins else "n * 10"
    values = f", {kind.values}" if kind.values else ""
    pairs = f"SELECT n, (n + 1) / 2 AS p FROM generate_series(1, {2 * EACH}) n"
    return f"INSERT INTO {name} SELECT {number}{values} FROM ({pairs}) x;"


@pytest.fixture(scope="module")
def live(server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRun]:
    databases = Databases(server)  # type: ignore[arg-type]
    new = EXTENSIONS + "".join(ddl(name, kind) for name, kind in TABLES.items())
    old = new + "".join(rows(name, kind) for name, kind in TABLES.items())
    yield LiveRun(databases, tmp_path_factory.mktemp("power"), old, new).up_to_cutover(capture=False)
    databases.drop_all()


def corruptions(name: str, kind: Kind) -> Iterator[tuple[str, KeyRange]]:
    """Each corruption, and the keys among which it is."""
    chance = random.Random(SEED)
    for i in range(EACH):
        a = 20 * i + 10
        places = {"t": f"public.{name}", "a": a, "b": a + 10, "x": a + 5, "r": chance.randrange(1, 2**31)}
        yield kind.spoil[i % len(kind.spoil)].format(**places), KeyRange((str(a),), (str(a + 15),))


def found(live: LiveRun, name: str, kind: Kind) -> Iterator[tuple[str, bool]]:
    """Each corruption, and whether it changes the sum of its rows."""
    run = live.target.run_schema.removeprefix("confiture_")
    source, target = (config.resolve(d.conninfo, live.project) for d in (live.source, live.target))
    job = job_of(live, name)
    with Session(source, "test", run) as one, Session(target, "test", run) as other:
        with one.transaction(read_only=True) as a, other.rehearsal() as b:
            hashing = checksum.agree(a, b, recode=False)
            for statement, span in corruptions(name, kind):
                span = KeyRange(None, None) if kind.keyless or kind.twins else span
                here = summed(a, job, "source", hashing, span)
                assert here == summed(b, job, "target", hashing, span)
                with b.pg.transaction(force_rollback=True):
                    assert b.pg.execute(statement.encode()).rowcount > 0, statement
                    yield statement, here != summed(b, job, "target", hashing, span)


def job_of(live: LiveRun, name: str) -> RunTable:
    plan = plan_from_json(live.target.value("SELECT plan FROM confiture.run"))
    return RunTable(next(t for t in plan.tables if t.target.name == name), live.target.run_schema)


def summed(tx: Transaction, job: RunTable, side: checksum.Side, hashing: Hashing, span: KeyRange) -> Sum:
    return checksum.range_sum(tx, job, side, hashing, span)


@pytest.mark.parametrize("name", list(TABLES)[:-1], ids=list(KINDS))
def test_each_corruption_changes_a_checksum(live: LiveRun, name: str) -> None:
    results = list(found(live, name, TABLES[name]))
    assert len(results) == EACH
    assert [statement for statement, differs in results if not differs] == []


def test_each_row_adds_two_unrelated_numbers(live: LiveRun) -> None:
    source, target = (config.resolve(d.conninfo, live.project) for d in (live.source, live.target))
    with Session(source, "test") as one, Session(target, "test") as other:
        with one.transaction(read_only=True) as a, other.transaction(read_only=True) as b:
            hashing = checksum.agree(a, b, recode=False)
            job = job_of(live, next(iter(TABLES)))
            rows = [KeyRange((str(n),), (str(n + 1),)) for n in range(10, 20 * EACH + 1, 10)]
            sums = [summed(a, job, "source", hashing, row) for row in rows]
    for sizes in ([s.first for s in sums], [s.second for s in sums]):
        assert len(set(sizes)) == len(rows)
    # Of unrelated numbers, one in 256 has the same last byte.
    assert sum((int(s.first) ^ int(s.second)) % 256 == 0 for s in sums) < len(rows) / 20


def test_another_spelling_of_a_value_changes_no_checksum(live: LiveRun) -> None:
    assert not any(differs for _, differs in found(live, list(TABLES)[-1], SAME))
