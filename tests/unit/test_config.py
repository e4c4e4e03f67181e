"""Databases by name: environments, URIs and conninfo strings. No secret is printed."""

from __future__ import annotations

import stat
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from confiture.config import (
    Database,
    UnknownEnvironment,
    environments,
    find_project,
    redact,
    resolve,
    write_environment,
)
from confiture.errors import ConfitureError, Refused, UsageError

SECRET = "hunter2"


def environment(project: Path, name: str, text: str) -> Path:
    path = project / "db/environments" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


def parameters(database: Database) -> dict[str, object]:
    return dict(conninfo_to_dict(database.conninfo))


def text_of(error: ConfitureError) -> str:
    return "\n".join([*error.lines(), error.detail, str(error), repr(error)])


def refused(name: str, project: Path) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(name, project)
    assert caught.value.__cause__ is None
    return text_of(caught.value)


def test_every_setting_of_an_environment_is_read(tmp_path: Path) -> None:
    environment(
        tmp_path,
        "prod",
        """\
        database_url: postgresql://app@db.example:5433/app
        search_path: [app, "Mixed", public]
        disk_free: 1.5 GiB
        schema_dir: ddl
        include: ["1*/**"]
        exclude: "*seed*"
        """,
    )
    prod = resolve("prod", tmp_path)
    assert (prod.name, prod.environment, prod.dbname) == ("prod", "prod", "app")
    assert parameters(prod) == {"user": "app", "host": "db.example", "port": "5433", "dbname": "app"}
    assert prod.search_path == ("app", "Mixed", "public")
    assert prod.disk_free == 1_610_612_736
    assert prod.schema_dir == tmp_path / "ddl"
    assert (prod.include, prod.exclude) == (("1*/**",), ("*seed*",))


def test_an_environment_needs_only_its_url(tmp_path: Path) -> None:
    environment(tmp_path, "prod", "database_url: postgresql:///app")
    prod = resolve("prod", tmp_path)
    assert prod.schema_dir == tmp_path / "db/schema"
    assert (prod.search_path, prod.include, prod.exclude) == (("public",), (), ())


def test_a_search_path_may_be_one_string(tmp_path: Path) -> None:
    environment(tmp_path, "prod", "database_url: postgresql:///app\nsearch_path: app, public\n")
    assert resolve("prod", tmp_path).search_path == ("app", "public")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "postgresql://app:p%40ss%2F@h:1/d",
            {"user": "app", "password": "p@ss/", "host": "h", "port": "1", "dbname": "d"},
        ),
        (
            "postgres://h1:1,h2:2/d?sslmode=require",
            {"host": "h1,h2", "port": "1,2", "dbname": "d", "sslmode": "require"},
        ),
        ("host=/tmp dbname='my db'", {"host": "/tmp", "dbname": "my db"}),
        ("service=prod", {"service": "prod"}),
        ("postgresql://", {}),
    ],
)
def test_libpq_reads_uris_and_conninfo(name: str, expected: dict[str, str], tmp_path: Path) -> None:
    database = resolve(name, tmp_path)
    assert parameters(database) == expected
    assert database.environment is None
    assert database.schema_dir == tmp_path / "db/schema"


