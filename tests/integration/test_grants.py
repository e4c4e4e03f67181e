"""``grants --from-source``: the statements after which the target's objects have what the source's have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from confiture import commands
from live import LiveRun
from servers import Databases, TestDatabase

OLD = """
CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN cents AS int CONSTRAINT positive CHECK (VALUE >= 0);
CREATE TABLE tb_user (id serial PRIMARY KEY, login text, secret text, "Odd ""one" int, m mood);
CREATE TABLE "Order" (id int PRIMARY KEY, total cents, user_id int CONSTRAINT of_user REFERENCES tb_user);
CREATE TABLE same (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE VIEW "all" AS SELECT id FROM same; CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n FROM same;
CREATE INDEX by_login ON tb_user (login); CREATE SEQUENCE free; CREATE SCHEMA api; CREATE SCHEMA "Out";
CREATE FUNCTION api.f(a int, b text DEFAULT 'x', VARIADIC c int[] DEFAULT '{}') RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE api.p(INOUT a int) LANGUAGE sql AS 'SELECT a';
CREATE AGGREGATE api.total(int) (SFUNC = int4pl, STYPE = int);
CREATE AGGREGATE api.every(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER "On it" BEFORE UPDATE ON same FOR EACH ROW EXECUTE FUNCTION touch();
CREATE POLICY mine ON same USING (true); CREATE RULE r AS ON DELETE TO "all" DO INSTEAD NOTHING;
CREATE STATISTICS st ON id, login FROM tb_user; CREATE TYPE pair AS (a int, b int);
CREATE COLLATION api.c FROM "C"; CREATE TEXT SEARCH CONFIGURATION api.english (COPY = pg_catalog.english);
CREATE OPERATOR api.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
"""
NEW = (
    OLD.replace("tb_user (id serial PRIMARY KEY, login", "people (id serial PRIMARY KEY, username")
    .replace("tb_user (login)", "people (username)")
    .replace("id, login FROM tb_user", "id, username FROM people")
    .replace("tb_user", "people")
)
MAPPING = "people: {$from: tb_user, login: username}\n"
#: Statements of an administrator on the source. {a} and {b} are roles of its server only, {both} of both servers.
DONE = """
ALTER TABLE tb_user OWNER TO {a}; ALTER VIEW "all" OWNER TO {both}; ALTER SEQUENCE free OWNER TO {a};
ALTER SCHEMA api OWNER TO {a}; ALTER FUNCTION api.f OWNER TO {a}; ALTER AGGREGATE api.total(int) OWNER TO {a};
ALTER TYPE mood OWNER TO {a}; ALTER OPERATOR api.<+> (int, int) OWNER TO {a}; ALTER STATISTICS st OWNER TO {both};
GRANT SELECT, INSERT ON tb_user TO {both}; GRANT UPDATE ON tb_user TO {b} WITH GRANT OPTION;
GRANT SELECT (login, "Odd ""one"), UPDATE (secret) ON tb_user TO {b}; REVOKE DELETE ON tb_user FROM {a};
GRANT SELECT ON "Order", "all", sums TO PUBLIC; GRANT USAGE ON SEQUENCE tb_user_id_seq, free TO {both};
GRANT USAGE ON SCHEMA api TO {both}; GRANT CREATE ON SCHEMA "Out" TO {b};
REVOKE EXECUTE ON FUNCTION api.f FROM PUBLIC; GRANT EXECUTE ON FUNCTION api.f TO {both};
REVOKE ALL ON PROCEDURE api.p FROM PUBLIC; GRANT EXECUTE ON FUNCTION api.every() TO {b};
REVOKE USAGE ON TYPE mood FROM PUBLIC; GRANT USAGE ON DOMAIN cents TO {b}; GRANT USAGE ON LANGUAGE plpgsql TO {b};
GRANT USAGE ON FOREIGN DATA WRAPPER w TO {b}; GRANT USAGE ON FOREIGN SERVER s TO {b};
GRANT CREATE ON DATABASE {database} TO {b}; REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO {b}; GRANT SELECT ON pg_authid TO {b};
ALTER DEFAULT PRIVILEGES FOR ROLE {a} GRANT SELECT ON TABLES TO {both};
ALTER DEFAULT PRIVILEGES FOR ROLE {a} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE {both} IN SCHEMA api GRANT USAGE ON SEQUENCES TO {b} WITH GRANT OPTION;
COMMENT ON TABLE tb_user IS E'the users\\nof ''old'' \\\\ $$';
COMMENT ON COLUMN tb_user.login IS 'name; DROP TABLE x; --';
COMMENT ON COLUMN tb_user.m IS 'mood'; COMMENT ON INDEX by_login IS 'i';
COMMENT ON CONSTRAINT of_user ON "Order" IS 'fk';
COMMENT ON CONSTRAINT positive ON DOMAIN cents IS 'not below 0'; COMMENT ON TRIGGER "On it" ON same IS 't';
COMMENT ON POLICY mine ON same IS 'p'; COMMENT ON RULE r ON "all" IS 'r'; COMMENT ON TYPE pair IS 'two';
COMMENT ON COLUMN pair.a IS 'first'; COMMENT ON FUNCTION api.f IS 'f'; COMMENT ON AGGREGATE api.every(*) IS 'e';
COMMENT ON SCHEMA "Out" IS 's'; COMMENT ON DATABASE {database} IS 'db'; COMMENT ON STATISTICS st IS 'st';
COMMENT ON COLLATION api.c IS 'c'; COMMENT ON OPERATOR api.<+> (int, int) IS 'op'; COMMENT ON SEQUENCE free IS 'fr';
COMMENT ON TEXT SEARCH CONFIGURATION api.english IS 'e'; COMMENT ON SERVER s IS 'server'; COMMENT ON VIEW "all" IS 'v';
"""
ADMIN = {"a": "{p} A", "b": "{p}b", "both": "{p}-both"}


class Roles:
    """Roles of a test: their quoted names by their names here."""

    def __init__(self, prefix: str) -> None:
        self.names = {name: '"' + form.format(p=prefix) + '"' for name, form in ADMIN.items()}

    def create(self, databases: Databases, *names: str) -> None:
        with psycopg.connect(TestDatabase(databases.server, "postgres").conninfo, autocommit=True) as admin:
            for name in names:
                admin.execute(f"CREATE ROLE {self.names[name]}")

    def drop(self, databases: Databases) -> None:
        databases.drop_all()
        with psycopg.connect(TestDatabase(databases.server, "postgres").conninfo, autocommit=True) as admin:
            for name in self.names.values():
                admin.execute(f"DROP ROLE IF EXISTS {name}")


@pytest.fixture
def dropped() -> Iterator[list[tuple[Roles, Databases]]]:
    made: list[tuple[Roles, Databases]] = []
    yield made
    for roles, databases in made:
        roles.drop(databases)


def created(prefix: str, databases: Databases, dropped: list[tuple[Roles, Databases]]) -> Roles:
    """The roles on one server, dropped afterwards."""
    roles = Roles(prefix)
    dropped.append((roles, databases))
    roles.create(databases, *roles.names)
    return roles


def printed(live: LiveRun) -> str:
    return commands.grants.from_source(live.where)


def done(live: LiveRun, roles: Roles, statements: str = DONE) -> None:
    live.source.sql(statements.format(database=live.source.name, **roles.names))


@pytest.mark.parametrize(("old", "new"), [("18", "18"), ("15", "18"), ("18", "15")])
def test_statements_give_the_target_what_the_source_has(
    old: str,
    new: str,
    databases: Databases,
    old_databases: Databases,
    dropped: list[tuple[Roles, Databases]],
    tmp_path: Path,
) -> None:
    sides = {"18": databases, "15": old_databases}
    live = LiveRun(sides[old], tmp_path, OLD, NEW, MAPPING, apart=sides[new])
    roles = Roles(live.source.name)
    dropped += [(roles, sides[new]), (roles, sides[old])]
    roles.create(sides[old], *roles.names)
    if new != old:
        roles.create(sides[new], "both")
    done(live, roles)
    live.setup(capture=False)
    assert "migrate has not built the indexes" in printed(live)
    live.migrate()
    assert live.verify().equal
    text = printed(live)
    assert ("CREATE ROLE " + roles.names["a"] in text) == (new != old)
    assert "Odd" not in "".join(line for line in text.splitlines() if line.startswith("--"))
    live.target.sql(text)
    assert printed(live) == "-- The target lacks no owner, privilege, comment or security label of the source."
    for privileges, holders in {
        "has_column_privilege({b}, 'people', 'username', 'SELECT')": True,
        "has_column_privilege({b}, 'people', 'secret', 'SELECT')": False,
        "has_table_privilege({b}, 'people', 'UPDATE WITH GRANT OPTION')": True,
        "has_table_privilege({a}, 'people', 'DELETE')": False,
        "has_function_privilege('public', 'api.f(int, text, int[])', 'EXECUTE')": False,
        "has_sequence_privilege({both}, 'people_id_seq', 'USAGE')": True,
        "has_database_privilege({b}, current_database(), 'CREATE')": True,
        "has_function_privilege({b}, 'pg_read_file(text)', 'EXECUTE')": True,
    }.items():
        quoted = {name: "'" + role[1:-1] + "'" for name, role in roles.names.items()}
        assert live.target.value(f"SELECT {privileges.format(**quoted)}") is holders, privileges
    assert live.target.value("SELECT obj_description('people'::regclass)") == "the users\nof 'old' \\ $$"


def test_a_privilege_of_the_new_ddl_stays(
    databases: Databases, dropped: list[tuple[Roles, Databases]], tmp_path: Path
) -> None:
    roles = created("kept", databases, dropped)
    new = f"CREATE TABLE t (id int PRIMARY KEY); GRANT SELECT ON t TO {roles.names['b']}; COMMENT ON TABLE t IS 'new'"
    live = LiveRun(databases, tmp_path, "CREATE TABLE t (id int PRIMARY KEY)", new)
    live.setup(capture=False)
    assert "lacks no owner" in printed(live)


def test_an_object_that_the_target_does_not_have_is_a_comment(
    databases: Databases, dropped: list[tuple[Roles, Databases]], tmp_path: Path
) -> None:
    roles = created("absent", databases, dropped)
    old = """CREATE TABLE t (id int PRIMARY KEY, gone int); CREATE VIEW "a\nb; DROP TABLE t" AS SELECT 1;
        CREATE FUNCTION old_one() RETURNS int LANGUAGE sql AS 'SELECT 1'"""
    live = LiveRun(databases, tmp_path, old, "CREATE TABLE t (id int PRIMARY KEY)", "t: {$omit: [gone]}")
    done(live, roles, "GRANT SELECT ON \"a\nb; DROP TABLE t\" TO {a}; COMMENT ON COLUMN t.gone IS 'x'")
    live.setup(capture=False)
    text = printed(live)
    assert "Not in the target, with privileges or comments in the source: 2 objects" in text
    assert "old_one" not in text
    assert all(line.startswith("--") for line in text.splitlines() if line)


def test_security_labels_and_extensions_are_compared(databases: Databases, tmp_path: Path) -> None:
    function = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    ddl = f"CREATE EXTENSION hstore; CREATE TABLE t (id int PRIMARY KEY, v int); {function}"
    live = LiveRun(databases, tmp_path, ddl, ddl)
    live.source.sql("""
        SET allow_system_table_mods = on;
        INSERT INTO pg_seclabel VALUES ('t'::regclass, 'pg_class'::regclass, 0, 'selinux', 'it''s'),
            ('t'::regclass, 'pg_class'::regclass, 2, 'selinux', 'column'),
            ('f()'::regprocedure, 'pg_proc'::regclass, 0, 'x', 'y');
        COMMENT ON EXTENSION hstore IS 'mine'; REVOKE EXECUTE ON FUNCTION hstore_in(cstring) FROM PUBLIC;
    """)
    live.setup(capture=False)
    lines = printed(live).splitlines()
    assert "SECURITY LABEL FOR selinux ON TABLE public.t IS 'it''s';" in lines
    assert "SECURITY LABEL FOR selinux ON COLUMN public.t.v IS 'column';" in lines
    assert "SECURITY LABEL FOR x ON ROUTINE public.f() IS 'y';" in lines
    assert "REVOKE EXECUTE ON ROUTINE public.hstore_in(pg_catalog.cstring) FROM PUBLIC;" in lines
    assert not any("OWNER" in line or "hstore_out" in line for line in lines)
