"""The context of a statement: earlier statements, comments, transactions, the catalog and the size of the table."""

from __future__ import annotations

import pytest

from confiture.lint import check, script
from confiture.lint.facts import Check, Column, Dependent, Domain, Facts, Index, Table
from confiture.lint.model import Finding, Level, Size
from confiture.lint.nodes import parsed_type
from confiture.lint.type_changes import rewrites
from confiture.lint.weights import LARGE_TABLE_BYTES, SMALL_TABLE_BYTES
from confiture.types import TableRef

USERS = TableRef("public", "users")


def found(*texts: str, facts: Facts | None = None, name: str = "1_a.up.sql") -> list[Finding]:
    """The findings of the last of several files."""
    scripts = [script.read(f"{number}_before.up.sql", text) for number, text in enumerate(texts[:-1])]
    last = script.read(name, texts[-1])
    return [f for f in check.findings([*scripts, last], facts) if f.file == name]


def rules(*texts: str, facts: Facts | None = None) -> list[str]:
    return [finding.rule for finding in found(*texts, facts=facts)]


def table(size_bytes: int = 2**30, **more: object) -> Facts:
    """A database with one table."""
    columns = {"name": Column("character varying(50)"), "email": Column("text"), "id": Column("bigint", True)}
    users = Table(USERS, size=Size(size_bytes, 1000), columns=columns, **more)  # type: ignore[arg-type]
    return Facts(180_000, tables={USERS: users}, indexes={TableRef("public", "users_name"): Index(USERS, ("name",))})


# Positions -----------------------------------------------------------------------------------------


def test_a_finding_has_the_place_of_the_part_of_the_statement() -> None:
    (finding,) = found("SELECT 'é';\n\nALTER TABLE users\n  ADD COLUMN a int,\n  ADD COLUMN é bigserial;")
    assert (finding.rule, finding.line, finding.column) == ("add-column-serial", 5, 14)


def test_a_syntax_error_is_a_finding_and_the_next_statement_is_judged() -> None:
    first, second = found("ALTER TABLE users ADD COLUM a int b;\nCREATE INDEX i ON users (name);")
    assert (first.rule, first.line, first.column) == ("syntax-error", 1, 31)
    assert second.rule == "create-index-without-concurrently"


def test_text_that_cannot_be_split_is_a_finding() -> None:
    assert rules("\\set a 1\nSELECT 1;") == ["syntax-error"]


def test_quoted_names_stay_quoted_in_the_sequence() -> None:
    (finding,) = found('ALTER TABLE "My Schema"."User" ALTER COLUMN "E-mail" SET NOT NULL;')
    assert finding.instead is not None
    assert 'ALTER TABLE "My Schema"."User" VALIDATE CONSTRAINT "User_E-mail_not_null";' in finding.instead
    assert finding.table == '"My Schema"."User"'


# Comments ------------------------------------------------------------------------------------------


def test_a_comment_above_a_statement_allows_a_rule() -> None:
    assert rules("-- confiture: allow create-index-without-concurrently\n-- small\nCREATE INDEX i ON t (a);") == []


def test_a_comment_allows_nothing_for_the_statement_after_the_next() -> None:
    text = "-- confiture: allow create-index-without-concurrently\nCREATE INDEX i ON t (a);\nCREATE INDEX j ON t (b);"
    assert rules(text) == ["create-index-without-concurrently"]


def test_an_unknown_rule_is_reported_with_the_closest_name() -> None:
    first, second = found("-- confiture: allow create-index-without-concurently\nCREATE INDEX i ON t (a);")
    assert (first.rule, first.line) == ("unknown-rule", 1)
    assert "did you mean create-index-without-concurrently?" in first.reason
    assert second.level is Level.error


def test_a_comment_that_allows_nothing_is_reported() -> None:
    assert rules("-- confiture: allow lock-table\nSELECT 1;") == ["unused-allow"]


def test_a_misspelt_directive_is_reported() -> None:
    assert rules("-- confiture: no-transactions\nSELECT 1;") == ["unknown-directive"]
    assert rules("SELECT 1;\n-- confiture: no-transaction\nSELECT 2;") == ["unknown-directive"]


def test_other_faults_for_which_migrate_up_refuses_a_file_are_findings() -> None:
    assert rules("-- confiture: no-transaction\nCREATE INDEX CONCURRENTLY ON t (a);") == ["refused-by-up"]
    assert rules("-- nothing\n") == ["refused-by-up"]
    assert check.findings([script.read("other.sql", "-- nothing\n", by_confiture=False)]) == []


# Transactions --------------------------------------------------------------------------------------


def test_a_file_of_another_tool_needs_a_lock_timeout() -> None:
    statement = "ALTER TABLE users ADD COLUMN a int;"
    other = script.read("patch.sql", statement, by_confiture=False)
    assert [f.rule for f in check.findings([other])] == ["lock-timeout-missing"]
    careful = script.read("patch.sql", f"SET lock_timeout = '2s';\n{statement}", by_confiture=False)
    assert check.findings([careful]) == []


