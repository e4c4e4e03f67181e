"""Extensions: their types in other schemas and versions, and those that the target's server or role cannot create."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import psycopg
import pytest

from confiture.commands.endpoints import Endpoints
from confiture.errors import DataFailure, Refused
from live import LiveRun
from servers import Databases, TestDatabase

EMPTY = "CREATE TABLE a (id int PRIMARY KEY)"
VALUES = {"citext": "Ab", "hstore": "a=>1", "ltree": "a.b", "cube": "(1, 2)", "seg": "1..2"}


def schema_with(extensions: Iterable[str], schema: str) -> str:
    """For each extension, columns of its type, of an array of it and of a domain over it."""
    return f"CREATE SCHEMA IF NOT EXISTS {schema};" + "".join(
        f"""
        CREATE EXTENSION {name} SCHEMA {schema};
        CREATE DOMAIN {schema}.own_{name} AS {schema}.{name};
        CREATE TABLE a_{name} (id int PRIMARY KEY, v {schema}.{name}, w {schema}.{name}[], x {schema}.own_{name});
        CREATE INDEX ON a_{name} (v);
        """
        for name in extensions
    )


@pytest.mark.parametrize(("old", "new", "strategy"), [("tools", "public", "copy"), ("public", "tools", "fdw")])
def test_type_of_an_extension_in_another_schema_is_the_same_type(
    databases: Databases, tmp_path: Path, old: str, new: str, strategy: str
) -> None:
    rows = "".join(
        f"INSERT INTO a_{name} SELECT n, '{value}', ARRAY['{value}']::{old}.{name}[], '{value}'"
        " FROM generate_series(1, 9) n;"
        for name, value in VALUES.items()
    )
    live = LiveRun(databases, tmp_path, schema_with(VALUES, old) + rows, schema_with(VALUES, new), strategy=strategy)
    live.up_to_cutover()
    for name, value in VALUES.items():
        live.source.sql(
            f"UPDATE a_{name} SET v = NULL WHERE id = 3; INSERT INTO a_{name} VALUES (50, '{value}', '{{}}', NULL)"
        )
    live.follow()
    assert live.verify().equal
    live.cutover()
    live.assert_same(**{f"a_{name}": f"SELECT * FROM a_{name}" for name in VALUES})
    for name in VALUES:
        live.target.sql(f"UPDATE a_{name} SET x = NULL WHERE id = 4")
    live.rollback()
    for name in VALUES:
        assert live.source.value(f"SELECT count(*) FROM a_{name} WHERE x IS NULL") == 2, name


def test_plan_reports_an_extension_with_another_version(databases: Databases, tmp_path: Path) -> None:
    table = "CREATE TABLE a (id int PRIMARY KEY, v hstore);"
    old = f"CREATE EXTENSION hstore VERSION '1.4'; {table} INSERT INTO a VALUES (1, 'a=>1')"
    live = LiveRun(databases, tmp_path, old, f"CREATE EXTENSION hstore; {table}")
    (note,) = (n for n in live.plan().notes if "another version" in n)
    assert "hstore (1.4, 1." in note
    live.through()
    live.assert_same(a="SELECT * FROM a")


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
@pytest.mark.parametrize(
    ("statement", "what", "fix"),
    [
        ("CREATE EXTENSION postgis", "the server does not offer the extension", "install its package"),
        ('CREATE /* */ EXTENSION IF NOT EXISTS "no-such"', "the server does not offer the extension", "install"),
        ("CREATE EXTENSION hstore VERSION '99'", "does not offer this version", "remove VERSION"),
    ],
)
def test_extension_that_the_server_does_not_offer_is_refused(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, statement: str, what: str, fix: str
) -> None:
    live = LiveRun(request.getfixturevalue(kind), tmp_path, EMPTY, f"{statement}; {EMPTY}")
    for refused in (live.plan, live.setup):
        with pytest.raises(Refused, match=f"new.sql:1:1: .*{what}") as error:
            refused()
        assert fix in str(error.value.fix)
    with pytest.raises(psycopg.OperationalError):
        live.target.value("SELECT 1")


@pytest.fixture
def owner(databases: Databases) -> Iterator[str]:
    """An ordinary role that may create databases."""
    admin = TestDatabase(databases.server, "postgres")
    admin.sql("CREATE ROLE extender LOGIN CREATEDB PASSWORD 'secret'")
    yield "extender"
    databases.drop_all()
    admin.sql("DROP ROLE extender")


def as_role(live: LiveRun, role: str) -> LiveRun:
    """The same run by the owner of the source's table."""
    live.source.sql(f"ALTER TABLE a OWNER TO {role}; GRANT CREATE ON DATABASE {live.source.name} TO {role}")
    target, source = (d.server.conninfo(d.name, user=role, password="secret") for d in (live.target, live.source))
    live.where = Endpoints(target, source, live.project)
    return live


def test_extension_that_the_role_may_not_create_is_refused_with_a_way_out(
    databases: Databases, tmp_path: Path, owner: str
) -> None:
    live = as_role(LiveRun(databases, tmp_path, EMPTY, f"CREATE EXTENSION file_fdw; {EMPTY}"), owner)
    with pytest.raises(Refused, match="the role may not create the extension") as error:
        live.setup()
    assert "CREATE EXTENSION IF NOT EXISTS" in str(error.value.fix)
    TestDatabase(databases.server, "postgres").sql(f"CREATE DATABASE {live.target.name} OWNER {owner}")
    live.target.sql("CREATE EXTENSION file_fdw")
    (live.project / "db/schema/10/new.sql").write_text(f"CREATE EXTENSION IF NOT EXISTS file_fdw; {EMPTY}")
    live.through()


def test_plan_states_that_another_database_is_the_reason(databases: Databases, tmp_path: Path, owner: str) -> None:
    live = as_role(LiveRun(databases, tmp_path, EMPTY, f"CREATE EXTENSION citext; {EMPTY}"), owner)
    with pytest.raises(Refused, match="may not create the extension") as error:
        live.plan()  # in database postgres, in which the role may create nothing
    assert "create the target database, then plan in it" in str(error.value.fix)
    TestDatabase(databases.server, "postgres").sql(f"CREATE DATABASE {live.target.name} OWNER {owner}")
    assert live.plan().tables
    live.through()


def test_plan_states_that_an_object_of_another_database_is_the_reason(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, EMPTY, f"CREATE EXTENSION citext; {EMPTY}")
    postgres = TestDatabase(databases.server, "postgres")
    postgres.sql("CREATE EXTENSION citext")
    try:
        with pytest.raises(DataFailure, match="server rejects") as error:
            live.plan()
        assert "tried in database postgres" in error.value.why
        live.setup()
    finally:
        postgres.sql("DROP EXTENSION citext")
