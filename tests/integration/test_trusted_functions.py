"""Expressions run only code of trusted roles. Their functions are checked by the OID that PostgreSQL resolved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from confiture.errors import FaultyInput, Refused
from confiture.schema_to_schema import plan_store
from live import LiveRun
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE item (id int PRIMARY KEY, name varchar(20) NOT NULL, n int);
INSERT INTO item VALUES (1, 'one', 1), (2, 'two', 2);
"""
NEW = "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL, n int)"
#: The body of a function that the application's role creates.
STATIC = "LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 'hers'; END $$"


@dataclass
class Shop:
    """Databases in which a role of the application has the CREATE privilege on schema ``public``."""

    databases: Databases
    project: Path
    roles: list[str] = field(default_factory=list)

    def live(self, statements: str, transform: str, more: str = "", *, new: str = NEW, old: str = OLD) -> LiveRun:
        """A run in whose source the application's role has executed ``statements``."""
        mapping = f'item:\n  name:\n    source_column: name\n    transform: "{transform}"\n{more}'
        live = LiveRun(self.databases, self.project, old, new, mapping)
        self.apply(live.source, statements)
        return live

    def apply(self, database: TestDatabase, statements: str) -> None:
        """Create the application's role and execute ``statements`` as this role."""
        role = f"{database.name}_app"
        if role not in self.roles:
            database.sql(f"CREATE ROLE {role}")
            self.roles.append(role)
        database.sql(f"GRANT CREATE ON SCHEMA public TO {role}; GRANT CREATE ON DATABASE {database.name} TO {role}")
        database.sql(f"SET ROLE {role}; {statements}")

    def role(self, live: LiveRun) -> str:
        return f"{live.source.name}_app"


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    databases = request.getfixturevalue(getattr(request, "param", "databases"))
    made = Shop(databases, tmp_path)
    yield made
    databases.drop_all()
    for role in made.roles:
        TestDatabase(databases.server, "postgres").sql(f"DROP ROLE {role}")


def faults(live: LiveRun) -> str:
    """All faults of the plan with their hints."""
    with pytest.raises(FaultyInput) as raised:
        live.plan()
    return "\n".join(f"{f.message} {f.hint}" for f in raised.value.faults)


SHADOWED = f"CREATE FUNCTION public.upper(varchar) RETURNS text {STATIC}"


@pytest.mark.parametrize("shop", ["databases", "old_databases"], indirect=True)
def test_function_that_shadows_a_built_in_one_is_refused_with_its_owner(shop: Shop) -> None:
    live = shop.live(SHADOWED, "upper(name)")
    reported = faults(live)
    assert f"public.upper(character varying), which role {shop.role(live)} owns" in reported
    assert "$trust_functions: ['public.upper(character varying)']" in reported
    assert "ALTER FUNCTION public.upper(character varying) OWNER TO postgres" in reported