def test_like_is_the_same_server_with_another_database(tmp_path: Path) -> None:
    environment(
        tmp_path,
        "prod",
        "database_url: postgresql://app:pw@h:1/app\nsearch_path: [app]\nexclude: [x]\ndisk_free: 5GB\n",
    )
    environment(tmp_path, "staging", "like: prod\ndatabase: stage\nschema_dir: next\n")
    environment(tmp_path, "copy", "like: staging\ndatabase: copy\nexclude: []\n")
    copy = resolve("copy", tmp_path)
    assert (copy.name, copy.environment, copy.dbname) == ("copy", "copy", "copy")
    assert parameters(copy) == parameters(resolve("prod", tmp_path)) | {"dbname": "copy"}
    assert copy.disk_free == 5 * 10**9
    assert (copy.search_path, copy.schema_dir, copy.exclude) == (("app",), tmp_path / "next", ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: the file has no keys"),
        ("just words", "1:1: the file has no keys"),
        ("search_path: app", "1:1: the file names no database"),
        ("database_url: postgresql:///app\ndisk_free: much", "2:12: disk_free must be a size"),
        ("database_ur: x", "1:1: unknown key 'database_ur' (did you mean database_url?)"),
        ("a: 1\ndatabase_url: postgresql:///x", "1:1: unknown key 'a'"),
        (
            "database_url: service=x\ndatabase_url: service=y",
            "2:1: database_url is given twice (first in line 1)",
        ),
        ("database_url:", "1:1"),
        ("database_url: [a]", "1:15: database_url must be a string"),
        (
            "database_url: service=x\nsearch_path: {a: b}",
            "2:14: search_path must be a string or a list of strings",
        ),
        ("database_url: service=x\nsearch_path: []", "2:14: search_path must be"),
        ("database_url: service=x\ninclude: [a, [b]]", "2:10: include must be"),
        ("like: prod", "1:7: like requires database"),
        ("database: x", "1:11: database requires like"),
        ("like: prod\ndatabase: x\ndatabase_url: service=x", "1:7: like and database_url are mutually exclusive"),
        ("like: brod\ndatabase: x", "1:7: there is no environment 'brod' (did you mean broken?)"),
        ("like: broken\ndatabase: x", "1:7: like is circular: broken -> broken"),
        ("database_url: mydb", "1:15: database_url cannot be used"),
        ("database_url: [", "1:16: not valid YAML"),
        ('database_url: "\\UFFFFFFFF"', "1:1: not valid YAML"),
    ],
)
def test_a_faulty_environment_names_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    path = environment(tmp_path, "broken", text)
    assert f"{path}:{said}" in refused("broken", tmp_path)


def test_a_circular_like_is_reported_with_its_members(tmp_path: Path) -> None:
    environment(tmp_path, "a", "like: b\ndatabase: x")
    environment(tmp_path, "b", "like: a\ndatabase: x")
    assert "a -> b -> a" in refused("a", tmp_path)


def test_an_unknown_environment_lists_the_existing_ones(tmp_path: Path) -> None:
    environment(tmp_path, "prod", "database_url: service=x")
    environment(tmp_path, "staging", "database_url: service=x")
    with pytest.raises(UnknownEnvironment) as caught:
        resolve("prdo", tmp_path)
    assert "prod, staging" in caught.value.why
    assert "did you mean prod?" in caught.value.fix


@pytest.mark.parametrize(
    "name", ["", "nowhere", "../environments/prod", "prod.yaml", ".hidden", "db/environments/prod"]
)
def test_only_a_listed_name_is_an_environment(name: str, tmp_path: Path) -> None:
    environment(tmp_path, "prod", "database_url: service=x")
    environment(tmp_path, ".hidden", "database_url: service=x")
    with pytest.raises(UnknownEnvironment):
        resolve(name, tmp_path)


def test_a_like_of_a_missing_environment_creates_none(tmp_path: Path) -> None:
    environment(tmp_path, "new", "like: gone\ndatabase: x")
    with pytest.raises(UsageError) as caught:
        resolve("new", tmp_path)
    assert not isinstance(caught.value, UnknownEnvironment)


