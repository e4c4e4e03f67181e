"""Values and keys of every type are copied by both strategies and in both formats without any loss.

One migration per strategy copies a table for each type and format. Each test checks one of these tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import any_move
from any_move import AnyMove
from confiture.errors import FaultyInput
from confiture.postgres.embedded import Server
from live import LiveRun
from servers import Databases

pytestmark = pytest.mark.xdist_group("types")  # one worker runs its two moves, once

CHUNK_ROWS = 3

PRELUDE = '''
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE SCHEMA "Odd ""Types""";
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "fine", \\ really');
CREATE TYPE "Odd ""Types""".pair AS (a int, "B b" text);
CREATE TYPE nested AS (p "Odd ""Types""".pair, m mood[], at timestamptz);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN price AS numeric(10,2) NOT NULL DEFAULT 0;
CREATE DOMAIN short_text AS varchar(5);
CREATE DOMAIN shorter AS short_text CHECK (VALUE <> 'no');
CREATE DOMAIN ints AS int[];
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
CREATE COLLATION own (provider = builtin, locale = 'C.UTF-8');
CREATE TABLE pointed_at (id int);
CREATE FUNCTION same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
'''

#: Each type with values as SQL literals. Each table also gets a NULL.
VALUES: dict[str, tuple[str, list[str]]] = {
    "bool": ("boolean", ["true", "false"]),
    "int2": ("smallint", ["-32768", "32767", "0"]),
    "int4": ("integer", ["-2147483648", "2147483647", "0"]),
    "int8": ("bigint", ["-9223372036854775808", "9223372036854775807", "-5", "4294967291"]),
    "numeric": ("numeric", ["'NaN'", "'Infinity'", "'-Infinity'", "1.0", "1.00", "0.000", "1e100", "-1e-100"]),
    "numeric_scaled": ("numeric(10,2)", ["'NaN'", "99999999.99", "-0.01", "0"]),
    "numeric_tens": ("numeric(3,-2)", ["12300", "-99900"]),
    "float4": ("real", ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0", "0.1", "1e-45", "3.4e38"]),
    "float8": (
        "float8",
        ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0", "0.1", "5e-324", "1.7e308", "1/3::float8"],
    ),
    "money": ("money", ["'-92233720368547758.08'", "'0.01'", "'1,000.00'"]),
    "text": ("text", ["''", "' a '", "'Straße\n\t\\N \\. \"q\" ''s'", "'\U0001f600'", "repeat('x', 100000)", "'NULL'"]),
    "varchar": ("varchar", ["''", "'a  '"]),
    "varchar_n": ("varchar(5)", ["'abcde'", "'äöü'", "'ab   '", "''"]),
    "char_n": ("char(5)", ["'a'", "'abcde'", "''", "' b'"]),
    "bpchar": ("bpchar", ["'a'", "'a  '", "''"]),
    "name": ("name", ["'a'", "repeat('n', 63)", "''"]),
    "char": ('"char"', ["'a'", "''", "'\\377'"]),
    "bytea": ("bytea", ["''", "'\\x00'", "'\\x00ff5c6e'", "decode(repeat('ab', 50000), 'hex')"]),
    "date": ("date", ["'infinity'", "'-infinity'", "'4714-11-24 BC'", "'5874897-12-31'", "'2000-02-29'"]),
    "time": ("time", ["'00:00'", "'24:00'", "'12:34:56.789012'"]),
    "time_p": ("time(2)", ["'12:34:56.78'"]),
    "timetz": ("timetz", ["'00:00+15:59'", "'24:00-15:59'", "'12:34:56.789012+01'"]),
    "timestamp": ("timestamp", ["'infinity'", "'-infinity'", "'294276-12-31 23:59:59.999999'", "'4714-11-24 BC'"]),
    "timestamp_p": ("timestamp(3)", ["'2020-01-01 12:34:56.789'", "'infinity'"]),
    "timestamptz": ("timestamptz", ["'infinity'", "'2020-03-29 02:30+01'", "'0044-03-15 12:00 BC'"]),
    "interval": ("interval", ["'1 day'", "'24 hours'", "'1 mon -1 day +00:00:01.5'", "'-178000000 years'", "'0'"]),
    "interval_p": ("interval(2)", ["'1.25 s'"]),
    "interval_fields": ("interval year to month", ["'1-2'", "'-1 year'"]),
    "uuid": ("uuid", ["'f47ac10b-58cc-4372-a567-0e02b2c3d479'", "'00000000-0000-0000-0000-000000000000'"]),
    "json": ("json", ['\'{"b": 1, "a" : 1, "b": 2}\'', "'null'", "'  [1 , 2]\n'", "'\"\\u00e4\"'"]),
    "jsonb": ("jsonb", ['\'{"b": 1.0, "a": 1.00}\'', "'null'", "'[]'", "'1e5'"]),
    "jsonpath": ("jsonpath", ["'$.a[*] ? (@ > 1)'"]),
    "tsvector": ("tsvector", ["'a:1A b:2 ''it''''s''':: tsvector", "''"]),
    "tsquery": ("tsquery", ["'a & (b | !c) <-> d:*A'"]),
    "inet": ("inet", ["'10.0.0.1/8'", "'::1'", "'10.0.0.1'"]),
    "cidr": ("cidr", ["'10.0.0.0/8'", "'2001:db8::/32'"]),
    "macaddr": ("macaddr", ["'08:00:2b:01:02:03'"]),
    "macaddr8": ("macaddr8", ["'08:00:2b:01:02:03:04:05'"]),
    "bit": ("bit(5)", ["B'10101'", "B'00000'"]),
    "bit1": ("bit", ["B'1'"]),
    "varbit": ("varbit", ["B''", "B'1'", "B'01'"]),
    "varbit_n": ("varbit(3)", ["B'101'", "B''"]),
    "oid": ("oid", ["0", "4294967295"]),
    "xid8": ("xid8", ["'18446744073709551615'"]),
    "pg_lsn": ("pg_lsn", ["'0/0'", "'FFFFFFFF/FFFFFFFF'"]),
    "pg_snapshot": ("pg_snapshot", ["'10:20:10,14,15'"]),
    "tid": ("tid", ["'(0,1)'"]),
    "regclass": ("regclass", ["'pg_class'", "'public.pointed_at'"]),
    "regprocedure": ("regprocedure", ["'pg_catalog.lower(text)'", "'public.same(int)'"]),
    "regtype": ("regtype", ["'int4'", "'public.mood'", '\'"Odd ""Types""".pair\'']),
    "regrole": ("regrole", ["'postgres'"]),
    "aclitem": ("aclitem", ["'postgres=arwdDxt/postgres'"]),
    "point": ("point", ["'(1,-0)'", "'(Infinity,NaN)'", "'(0.1,0.2)'"]),
    "line": ("line", ["'{1,2,3}'"]),
    "lseg": ("lseg", ["'[(0,0),(1,1)]'"]),
    "box": ("box", ["'(1,1),(0,0)'"]),
    "path": ("path", ["'[(0,0),(1,1)]'", "'((0,0),(1,1))'"]),
    "polygon": ("polygon", ["'((0,0),(1,1),(1,0))'"]),
    "circle": ("circle", ["'<(0,0),0.1>'"]),
    "int4range": ("int4range", ["'empty'", "'(,)'", "'[1,5)'"]),
    "int8range": ("int8range", ["'[1,9223372036854775807)'"]),
    "numrange": ("numrange", ["'[1.0,1.00]'", "'(,1.5)'"]),
    "tsrange": ("tsrange", ["'[2020-01-01,infinity)'"]),
    "tstzrange": ("tstzrange", ["'[2020-01-01 00:00+02,]'"]),
    "daterange": ("daterange", ["'[2020-01-01,2020-12-31]'"]),
    "int4multirange": ("int4multirange", ["'{[1,3),[5,7)}'", "'{}'"]),
    "datemultirange": ("datemultirange", ["'{[2020-01-01,2020-02-01),[2021-01-01,)}'"]),
    "textrange": ("textrange", ["'[a,\"b,c\")'", "'empty'"]),
    "textmultirange": ("textmultirange", ["'{[a,b),[c,)}'"]),
    "int4_array": ("int[]", ["'{}'", "'{1,NULL,3}'", "'[2:4]={1,2,3}'", "'{{1,2},{3,4}}'"]),
    "text_array": ("text[]", ["'{}'", '\'{"a,b",NULL,"NULL",""}\'']),
    "varchar_array": ("varchar(3)[]", ["'{abc,\"d  \"}'"]),
    "bpchar_array": ("char(3)[]", ["'{a,bcd}'"]),
    "numeric_array": ("numeric(6,2)[]", ["'{1.5,NaN}'"]),
    "float8_array": ("float8[]", ["'{-0,NaN,Infinity,0.1}'"]),
    "timestamptz_array": ("timestamptz[]", ["'{infinity,2020-01-01 00:00+05}'"]),
    "bytea_array": ("bytea[]", ["ARRAY['\\x00'::bytea, '']"]),
    "json_array": ("json[]", ['ARRAY[\'{"b": 1, "a" : 2}\'::json]']),
    "bit_array": ("bit(3)[]", ["'{101,000}'"]),
    "int4range_array": ("int4range[]", ["'{\"[1,2)\",empty}'"]),
    "regclass_array": ("regclass[]", ["'{pg_class,public.pointed_at}'"]),
    "enum": ("mood", ["'sad'", "'it''s \"fine\", \\ really'"]),
    "enum_array": ("mood[]", ["ARRAY['it''s \"fine\", \\ really', 'ok', NULL]::mood[]", "'{}'"]),
    "composite": ('"Odd ""Types""".pair', ["ROW(1, 'a,\"b')", "ROW(NULL, NULL)", "ROW(NULL, '')"]),
    "composite_array": ('"Odd ""Types""".pair[]', ['ARRAY[ROW(1, \'x\'), NULL]::"Odd ""Types""".pair[]']),
    "composite_nested": ("nested", ["ROW(ROW(1, 'x y'), '{sad,ok}', '2020-01-01 00:00+00')"]),
    "domain": ("positive", ["1", "2147483647"]),
    "domain_of_domain": ("shorter", ["'abcde'", "'a   '"]),
    "domain_of_array": ("ints", ["'{1,2}'"]),
    "domain_array": ("positive[]", ["'{1,2}'"]),
    "hstore": ("hstore", ['\'"a b"=>"1", c=>NULL\'', "''"]),
    "citext": ("citext", ["'Bob'", "'bob '"]),
    "citext_array": ("citext[]", ["'{Bob,\"b,c\"}'"]),
}
#: Types whose binary format may differ between servers. Their tables are copied as text.
TEXT_ONLY = {
    *("interval", "interval_p", "interval_fields"),
    *("jsonpath", "tsquery", "xid8", "pg_lsn", "pg_snapshot", "tid", "aclitem", "regclass", "regprocedure"),
    *("regtype", "regrole", "regclass_array", "int4multirange", "datemultirange", "textrange", "textmultirange"),
    *("enum", "enum_array", "composite", "composite_array", "composite_nested", "domain_array", "hstore"),
    *("citext", "citext_array"),
}