UNTRUSTED = {
    "operator": (
        "CREATE FUNCTION public.glue(text, text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1; END $$;"
        "CREATE OPERATOR public.|>> (leftarg = text, rightarg = text, function = public.glue)",
        "name::text |>> 'x'",
        "public.glue(text, text)",
    ),
    "commutator of an operator": (
        "CREATE FUNCTION public.back(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN RETURN true; END $$; CREATE OPERATOR public.~~> (leftarg = text, rightarg = text,"
        " function = public.back); CREATE OPERATOR public.<~~ (leftarg = text, rightarg = text, function = texteq,"
        " commutator = OPERATOR(public.~~>))",
        "CASE WHEN name::text <~~ 'x' THEN name ELSE name END",
        "public.back(text, text)",
    ),
    "cast": (
        "CREATE TYPE public.colour AS ENUM ('one', 'two');"
        f"CREATE FUNCTION public.shown(public.colour) RETURNS text {STATIC};"
        "CREATE CAST (public.colour AS text) WITH FUNCTION public.shown(public.colour)",
        "name::text::colour::text",
        "public.shown(public.colour)",
    ),
    "check of a domain": (
        "CREATE FUNCTION public.fits(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$;"
        "CREATE DOMAIN public.label AS text CHECK (public.fits(VALUE))",
        "name::label",
        "public.fits(text)",
    ),
    "check of a domain within a composite": (
        "CREATE FUNCTION public.fits(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$;"
        "CREATE DOMAIN public.label AS text CHECK (public.fits(VALUE));"
        "CREATE TYPE public.pair AS (a public.label, b int)",
        "(row(name, 1)::pair)::text",
        "public.fits(text)",
    ),
    "body that the server has parsed": (
        f"CREATE FUNCTION public.inner_one(text) RETURNS text {STATIC};"
        "CREATE FUNCTION public.outer_one(text) RETURNS text IMMUTABLE RETURN public.inner_one($1)",
        "outer_one(name::text)",
        "public.inner_one(text)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("shop", ["databases", "old_databases"], indirect=True)
@pytest.mark.parametrize("kind", UNTRUSTED)
def test_other_code_that_the_application_owns_is_refused(shop: Shop, kind: str) -> None:
    statements, transform, function = UNTRUSTED[kind]
    assert f"{function}, which role" in faults(shop.live(statements, transform))


def test_condition_that_runs_code_of_the_application_is_refused(shop: Shop) -> None:
    live = shop.live(
        "CREATE FUNCTION public.wanted(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$",
        "name::text",
        '  $where: "wanted(n)"\n',
    )
    assert "public.wanted(integer), which role" in faults(live)


@pytest.mark.parametrize("owner", ["superuser", "ours", "table"])
def test_function_of_a_trusted_owner_is_used(shop: Shop, owner: str) -> None:
    live = shop.live(SHADOWED, "upper(name)")
    role = shop.role(live)
    if owner == "superuser":
        live.source.sql("ALTER FUNCTION public.upper(varchar) OWNER TO postgres")
    elif owner == "table":
        live.source.sql(f"ALTER TABLE item OWNER TO {role}")
    else:
        live.source.sql(
            f"ALTER ROLE {role} LOGIN PASSWORD 'unused'; GRANT SELECT ON item TO {role}; CREATE ROLE {role}_owner"
        )
        shop.roles.append(f"{role}_owner")
        live.source.sql(f"ALTER TABLE item OWNER TO {role}_owner; GRANT {role}_owner TO {role}")
        server = live.source.server
        live.where = type(live.where)(
            live.where.target, server.conninfo(live.source.name, user=role, password="unused"), live.project
        )
    assert live.plan().tables[0].columns[1].expression == "upper(name)"


def test_function_that_the_mapping_trusts_is_used_and_stored_by_oid(shop: Shop) -> None:
    live = shop.live(SHADOWED, "upper(name)", "$trust_functions: ['public.upper(character varying)']\n")
    live.setup()
    live.migrate()
    assert live.target.rows("SELECT DISTINCT name FROM item") == [("hers",)]
    (stored,) = live.target.value("SELECT plan->'trusted' FROM confiture.run")
    assert stored["oid"] == live.source.value("SELECT 'public.upper(varchar)'::regprocedure::oid::bigint")


def test_trusted_function_that_was_redefined_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    live = shop.live(SHADOWED, "upper(name)", "$trust_functions: ['public.upper(character varying)']\n")
    create_views = plan_store.create_views

    def redefined_first(*arguments: object) -> None:
        live.source.sql(
            "CREATE OR REPLACE FUNCTION public.upper(varchar) RETURNS text LANGUAGE plpgsql IMMUTABLE"
            " AS $$ BEGIN RETURN 'other'; END $$"
        )
        create_views(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(plan_store, "create_views", redefined_first)
    with pytest.raises(Refused, match="would run code of another role") as raised:
        live.setup()
    assert "redefined after the plan trusted it" in str(raised.value.why)


def test_function_created_after_the_plan_is_refused_with_the_views(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    live = shop.live("SELECT 1", "upper(name)")
    create_views = plan_store.create_views

    def shadowed_first(*arguments: object) -> None:
        shop.apply(live.source, SHADOWED)
        create_views(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(plan_store, "create_views", shadowed_first)
    with pytest.raises(Refused, match="a view on the source would run code of another role") as raised:
        live.setup()
    assert "public.upper(character varying)" in str(raised.value.why)


def test_cast_of_a_plain_column_that_runs_code_of_the_application_is_refused(shop: Shop) -> None:
    statements, _, function = UNTRUSTED["cast"]
    live = shop.live(
        statements,
        "name::text",
        "  c: c\n",
        old=OLD,
        new="CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL, n int, c text)",
    )
    live.source.sql("ALTER TABLE item ADD c public.colour")
    with pytest.raises(Refused) as raised:
        live.setup()
    assert function in str(raised.value.why)


def test_reverse_that_runs_code_of_another_role_in_the_target_is_refused(shop: Shop) -> None:
    mapping = '    reverse: "initcap(name)"\n'
    live = shop.live("SELECT 1", "name::text", mapping)
    shop.databases.make(live.target.name)
    shop.apply(
        live.target,
        f"CREATE DOMAIN public.word AS text; CREATE FUNCTION public.initcap(public.word) RETURNS text {STATIC}",
    )
    (live.project / "db/schema/10/new.sql").write_text(NEW.replace("name text", "name public.word"))
    with pytest.raises(FaultyInput) as raised:
        live.setup()
    assert "the reverse mapping of public.item: runs the function public.initcap(public.word)" in str(
        raised.value.faults
    )


def test_trusted_function_without_types_or_that_is_missing_is_a_fault(shop: Shop) -> None:
    live = shop.live("SELECT 1", "upper(name)", "$trust_functions: [public.upper, 'public.lower(nonsense)', app.f(]\n")
    reported = faults(live)
    assert "'public.upper' does not name one function" in reported
    assert "'app.f(' does not name one function" in reported
    assert "the source has no function public.lower(nonsense)" in reported


def test_checking_an_expression_runs_no_code_of_the_application(shop: Shop) -> None:
    """Confiture's own queries resolve names only in pg_catalog, whatever search_path contains."""
    live = shop.live(
        "CREATE FUNCTION public.pg_get_function_arguments(name) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'ran'; END $$; CREATE FUNCTION public.format(text, name, name, text) RETURNS text"
        " LANGUAGE plpgsql AS $$ BEGIN RAISE 'ran'; END $$; CREATE FUNCTION public.regexp_matches(text, text, text)"
        " RETURNS SETOF text[]"
        f" LANGUAGE plpgsql AS $$ BEGIN RAISE 'ran'; END $$; {SHADOWED}",
        "upper(name)",
    )
    assert "public.upper(character varying)" in faults(live)