def test_a_file_of_another_tool_may_control_its_transactions() -> None:
    text = "SET lock_timeout = '2s'; BEGIN; ALTER TABLE a ADD b int; COMMIT; BEGIN; ALTER TABLE c ADD d int; COMMIT;"
    assert check.findings([script.read("patch.sql", text, by_confiture=False)]) == []


def test_a_transaction_in_a_file_without_one_holds_its_locks() -> None:
    text = "-- confiture: no-transaction\nBEGIN; ALTER TABLE a ADD b int; ALTER TABLE c ADD d int; COMMIT;"
    assert "several-tables-in-transaction" in rules(text)


# Context -------------------------------------------------------------------------------------------


def test_a_table_of_an_earlier_file_is_in_use() -> None:
    created = "CREATE TABLE users (id bigint, name varchar(50));"
    assert rules(created, "CREATE INDEX i ON users (name);") == ["create-index-without-concurrently"]


def test_the_type_of_a_column_is_known_from_an_earlier_file() -> None:
    created = "CREATE TABLE users (id bigint, name varchar(50));"
    assert rules(created, "ALTER TABLE users ALTER name TYPE varchar(60);") == []
    narrower = "ALTER TABLE users ALTER name TYPE varchar(40);"
    assert rules(created, "ALTER TABLE users ALTER name TYPE varchar(30);", narrower) == []
    assert rules(created, narrower) == ["alter-column-type"]


def test_the_type_of_an_unknown_column_may_be_harmless() -> None:
    (text,) = found("ALTER TABLE users ALTER name TYPE text;")
    (number,) = found("ALTER TABLE users ALTER age TYPE bigint;")
    assert (text.level, number.level) == (Level.warning, Level.error)


def test_a_column_that_an_earlier_file_has_validated_may_become_not_null() -> None:
    added = "ALTER TABLE users ADD CONSTRAINT known CHECK (name IS NOT NULL AND email IS NOT NULL) NOT VALID;"
    validated = "ALTER TABLE users VALIDATE CONSTRAINT known;"
    required = "ALTER TABLE users ALTER COLUMN name SET NOT NULL;"
    assert rules(added, validated, required) == []
    assert rules(added, required) == ["set-not-null"]
    assert rules(added, validated, "ALTER TABLE users DROP CONSTRAINT known;", required) == ["set-not-null"]


def test_a_check_of_one_of_two_conditions_proves_nothing() -> None:
    added = "ALTER TABLE users ADD CONSTRAINT known CHECK (name IS NOT NULL OR email IS NOT NULL) NOT VALID;"
    validated = "ALTER TABLE users VALIDATE CONSTRAINT known;"
    assert rules(added, validated, "ALTER TABLE users ALTER COLUMN name SET NOT NULL;") == ["set-not-null"]


def test_the_file_that_reverts_another_may_drop_its_objects() -> None:
    up = script.read(
        "1_a.up.sql", "CREATE TABLE a (id int); ALTER TABLE b ADD COLUMN c int; CREATE VIEW v AS SELECT 1;"
    )
    down = "DROP VIEW v; ALTER TABLE b DROP COLUMN c; DROP TABLE a;"
    reverts = script.read("1_a.down.sql", down, undoes=up)
    assert {f.rule for f in check.findings([up, reverts])} <= {"several-tables-in-transaction"}
    other = script.read("2_b.down.sql", down)
    assert {"drop-table", "drop-column", "drop-object"} <= {f.rule for f in check.findings([up, other])}


def test_names_are_looked_up_in_the_schema_of_the_search_path() -> None:
    text = "SET search_path TO shop; CREATE TABLE orders (id int); CREATE INDEX i ON shop.orders (id);"
    assert rules(text) == []


@pytest.mark.parametrize(
    ("old", "new", "rewritten"),
    [
        ("varchar(10)", "varchar(10)", False),
        ("varchar", "varchar(10)", True),
        ("text", "bytea", True),
        ("numeric", "numeric(10,2)", True),
        ("numeric(5)", "numeric(9)", False),
        ("integer", "oid", False),
        ("timestamp(0)", "timestamp(3)", False),
        ("text[]", "text[]", False),
        ("xml", "text", False),
        ("bit(4)", "bit(8)", True),
    ],
)
def test_some_changes_of_a_type_rewrite_the_table(old: str, new: str, rewritten: bool) -> None:
    assert rewrites(parsed_type(old), parsed_type(new)) is rewritten


# A database ----------------------------------------------------------------------------------------


def test_the_size_of_the_table_weighs_a_finding() -> None:
    statement = "ALTER TABLE users ALTER COLUMN email SET NOT NULL;"
    (small,) = found(statement, facts=table(SMALL_TABLE_BYTES))
    (large,) = found(statement, facts=table(SMALL_TABLE_BYTES + 1))
    assert (small.level, large.level) == (Level.note, Level.error)
    assert small.size == Size(SMALL_TABLE_BYTES, 1000)
    assert small.weighed is not None
    assert "16.0 MiB" in small.weighed