#: Keys: the type of each column, and an expression over n from 1 to KEY_ROWS that computes its value.
KEY_ROWS = 17
KEYS: dict[str, list[tuple[str, str]]] = {
    "int8": [("bigint", "n * 1000000007::bigint * (1 - n % 2 * 2)")],
    "text": [("text", "chr(64 + n * 7 % 40) || ' Ä\\''\"%s ' || n")],
    "text_c": [('text COLLATE "C"', "chr(64 + n * 7 % 40) || n")],
    "text_own": [("text COLLATE own", "(ARRAY['ä','a','z','Z'])[n % 4 + 1] || n")],
    "varchar": [("varchar(20)", "md5(n::text)::varchar(20)")],
    "char_n": [("char(8)", "chr(64 + n * 7 % 40) || n")],
    "name": [("name", "chr(64 + n * 7 % 40) || n")],
    "uuid": [("uuid", "md5(n::text)::uuid")],
    "bytea": [("bytea", "decode(md5(n::text), 'hex')")],
    "bool": [("boolean", "n % 2 = 0"), ("int", "n")],
    "date": [("date", "CASE WHEN n = 1 THEN '-infinity' ELSE date '2000-01-01' - n END")],
    "time": [("time", "time '12:00' + n * interval '1.000001 s'")],
    "timestamp": [("timestamp", "CASE n WHEN 1 THEN 'infinity' ELSE timestamp '2000-01-01' + n * interval '1 us' END")],
    "timestamptz": [("timestamptz", "timestamptz '2000-01-01 00:00+03' + n * interval '7 h'")],
    "numeric": [("numeric(10,2)", "CASE n WHEN 1 THEN 'NaN' ELSE n * -1.25 END")],
    "inet": [("inet", "inet '10.0.0.0/8' + n * 77")],
    "money": [("money", "(n * 1000.01)::numeric::money")],
    "enum": [("many", "('m' || n)::many")],
    "domain": [("positive", "n * 3")],
    "domain_of_domain": [("shorter", "'k' || n")],
    "two": [("int", "n % 3"), ("text", "'t' || n")],
    "three": [("timestamp", "timestamp '2000-01-01' + n % 2 * interval '1 d'"), ("uuid", "md5((n % 5)::text)::uuid"),
              ("bigint", "n")],
    "enum_and_int": [("many", "('m' || n % 3 + 1)::many"), ("int", "n")],
    "oid": [("oid", "n * 200000000::bigint")],
    "varbit": [("varbit", "n::bit(8)::varbit")],
}  # fmt: skip
#: Keys whose comparison postgres_fdw does not push down. Their tables are copied with COPY in any case.
NOT_SHIPPED = {"enum", "domain", "domain_of_domain", "enum_and_int", "name", "text_c", "text_own"}
#: Unique columns that are not a walk key, with the reason.
UNWALKABLE = {
    "numeric": ("numeric", "n * 1.5", "is numeric without a fixed scale"),
    "float8": ("float8", "n / 7.0", "has type double precision"),
    "citext": ("citext", "'C' || n", "has type public.citext"),
    "interval": ("interval", "n * interval '1 h'", "has type interval"),
    "jsonb": ("jsonb", "to_jsonb(n)", "has type jsonb"),
    "array": ("int[]", "ARRAY[n]", "has type integer[]"),
}

