"""The grammar of the mapping file: every form is read, and every fault is reported with its position."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from confiture.errors import UsageError
from confiture.mapping import ColumnMapping, Mapping, Name, Position, as_written, load, parse

GUIDE = """\
tb_user:
  username: login_name
  metadata:
    source_column: settings_json
    transform: "settings_json::jsonb"
    reverse: "metadata::text"
  display_name:
    transform: "COALESCE(display_name, name)"
tb_account:
  $from: tb_customer
  $where: "deleted_at IS NULL"
  $key: [id]
  $strategy: copy
  $omit: [legacy_flag]
$omit: [tb_scratch]
$large_objects: leave
"""


def accepted(text: str) -> Mapping:
    mapping, faults = parse(dedent(text), "m.yaml")
    assert faults == ()
    return mapping


def refused(text: str) -> list[str]:
    return [str(fault) for fault in parse(dedent(text), "m.yaml")[1]]


def only_column(text: str) -> ColumnMapping:
    (table,) = accepted(text).tables
    (column,) = table.columns
    return column


def test_the_example_of_the_guide_is_read_completely() -> None:
    mapping = accepted(GUIDE)
    user, account = mapping.tables
    assert [(c.target, c.source, c.transform, c.reverse, c.short) for c in user.columns] == [
        ("login_name", "username", None, None, True),
        ("metadata", "settings_json", "settings_json::jsonb", "metadata::text", False),
        ("display_name", None, "COALESCE(display_name, name)", None, False),
    ]
    assert account.source == Name(None, "tb_customer", Position(10, 10))
    assert (account.where, account.key, account.strategy) == ("deleted_at IS NULL", ("id",), "copy")
    assert account.omit == (("legacy_flag", Position(14, 11)),)
    assert mapping.omit == (Name(None, "tb_scratch", Position(15, 9)),)
    assert mapping.large_objects == "leave"
    assert (mapping.text, mapping.file) == (GUIDE, "m.yaml")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "~", "\ufeff", "{}"])
def test_an_empty_file_is_an_empty_mapping(text: str) -> None:
    assert accepted(text) == Mapping(text=text, file="m.yaml")


@pytest.mark.parametrize(
    ("written", "schema", "name"),
    [
        ("tb_user", None, "tb_user"),
        ("TB_User", None, "tb_user"),
        ("App.TB_User", "app", "tb_user"),
        ("'\"Album\"'", None, "Album"),
        ('"Album"', None, "album"),
        ('\'"My Schema"."a.b""c"\'', "My Schema", 'a.b"c'),
        ("'app.\"$omit\"'", "app", "$omit"),
        ("'\"$omit\"'", None, "$omit"),
        ("Größe", None, "größe"),
        ("ÄTZEND", None, "Ätzend"),
        ("null", None, "null"),
        ("yes", None, "yes"),
    ],
)
def test_names_are_folded_and_quoted_as_in_sql(written: str, schema: str | None, name: str) -> None:
    (table,) = accepted(f"{written}:\n  a: b\n").tables
    assert (table.target.schema, table.target.name) == (schema, name)


@pytest.mark.parametrize(
    "written",
    [
        "a b",
        "1a",
        "a.b.c",
        "'\"open'",
        "'\"\"'",
        "''",
        "a-b",
        "a.",
        "'\"" + "ä" * 32 + "\"'",
        '"\\0"',
        '"\\ud800"',
    ],
)
def test_an_invalid_sql_name_is_refused_with_a_hint(written: str) -> None:
    (fault,) = refused(f"{written}:\n  a: b\n")
    assert fault.startswith("m.yaml:1:1: ")
    assert fault.endswith(")")


def test_a_hint_shows_how_to_write_a_hostile_name() -> None:
    assert refused("t:\n  My col: x\n") == [
        "m.yaml:2:3: 'My col' is not a name (write the double quotes of SQL inside single quotes of YAML: '\"My col\"')"
    ]


def test_a_name_of_63_bytes_is_accepted() -> None:
    name = "ä" * 31 + "x"
    assert only_column(f"t:\n  {name}: b\n").source == name


def test_a_fault_is_one_line_whatever_the_name_contains() -> None:
    (fault,) = refused('"a\\n\\e[2Jb":\n  a: b\n')
    assert fault.isprintable()


def test_a_scalar_transform_is_the_sql_as_written() -> None:
    for written, sql in (
        ("0", "0"),
        ("1.50", "1.50"),
        ("yes", "yes"),
        ("'NULL'", "NULL"),
        ("a + 1", "a + 1"),
    ):
        assert only_column(f"t:\n  c: {{transform: {written}}}\n").transform == sql


@pytest.mark.parametrize("written", ["null", "", "~", "''", "'  '", "[a]", "{a: b}", "!env X", '"\\0"'])
@pytest.mark.parametrize("key", ["c: {transform: %s}", "c: {reverse: %s}", "$where: %s", "$strategy: %s"])
def test_sql_that_is_not_a_string_is_a_fault(key: str, written: str) -> None:
    (fault,) = refused(f"t:\n  a: b\n  {key % written}\n")
    assert fault.startswith("m.yaml:3:")


def test_all_faults_of_a_file_are_reported_together_in_order() -> None:
    faults = refused(
        """\
        tb_user:
          username: login_name
          username: other
          login_name: {source: a, transform: 1}
          b: {}
          c:
          e: [1]
          a.b: f
          $form: x
          $strategy: fwd
          $key: []
          $omit: [a, A]
        TB_User: {a: b}
        ? [x]
        : y
        t2:
        t3: [a]
        t4: {}
        $frm: x
        $large_objects: drop
        """
    )
    places = [fault.split(": ")[0].removeprefix("m.yaml:") for fault in faults]
    assert places == [
        "3:3", "4:3", "4:16", "5:3", "6:3", "7:6", "8:3", "9:3", "10:14",
        "11:9", "12:14", "13:1", "14:3", "16:1", "17:5", "18:1", "19:1", "20:17",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t: {a: b, c: b}", "target column b is given twice"),
        ("t: {a: b, b: {transform: 1}}", "target column b is given twice"),
        ("t: {a: b, A: c}", "A is given twice"),
        ("t: {a: {transform: 1, transform: 2}}", "transform is given twice"),
        ("t: {$key: a, $key: b}", "$key is given twice"),
        ("t: {a: b}\nT: {a: b}", "T is given twice (first in line 1)"),
        ("$omit: a\n$omit: b", "$omit is given twice"),
        ("$omit: [s.a, S.A]", "S.A is given twice in $omit"),
        ("t: {a: b, $key: [a, a]}", "a is given twice in $key"),
        ("t: {a: {source: b}}", "did you mean source_column?"),
        ("t: {a: {Transform: b}}", "did you mean transform?"),
        ("t: {$Key: b}", "did you mean $key?"),
        ("$large_object: leave", "did you mean $large_objects?"),
        ("t: {$strategy: COPY}", "did you mean copy?"),
        ("t: {$from: [a, b]}", "expected a table's name"),
        ("t: {$from: }", "is not a name"),
        ("t: {a: }", "a is empty"),
        ("just words", "expected table: entries"),
        ("[a, b]", "expected table: entries"),
        ("<<: {a: b}", "is not a name"),
        ("t: {a: !x b}", "the YAML tag !x is not allowed here"),
    ],
)
def test_a_fault_states_what_is_wrong(text: str, said: str) -> None:
    (fault,) = refused(text)
    assert said in fault


def test_two_schemas_may_contain_tables_of_the_same_name() -> None:
    tables = accepted("t: {a: b}\ns.t: {a: b}\n").tables
    assert [table.target.schema for table in tables] == [None, "s"]


def test_a_single_name_is_read_as_a_list_of_one() -> None:
    mapping = accepted("t: {$key: id, $omit: x}\n$omit: s.scratch\n")
    assert mapping.tables[0].key == ("id",)
    assert [name for name, _ in mapping.tables[0].omit] == ["x"]
    assert [(name.schema, name.name) for name in mapping.omit] == [("s", "scratch")]


def test_the_rest_of_a_faulty_file_is_still_read() -> None:
    mapping, faults = parse("t: {a: b, c: {}}\nu: {a: b}\n1: {a: b}\n", "m.yaml")
    assert len(faults) == 2
    assert [table.target.name for table in mapping.tables] == ["t", "u"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [", "1:5"),
        ("a: b\n c: d\n", "2:3"),
        ("a: b\n---\nc: d\n", "2:1"),
        ("a:\n  b: \x01\n", "2:6"),
        ("a: *nowhere", "1:4"),
        ('"\\UFFFFFFFF": x', "1:1"),
        ("[" * 5000, "1:1"),
    ],
)
def test_broken_yaml_is_one_fault_with_its_place(text: str, place: str) -> None:
    (fault,) = refused(text)
    assert fault.startswith(f"m.yaml:{place}: not ")


def test_faults_contain_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "column_mapping.yaml"
    path.write_bytes("\ufefft: {a: }\r\n".encode())
    mapping, (fault,) = load(path)
    assert mapping.file == fault.file == str(path)
    assert mapping.text == "t: {a: }\r\n"


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "latin1.yaml").write_bytes(b"gr\xf6sse: x")
    for name in ("missing.yaml", "", "latin1.yaml"):
        with pytest.raises(UsageError) as caught:
            load(tmp_path / name)
        assert caught.value.why


# PostgreSQL accepts any name of 1 to 63 bytes of UTF-8 without NUL.
sql_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda name: len(name.encode()) <= 63
)
sql_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip)


def in_quotes(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def written(document: object) -> str:
    # YAML's double-quoted style preserves every character.
    return str(yaml.safe_dump(document, default_style='"', sort_keys=False, allow_unicode=False))


@given(schema=sql_names, table=sql_names, source=sql_names, target=sql_names)
def test_quoted_names_are_read_exactly(schema: str, table: str, source: str, target: str) -> None:
    text = written(
        {
            f"{in_quotes(schema)}.{in_quotes(table)}": {
                in_quotes(source): in_quotes(target),
                "$from": in_quotes(table),
                "$key": [in_quotes(source)],
                "$omit": [in_quotes(target)],
            },
            "$omit": [f"{in_quotes(schema)}.{in_quotes(table)}"],
        }
    )
    mapping, faults = parse(text, "m.yaml")
    assert faults == ()
    (entry,) = mapping.tables
    (column,) = entry.columns
    assert (entry.target.schema, entry.target.name) == (schema, table)
    assert entry.source is not None
    assert (entry.source.schema, entry.source.name) == (None, table)
    assert (column.source, column.target) == (source, target)
    assert entry.key == (source,)
    assert [name for name, _ in entry.omit] == [target]
    assert [(name.schema, name.name) for name in mapping.omit] == [(schema, table)]


@given(target=sql_names, source=sql_names, transform=sql_texts, reverse=sql_texts)
def test_the_long_form_is_read_exactly(target: str, source: str, transform: str, reverse: str) -> None:
    entry = {"source_column": in_quotes(source), "transform": transform, "reverse": reverse}
    column = only_column(written({"t": {in_quotes(target): entry}}))
    assert (column.target, column.source) == (target, source)
    assert (column.transform, column.reverse) == (transform, reverse)


@given(name=sql_names)
@example(name="\x85")
@example(name="_\n")
def test_a_name_as_a_hint_writes_it_is_read_as_that_name(name: str) -> None:
    assert only_column(f"t:\n  c:\n    source_column: {as_written(name)}\n").source == name


@given(st.text() | st.text("{}[]:,-*&!|>'\"%@`#$? \n\tabt\\0uxU<~."))
def test_no_text_makes_the_parser_raise(text: str) -> None:
    _, faults = parse(text, "m.yaml")
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + text.count("\u2029")
    assert all(1 <= fault.line <= lines + 1 and fault.column >= 1 for fault in faults)


keys = (
    st.sampled_from(["t", "a", "A", "$from", "$key", "$omit", "transform", "$large_objects", "$trust_functions", ""])
    | st.text()
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.binary() | keys,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@given(documents)
def test_no_document_makes_the_parser_raise(document: object) -> None:
    parse(yaml.safe_dump(document), "m.yaml")


def test_trusted_functions_are_read_as_written() -> None:
    mapping, faults = parse("$trust_functions: ['app.slug(text, integer)', '\"App\".\"Code\"()']\n", "m.yaml")
    assert not faults
    assert [f.name for f in mapping.trusted] == ["app.slug(text, integer)", '"App"."Code"()']


@pytest.mark.parametrize("name", ["slug", "app.slug", "slug(text)", "app.slug(", "''", "[a, b]", "app.slug(text) x"])
def test_trusted_function_without_schema_or_types_is_a_fault(name: str) -> None:
    mapping, faults = parse(f"$trust_functions: [{name}]\n", "m.yaml")
    assert faults
    assert mapping.trusted == ()


def test_trusted_function_given_twice_is_a_fault() -> None:
    _, faults = parse("$trust_functions: [a.b(), a.b()]\n", "m.yaml")
    assert "given twice" in faults[0].message