# -- variables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "variables", "expected"),
    [
        ("${URL}", {"URL": "postgresql://a:p%40@h/d"}, "user=a password=p@ host=h dbname=d"),
        ("${URL}", {"URL": "service=x\n"}, "service=x"),
        ("postgresql://a:${PW}@h/d", {"PW": "p%40ss"}, "user=a password=p@ss host=h dbname=d"),
        ("postgresql://a:${PW}@h/d", {"PW": "p@s/:?#%"}, "user=a password=p@s/:?#% host=h dbname=d"),
        ("postgresql://a:x?${PW}@h", {"PW": "@ "}, "user=a password='x?@ ' host=h"),
        ("postgresql://${WHO}@${AT}", {"WHO": "a:b", "AT": "h:1"}, "user=a password=b host=h port=1"),
        ("postgresql://${WHO:-app}@${AT:-h:2}/d", {"WHO": ""}, "user=app host=h port=2 dbname=d"),
        ("host=h password=${PW} user=u", {"PW": "a' b\\c"}, r"host=h password='a\' b\\c' user=u"),
        ("host=h password='${PW}' user=u", {"PW": "a' b\\c"}, r"host=h password='a\' b\\c' user=u"),
        ("host=h password=${PW:-x}", {}, "host=h password=x"),
    ],
)
def test_variables_are_substituted_in_the_url(
    url: str,
    variables: dict[str, str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment(tmp_path, "prod", f'database_url: "{url}"')
    assert parameters(resolve("prod", tmp_path)) == conninfo_to_dict(expected)


def test_an_unset_variable_is_named_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    path = environment(tmp_path, "prod", "database_url: postgresql://a:${NO_SUCH}@h/${NOR_THIS}")
    error = refused("prod", tmp_path)
    assert f"{path}:1:15: the environment variable NO_SUCH is not set" in error
    assert "NOR_THIS" in error


def test_a_malformed_variable_is_a_fault(tmp_path: Path) -> None:
    environment(tmp_path, "prod", 'database_url: "postgresql://a:${1}@h/d"')
    assert "is not ${VAR}" in refused("prod", tmp_path)


# -- secrets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        f"postgresql://app:{SECRET}@h/d?sslpassword={SECRET}&application_name=x",
        f"postgresql://h/d?password={SECRET}",
        f"host=h dbname=d password={SECRET} oauth_client_secret='{SECRET} x' scram_client_key={SECRET}",
        f"password={SECRET}",
    ],
)
def test_a_database_never_shows_its_secrets(name: str, tmp_path: Path) -> None:
    database = resolve(name, tmp_path)
    assert SECRET in database.conninfo
    for shown in (database, database.with_dbname("other")):
        assert SECRET not in f"{shown} {shown!r} {shown.public} {shown.name}"
        assert shown.name


@pytest.mark.parametrize(
    "name",
    [
        f"postgresql://app:{SECRET}@x@h/d",
        f"postgresql://app:@{SECRET}@h/d",
        f"postgresql://app:1/{SECRET}@h/d",
        f"postgresql://app:{SECRET}/x@h/d",
        f"postgresql://app:{SECRET}",
        f"postgresql://app:x%{SECRET}@h/d",
        f"postgresql://app:1?x@{SECRET}@h/d",
        f"postgresql://app:1/x?{SECRET}@h/d",
        f"postgresql+psycopg://app:{SECRET}@h/d",
        f"mysql://app:{SECRET}@h/d",
        f"password=my {SECRET}",
        f"password='{SECRET}",
        f"passwort={SECRET}",
        f"port={SECRET}",
        f"app:{SECRET}@h/d",
        f"postgresql://app:{SECRET}\0@h/d",
    ],
)
def test_an_invalid_conninfo_is_not_printed(name: str, tmp_path: Path) -> None:
    assert SECRET not in refused(name, tmp_path)
    if "\0" not in name:
        environment(tmp_path, "prod", f"database_url: {name!r}" if "'" not in name else f'database_url: "{name}"')
        assert SECRET not in refused("prod", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        f"database_url: *{SECRET}",
        f"database_url: 'postgresql://a:{SECRET}@h/d",
        f"postgresql://a:{SECRET}@h/d",
        f"postgresql://a:{SECRET}@h/d: x",
        f"database_url = postgresql://a:{SECRET}@h/d",
    ],
)
def test_a_broken_environment_file_shows_no_secret(text: str, tmp_path: Path) -> None:
    environment(tmp_path, "prod", text)
    assert SECRET not in refused("prod", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        f"cannot reach postgresql://app:{SECRET}@h:1/d today",
        f"postgres://app:a@{SECRET}/x@h/d",
        f"postgresql://h/d?sslmode=x&password={SECRET}&x=y",
        f"host=h password={SECRET} dbname=d",
        f"host=h password = 'a {SECRET}\\' x {SECRET}' dbname=d",
        f"password=a\\ {SECRET} dbname=d",
        f"PGPASSWORD={SECRET}",
        f"{{'password': '{SECRET}', 'host': 'h'}}",
        f'{{"sslpassword": "{SECRET}"}}',
        f"OPTIONS (user 'app', password '{SECRET}''x')",
        f"ALTER ROLE app PASSWORD E'{SECRET}'",
        f"password='{SECRET} unterminated",
    ],
)
def test_redact_hides_passwords_in_any_position(text: str) -> None:
    assert SECRET not in redact(text)
    assert "***" in redact(text)