TYPES = f"""{PRELUDE}
CREATE TYPE many AS ENUM ({", ".join(f"'m{n * 7 % 18}'" for n in range(1, 18))});
"""


#: The columns of the tables with values, by the format in which they are copied.
FORMS = {"binary": [case for case in VALUES if case not in TEXT_ONLY], "text": list(VALUES)}


def _value_tables(filled: bool) -> Iterator[str]:
    for form, cases in FORMS.items():
        columns = ", ".join(f"{case} {VALUES[case][0]}" for case in cases)
        yield f"CREATE TABLE values_{form} (id int PRIMARY KEY, {columns});"
        for n in range(max(len(values) for _, values in VALUES.values()) + 1) if filled else ():
            row = ", ".join((*VALUES[case][1], *["NULL"] * 10)[n] for case in cases)
            yield f"INSERT INTO values_{form} VALUES ({n}, {row});"


def _key_tables(filled: bool) -> Iterator[str]:
    for case, parts in KEYS.items():
        columns = ", ".join(f"k{i} {t}" for i, (t, _) in enumerate(parts))
        names = ", ".join(f"k{i}" for i in range(len(parts)))
        yield f"CREATE TABLE key_{case} ({columns}, note text, PRIMARY KEY ({names}));"
        if filled:
            values = ", ".join(f"{e}" for _, e in parts)
            yield f"INSERT INTO key_{case} SELECT {values}, 'note ' || n FROM generate_series(1, {KEY_ROWS}) n;"
    for case, (type_name, value, _) in UNWALKABLE.items():
        yield f"CREATE TABLE unwalkable_{case} (k {type_name} PRIMARY KEY, note text);"
        if filled:
            rows = f"generate_series(1, {KEY_ROWS}) n"
            yield f"INSERT INTO unwalkable_{case} SELECT {value}, 'note ' || n FROM {rows};"


