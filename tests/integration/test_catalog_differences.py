"""The description of a database: every change of a schema changes it, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.catalog_differences.compare import differences
from confiture.catalog_differences.describe import describe
from confiture.catalog_differences.model import COMMENT, GRANTS, OWNER, Description, Found
from confiture.config import resolve
from confiture.postgres.session import Session
from every_object import EVERY_OBJECT, ROLE, STATED
from servers import Databases, TestDatabase


def described(database: TestDatabase) -> Description:
    with Session(resolve(database.conninfo, Path.cwd()), "test") as session, session.transaction() as tx:
        return describe(tx)


def changed(database: TestDatabase, statement: str) -> list[tuple[str, str, list[str]]]:
    """The differences that a statement makes: status, object, and the names of the properties that differ."""
    before = described(database)
    database.sql(statement)
    return [
        (d.status, f"{d.kind} {d.name}", [p.name for p in d.properties] if d.status is Found.DIFFERENT else [])
        for d in differences(before, described(database))
    ]


def test_two_databases_of_the_same_ddl_have_equal_descriptions(databases: Databases) -> None:
    one, other = databases.make(), databases.make(options="ENCODING 'LATIN1' LOCALE 'C'")
    one.sql(EVERY_OBJECT + STATED)
    other.sql("CREATE TABLE first (a int); DROP TABLE first;" + EVERY_OBJECT + STATED)
    assert described(one) == described(other)
    assert differences(described(one), described(other)) == ()
    assert list(described(one)) == sorted(described(one))


def test_two_databases_of_an_older_server_have_equal_descriptions(old_databases: Databases) -> None:
    one, other = old_databases.make(), old_databases.make()
    one.sql(EVERY_OBJECT + STATED)
    other.sql(EVERY_OBJECT + STATED)
    assert described(one) == described(other)
    assert len(described(one)) > 80


def test_a_description_has_an_object_of_every_kind(databases: Databases) -> None:
    database = databases.cloned(EVERY_OBJECT + STATED)
    assert {o.kind for o in described(database)} == {
        "aggregate", "cast", "collation", "column", "constraint", "conversion", "default privileges", "domain",
        "event trigger", "extension", "foreign server", "foreign table", "foreign-data wrapper", "function", "index",
        "materialized view", "operator", "operator class", "operator family", "policy", "procedure", "publication",
        "rule", "schema", "sequence", "statistics", "table", "text search configuration", "text search dictionary",
        "trigger", "type", "user mapping", "view",
    }  # fmt: skip


def test_members_of_extensions_and_secrets_are_left_out(databases: Databases) -> None:
    found = described(databases.cloned(EVERY_OBJECT + STATED))
    assert [o.name for o in found if o.kind == "extension"] == ["pg_trgm", "plpgsql"]
    assert [o.name for o in found if "similarity" in o.name or "trgm" in o.name] == ["pg_trgm"]
    assert "hunter2" not in repr(found)


#: A statement, and the one difference that it makes: status, object, and the property.
CHANGES = (
    ("CREATE SCHEMA other", "extra", "schema other", ""),
    ("DROP TABLE fast", "missing", "table public.fast", ""),
    ("CREATE TABLE more (a int PRIMARY KEY)", "extra", "table public.more", ""),
    ("ALTER TABLE fast SET LOGGED", "different", "table public.fast", "persistence"),
    ("ALTER TABLE person SET (fillfactor = 80)", "different", "table public.person", "parameters"),
    ("ALTER TABLE person SET (toast.autovacuum_enabled = off)", "different", "table public.person", "parameters"),
    ("ALTER TABLE person FORCE ROW LEVEL SECURITY", "different", "table public.person", "row security"),
    ("ALTER TABLE child REPLICA IDENTITY FULL", "different", "table public.child", "replica identity"),
    ("ALTER TABLE heir NO INHERIT child", "different", "table public.heir", "inherits"),
    ("ALTER TABLE heir ADD extra int", "extra", "column public.heir.extra", "column order"),
    ("ALTER TABLE person DROP mood, ADD mood app.mood", "different", "table public.person", "column order"),
    ("ALTER TABLE child ADD extra int", "extra", "column public.child.extra", "column order"),
    ("ALTER TABLE measured ADD extra int", "extra", "column public.measured.extra", "column order"),
    ("ALTER TABLE person ALTER note TYPE varchar(9)", "different", "column public.person.note", "type"),
    ('ALTER TABLE person ALTER note TYPE text COLLATE "C"', "different", "column public.person.note", "collation"),
    ("ALTER TABLE person ALTER name DROP NOT NULL", "different", "column public.person.name", "not null"),
    ("ALTER TABLE person ALTER name SET DEFAULT 'y'", "different", "column public.person.name", "default"),
    ("ALTER TABLE person ALTER name SET STORAGE EXTENDED", "different", "column public.person.name", "storage"),
    ("ALTER TABLE person ALTER name SET COMPRESSION pglz", "different", "column public.person.name", "compression"),
    ("ALTER TABLE person ALTER name SET STATISTICS -1", "different", "column public.person.name", "statistics"),
    ("ALTER TABLE person ALTER name SET (n_distinct = 3)", "different", "column public.person.name", "parameters"),
    ("ALTER TABLE person ALTER id SET GENERATED ALWAYS", "different", "column public.person.id", "identity"),
    ("ALTER TABLE person ALTER id SET CACHE 7", "different", "column public.person.id", "identity"),
    ("ALTER TABLE person ALTER twice DROP EXPRESSION", "different", "column public.person.twice", "generated"),
    ("ALTER TABLE person DROP CONSTRAINT sound", "missing", "constraint public.person.sound", ""),
    ("ALTER TABLE person VALIDATE CONSTRAINT sound", "different", "constraint public.person.sound", "definition"),
    ("ALTER TABLE child ALTER CONSTRAINT child_person_fkey INITIALLY IMMEDIATE", "different",
     "constraint public.child.child_person_fkey", "definition"),
    ("ALTER TABLE person CLUSTER ON person_pkey", "different", "constraint public.person.person_pkey", "index"),
    ("DROP INDEX person_lower", "missing", "index public.person_lower", ""),
    ("ALTER INDEX person_lower RENAME TO renamed", "missing", "index public.person_lower", "extra"),
    ("ALTER INDEX person_lower ALTER 1 SET STATISTICS 9", "different", "index public.person_lower", "statistics"),
    ("ALTER TABLE person CLUSTER ON person_during", "different", "index public.person_during", "clustered"),
    ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'person_lower'::regclass", "different",
     "index public.person_lower", "state"),
    ("ALTER TABLE person ENABLE TRIGGER person_row", "different", "trigger public.person.person_row", "state"),
    ("ALTER TABLE measured_2020 DISABLE TRIGGER of_all", "extra", "trigger public.measured_2020.of_all", ""),
    ("DROP TRIGGER late ON child", "missing", "trigger public.child.late", ""),
    ("ALTER TABLE child DISABLE RULE keep", "different", "rule public.child.keep", "state"),
    ("ALTER POLICY reading ON person USING (twice > 1)", "different", "policy public.person.reading", "using"),
    ("ALTER POLICY reading ON person TO PUBLIC", "different", "policy public.person.reading", "roles"),
    ("ALTER VIEW happy SET (security_barrier = false)", "different", "view public.happy", "parameters"),
    ("CREATE OR REPLACE VIEW happy WITH (security_barrier) AS SELECT id, name FROM person WITH LOCAL CHECK OPTION",
     "different", "view public.happy", "definition"),
    ("ALTER VIEW happy ALTER name SET DEFAULT 'q'", "different", "column public.happy.name", "default"),
    ("DROP MATERIALIZED VIEW one", "missing", "materialized view public.one", ""),
    ("ALTER SEQUENCE fives INCREMENT 6", "different", "sequence public.fives", "increment"),
    ("ALTER SEQUENCE fives OWNED BY child.person", "different", "sequence public.fives", "owned by"),
    ("ALTER SEQUENCE fives AS int", "different", "sequence public.fives", "type"),
    ("ALTER TYPE app.mood ADD VALUE 'calm' BEFORE 'ok'", "different", "type app.mood", "values"),
    ("ALTER TYPE app.mood RENAME VALUE 'ok' TO 'fine'", "different", "type app.mood", "values"),
    ("ALTER DOMAIN app.positive DROP NOT NULL", "different", "domain app.positive", "not null"),
    ("ALTER DOMAIN app.positive ADD CHECK (VALUE < 9)", "different", "domain app.positive", "constraints"),
    ("ALTER DOMAIN app.positive SET DEFAULT 2", "different", "domain app.positive", "default"),
    ("ALTER FUNCTION f(int, text) SECURITY INVOKER", "different", "function public.f(integer, text)", "security"),
    ("ALTER FUNCTION f(int, text) RESET ALL", "different", "function public.f(integer, text)", "settings"),
    ("ALTER FUNCTION f(int, text) STABLE", "different", "function public.f(integer, text)", "volatility"),
    ("ALTER FUNCTION f(int, text) PARALLEL SAFE", "different", "function public.f(integer, text)", "parallel"),
    ("ALTER FUNCTION f(int, text) COST 7", "different", "function public.f(integer, text)", "cost"),
    ("CREATE OR REPLACE FUNCTION f(a text) RETURNS int LANGUAGE sql AS 'SELECT 3'", "different",
     "function public.f(text)", "body"),
    ("CREATE OR REPLACE FUNCTION f(a text DEFAULT 'u') RETURNS int LANGUAGE sql AS 'SELECT 2'", "different",
     "function public.f(text)", "arguments"),
    ("CREATE FUNCTION f(a date) RETURNS int LANGUAGE sql AS 'SELECT 4'", "extra", "function public.f(date)", ""),
    ("DROP PROCEDURE p", "missing", "procedure public.p(integer)", ""),
    ("CREATE OR REPLACE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '5')", "different",
     "aggregate public.total(integer)", "transition"),
    ("ALTER EVENT TRIGGER watch DISABLE", "different", "event trigger watch", "state"),
    ("DROP EXTENSION pg_trgm", "missing", "extension pg_trgm", ""),
    ("ALTER EXTENSION pg_trgm SET SCHEMA app", "different", "extension pg_trgm", "schema"),
    ("ALTER STATISTICS of_person SET STATISTICS 5", "different", "statistics public.of_person", "target"),
    ("ALTER PUBLICATION changes SET TABLE person (id) WHERE (id > 1)", "different",
     "publication changes", "tables"),
    ("ALTER PUBLICATION whole SET TABLES IN SCHEMA public", "different", "publication whole", "schemas"),
    ("ALTER SERVER far OPTIONS (SET host 'y')", "different", "foreign server far", "options"),
    ("DROP USER MAPPING FOR catalog_reader SERVER far", "missing", "user mapping catalog_reader SERVER far", ""),
    ("ALTER FOREIGN TABLE far_away OPTIONS (SET name 'v')", "different", "foreign table public.far_away", "options"),
    ("ALTER TEXT SEARCH CONFIGURATION app.search DROP MAPPING FOR word", "different",
     "text search configuration app.search", "mappings"),
    ("DROP CAST (app.mood AS int)", "missing", "cast (app.mood AS integer)", ""),
    ("ALTER OPERATOR === (int, int) SET (RESTRICT = eqsel)", "different", "operator public.===(integer,integer)",
     "restrict"),
    ("ALTER TABLE child OWNER TO catalog_reader", "different", "table public.child", OWNER),
    ("GRANT SELECT ON person TO catalog_reader", "different", "table public.person", GRANTS),
    ("REVOKE UPDATE (name) ON person FROM catalog_reader", "different", "column public.person.name", GRANTS),
    ("REVOKE GRANT OPTION FOR INSERT ON child FROM catalog_reader", "different", "table public.child", GRANTS),
    ("GRANT EXECUTE ON FUNCTION f(text) TO PUBLIC", "different", "function public.f(text)", GRANTS),
    ("GRANT CREATE ON SCHEMA app TO PUBLIC", "different", "schema app", GRANTS),
    ("ALTER DEFAULT PRIVILEGES IN SCHEMA app REVOKE SELECT ON TABLES FROM catalog_reader", "missing",
     "default privileges of postgres in schema app on tables", ""),
    ("COMMENT ON COLUMN person.name IS 'otherwise'", "different", "column public.person.name", COMMENT),
    ("COMMENT ON FUNCTION g(int) IS NULL", "different", "function public.g(integer)", COMMENT),
)  # fmt: skip


@pytest.mark.parametrize(("statement", "status", "name", "property"), CHANGES, ids=[c[0][:60] for c in CHANGES])
def test_a_change_of_the_schema_is_a_difference_of_its_object(
    databases: Databases, statement: str, status: str, name: str, property: str
) -> None:
    found = changed(databases.cloned(EVERY_OBJECT + STATED), statement)
    (this,) = [d for d in found if d[1] == name]
    assert this[0] == status
    others = [d for d in found if d != this]
    if status == "different":
        assert property in this[2]
        assert others == []
    else:
        # The table of a column lists its columns, and a renamed object is another one.
        assert [d[2] or d[0] for d in others] == (
            [[property] if property == "column order" else property] * bool(property)
        )


def test_each_case_is_one_that_an_older_server_finds_too(old_databases: Databases) -> None:
    for statement, _, name, _ in CHANGES:
        database = old_databases.cloned(EVERY_OBJECT + STATED)
        if "ALTER OPERATOR" not in statement and "CREATE OR REPLACE AGGREGATE" not in statement:
            assert name in [d[1] for d in changed(database, statement)], statement
            old_databases.drop_all()


def test_a_detached_partition_is_a_table_with_its_own_index(databases: Databases) -> None:
    database = databases.cloned(EVERY_OBJECT + STATED)
    assert changed(database, "ALTER TABLE measured DETACH PARTITION measured_2020") == [
        ("different", "table public.measured_2020", ["bound", "partition of"]),
        ("extra", "index public.measured_2020_k_idx", []),
    ]


def test_rows_and_values_of_sequences_are_no_difference(databases: Databases) -> None:
    database = databases.cloned(EVERY_OBJECT + STATED)
    assert changed(database, "INSERT INTO fast VALUES (1); SELECT nextval('fives'); ANALYZE; SELECT lo_create(0)") == []


def test_a_privilege_that_every_role_has_anyway_is_no_difference(databases: Databases) -> None:
    database = databases.cloned(EVERY_OBJECT + STATED)
    assert changed(database, "GRANT EXECUTE ON FUNCTION g(int) TO PUBLIC; GRANT ALL ON fast TO catalog_reader") == []


def test_objects_of_confiture_are_no_difference(databases: Databases) -> None:
    database = databases.cloned(EVERY_OBJECT + STATED)
    ours = """
    CREATE SCHEMA confiture CREATE TABLE run (id int);
    CREATE SCHEMA confiture_0123abcd CREATE VIEW v AS SELECT 1 AS x;
    CREATE FUNCTION confiture_0123abcd.log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
    CREATE TRIGGER confiture_0123abcd AFTER INSERT ON person FOR EACH ROW EXECUTE FUNCTION confiture_0123abcd.log();
    """
    assert changed(database, ours) == []
    theirs = "CREATE SCHEMA confiture_app; CREATE TABLE confiture_app.run (id int)"
    assert [d[1] for d in changed(database, theirs)] == ["schema confiture_app", "table confiture_app.run"]


def test_names_that_differ_in_case_or_quotes_are_different(databases: Databases) -> None:
    database = databases.make()
    database.sql(ROLE + 'CREATE TABLE "A.b" ("C""d" int); CREATE SCHEMA "A"; CREATE TABLE "A".b (c int)')
    tables = [o.name for o in described(database) if o.kind == "table"]
    assert tables == ['"A".b', 'public."A.b"']
    assert 'public."A.b"."C""d"' in [o.name for o in described(database) if o.kind == "column"]