def test_redact_leaves_other_text_unchanged() -> None:
    for text in (
        'password authentication failed for user "app"',
        "postgresql://app@h:5432/d?sslmode=require",
        "could not connect to h:5432 (see https://example.org/a)",
        "host=h dbname=d user=app",
    ):
        assert redact(text) == text


@given(password=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_password_passes_through_a_conninfo_and_stays_hidden(password: str) -> None:
    secret = f"<{password}>"
    database = resolve(make_conninfo("", host="h", dbname="d", password=secret), Path())
    assert parameters(database.with_dbname("e")) == {"host": "h", "dbname": "e", "password": secret}
    assert secret not in f"{database!r} {database.public} {redact(database.conninfo)}"


@given(st.text())
def test_redact_never_raises(text: str) -> None:
    redact(text)


# -- the project ----------------------------------------------------------------------------------------


def test_with_dbname_names_another_database_of_the_server(tmp_path: Path) -> None:
    environment(tmp_path, "prod", "database_url: postgresql://app@h/app\nsearch_path: [app]\n")
    other = resolve("prod", tmp_path).with_dbname("my 'new' db")
    assert (other.name, other.dbname, other.environment) == ("my 'new' db", "my 'new' db", None)
    assert other.search_path == ("app",)


def test_a_database_without_a_name_uses_the_default_of_libpq(tmp_path: Path) -> None:
    assert resolve("service=x", tmp_path).dbname is None


def test_environments_are_listed_sorted(tmp_path: Path) -> None:
    assert environments(tmp_path) == ()
    for name in ("prod", "local", ".swap"):
        environment(tmp_path, name, "database_url: service=x")
    assert environments(tmp_path) == ("local", "prod")


def test_the_project_is_found_from_a_subfolder(tmp_path: Path) -> None:
    below = tmp_path / "p/db/schema/10_tables"
    below.mkdir(parents=True)
    assert find_project(below) == below.resolve()
    (tmp_path / "p/confiture.yaml").touch()
    assert find_project(below) == (tmp_path / "p").resolve()
    (tmp_path / "p/db/environments").mkdir()
    assert find_project(below) == (tmp_path / "p").resolve()


def test_a_written_environment_is_private_and_can_be_resolved(tmp_path: Path) -> None:
    environment(tmp_path, "prod", "database_url: postgresql://app:pw@h/app")
    path = write_environment(tmp_path, "prod_new", like="prod", database='we"ird: ${db}')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert resolve("prod_new", tmp_path).dbname == 'we"ird: ${db}'
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["prod.yaml", "prod_new.yaml"]


def test_an_environment_is_never_overwritten(tmp_path: Path) -> None:
    path = environment(tmp_path, "prod", "database_url: service=x")
    with pytest.raises(Refused):
        write_environment(tmp_path, "prod", like="prod", database="x")
    assert path.read_text(encoding="utf-8") == "database_url: service=x"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "a=b", "postgresql://h/d", "a b"])
def test_only_a_bare_word_names_an_environment(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_environment(tmp_path, name, like="prod", database="x")
    assert not (tmp_path / "db").exists()


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "db").touch()
    with pytest.raises(UsageError):
        write_environment(tmp_path, "new", like="prod", database="x")