SOURCE = "\n".join([TYPES, *_value_tables(True), *_key_tables(True), "ANALYZE;"])
DDL = "\n".join([TYPES, *_value_tables(False), *_key_tables(False)])


@pytest.fixture(scope="module", params=["fdw", "copy"])
def moved(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AnyMove]:
    """A run that has moved and verified every table, by COPY or, where possible, by postgres_fdw."""
    databases = Databases(server)
    move = any_move.make(databases, tmp_path_factory.mktemp("types"), SOURCE, DDL)
    yield move.through(chunk_rows=CHUNK_ROWS, far=request.param == "fdw")
    databases.drop_all()


@pytest.fixture
def strategy(moved: AnyMove, request: pytest.FixtureRequest) -> str:
    """The strategy of the run."""
    return str(request.node.callspec.params["moved"])


# Values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "case"), [(form, case) for form, cases in FORMS.items() for case in cases])
def test_every_value_arrives_unchanged(moved: AnyMove, strategy: str, case: str, form: str) -> None:
    table = moved.planned(f"values_{form}")
    assert (table.strategy, table.format) == (strategy, form)
    assert moved.source.value(f"SELECT count({case}) FROM values_{form}") == len(VALUES[case][1])
    moved.assert_same(f"SELECT id, {case} FROM values_{form}")


# Keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", KEYS)
def test_a_table_is_walked_by_a_key_of_any_type(moved: AnyMove, strategy: str, case: str) -> None:
    table = moved.planned(f"key_{case}")
    assert len(table.key) == len(KEYS[case]), table.key_reason
    assert table.strategy == ("copy" if case in NOT_SHIPPED else strategy), table.strategy_reason
    assert moved.chunks(f"key_{case}") == -(-KEY_ROWS // CHUNK_ROWS)
    moved.assert_same(f"SELECT * FROM key_{case}")


@pytest.mark.parametrize("case", UNWALKABLE)
def test_a_key_that_cannot_be_walked_yields_one_chunk_and_a_reason(moved: AnyMove, case: str) -> None:
    table = moved.planned(f"unwalkable_{case}")
    assert table.key == ()
    assert UNWALKABLE[case][2] in table.key_reason
    assert moved.chunks(f"unwalkable_{case}") == 1
    moved.assert_same(f"SELECT * FROM unwalkable_{case}")


ADDRESS = "CREATE TABLE a (id int PRIMARY KEY, v addr, w addr[])"


def test_composite_type_with_other_attributes_needs_a_transform(databases: Databases, tmp_path: Path) -> None:
    old = f"""CREATE TYPE addr AS (street text, city text); {ADDRESS};
        INSERT INTO a VALUES (1, ROW('s', 'c'), NULL), (2, NULL, NULL);"""
    live = LiveRun(databases, tmp_path, old, f"CREATE TYPE addr AS (city text, street text); {ADDRESS};")
    with pytest.raises(FaultyInput) as refused:
        live.plan()
    assert [f.message for f in refused.value.faults] == [
        "public.a.v: public.addr has the attributes (street, city), the target's (city, street)",
        "public.a.w: public.addr[] has the attributes (street, city), the target's (city, street)",
    ]
    transform = "CASE WHEN v IS NOT NULL THEN ROW((v).city, (v).street) END"
    live.choices.mapping.write_text(  # type: ignore[union-attr]
        f'a: {{v: {{source_column: v, transform: "{transform}"}}, w: {{source_column: w, transform: "NULL::text"}}}}'
    )
    live.through()
    assert live.target.value("SELECT (v).city FROM a WHERE id = 1") == "c"
    assert live.target.value("SELECT v IS NULL FROM a WHERE id = 2")