def test_a_rewrite_of_a_large_table_refers_to_a_move() -> None:
    (finding,) = found("ALTER TABLE users ALTER COLUMN email TYPE int USING 1;", facts=table(LARGE_TABLE_BYTES))
    assert finding.weighed is not None
    assert "schema-to-schema" in finding.weighed
    (scan,) = found("ALTER TABLE users ALTER COLUMN email SET NOT NULL;", facts=table(LARGE_TABLE_BYTES))
    assert scan.weighed is not None
    assert "schema-to-schema" not in scan.weighed


def test_a_small_size_does_not_excuse_a_statement_that_fails() -> None:
    (finding,) = found("CREATE INDEX CONCURRENTLY i ON users (email);", facts=table(0))
    assert (finding.rule, finding.level) == ("concurrently-in-transaction", Level.error)


def test_a_table_that_the_database_lacks_has_no_known_size() -> None:
    (finding,) = found("CREATE INDEX i ON orders (id);", facts=table())
    assert finding.level is Level.error
    assert finding.weighed == "the database has no table public.orders: its size is not known"


def test_a_table_that_a_pending_file_creates_is_not_in_use() -> None:
    assert rules("CREATE TABLE orders (id int);", "CREATE INDEX i ON orders (id);", facts=table()) == []


def test_the_catalog_supplies_types_and_constraints() -> None:
    proven = table(checks=(Check("known", "(email IS NOT NULL)", True),))
    assert rules("ALTER TABLE users ALTER COLUMN email SET NOT NULL;", facts=proven) == []
    assumed = table(checks=(Check("known", "(email IS NOT NULL)", False),))
    assert rules("ALTER TABLE users ALTER COLUMN email SET NOT NULL;", facts=assumed) == ["set-not-null"]
    assert rules("ALTER TABLE users ALTER COLUMN name TYPE text;", facts=table()) == []


def test_a_primary_key_on_an_index_of_the_catalog_is_judged_by_its_columns() -> None:
    statement = "ALTER TABLE users ADD PRIMARY KEY USING INDEX users_name;"
    assert rules(statement, facts=table()) == ["primary-key-nullable"]


def test_objects_that_use_a_column_are_named() -> None:
    used = table(dependents=(Dependent("view", "v", "email"), Dependent("function", "f()", None)))
    (finding,) = found("ALTER TABLE users ALTER COLUMN email TYPE varchar;", facts=used)
    assert finding.rule == "column-in-use"
    assert "view v" in finding.reason
    (dropped,) = found("ALTER TABLE users DROP COLUMN email CASCADE;", facts=used)
    assert "CASCADE drops it too" in dropped.reason


def test_the_server_s_version_chooses_the_sequence() -> None:
    (finding,) = found("ALTER TABLE users ALTER COLUMN email SET NOT NULL;", facts=table())
    assert finding.instead is not None
    assert "ADD CONSTRAINT users_email_not_null NOT NULL email NOT VALID" in finding.instead


def test_the_volatility_of_a_function_is_that_of_the_catalog() -> None:
    statement = "ALTER TABLE users ADD COLUMN a int DEFAULT app_number();"
    assert rules(statement) == ["add-column-volatile-default"]
    assert rules(statement, facts=Facts(180_000, functions={"app_number": False})) == []


def test_the_constraint_of_a_domain_is_that_of_the_catalog() -> None:
    facts = Facts(180_000, domains={"mail": Domain("text", True), "label": Domain("text", False)})
    assert rules("ALTER TABLE users ADD COLUMN a mail;", facts=facts) == ["add-column-constrained-domain"]
    assert rules("ALTER TABLE users ADD COLUMN a label;", facts=facts) == []


# Sequences -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET age = age + 1;",
        "UPDATE users SET age = users.age + 1;",
        "UPDATE users SET token = gen_random_uuid();",
        "UPDATE users SET token = app_token() WHERE token IS NULL;",
        "UPDATE users SET age = DEFAULT;",
    ],
)
def test_no_batches_are_recommended_that_would_repeat_a_change(statement: str) -> None:
    (finding,) = [
        f for f in found(f"ALTER TABLE users ADD COLUMN token uuid; {statement}") if f.rule.startswith("update")
    ]
    assert finding.instead is None


def test_batches_change_a_row_once() -> None:
    first = "ALTER TABLE users ADD COLUMN token uuid, ADD COLUMN total int;"
    (random,) = [
        f for f in found(f"{first} UPDATE users SET token = gen_random_uuid() WHERE token IS NULL;") if f.instead
    ]
    assert random.instead is not None
    assert "AND (token IS NULL);" in random.instead
    (copied,) = [f for f in found(f"{first} UPDATE users SET total = amount WHERE total IS NULL;") if f.instead]
    assert copied.instead is not None
    assert "AND ((total IS NULL) AND (total IS DISTINCT FROM (amount)));" in copied.instead
