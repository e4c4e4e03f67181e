"""Rows that the target refuses are reported, and fixed on the source or in the mapping."""

from __future__ import annotations

from pathlib import Path

import pytest

import small_move
from confiture.types import in_plain_words
from forked import Ended, Forks
from servers import Databases
from small_move import CHUNK_ROWS, MAPPING, SmallMove

#: The 150th post. It is in the fourth chunk, which holds the 121st to the 160th key.
BAD, CHUNK, ROWS = 450, 4, "rows from id = 363 on, before id = 483"

CASES = {
    "cast": (
        "UPDATE tb_post SET cents = 'many' WHERE id = 450",
        "cents",
        'invalid input syntax for type integer: "many"',
    ),
    "not null": ("UPDATE tb_post SET user_id = NULL WHERE id = 450", "user_id", "violates not-null constraint"),
    "check": (
        "UPDATE tb_post SET cents = '-1' WHERE id = 450",
        "cents, constraint cents_positive",
        "violates check constraint",
    ),
    "too long": ("UPDATE tb_post SET body = repeat('x', 61) WHERE id = 450", "body", "value too long for type"),
}
FIX = "UPDATE tb_post SET cents = '150', user_id = 31, body = 'fixed' WHERE id = 450"


@pytest.fixture
def move(databases: Databases, tmp_path: Path) -> SmallMove:
    """A source that accepts rows that the target refuses."""
    made = small_move.make(databases, tmp_path)
    made.source.sql("ALTER TABLE tb_post ALTER user_id DROP NOT NULL")
    ddl = made.project / "db/schema/10_tables/tables.sql"
    ddl.write_text(ddl.read_text().replace("body text", "body varchar(60)"))
    return made


def set_up(move: SmallMove, strategy: str = "auto") -> None:
    move.run("setup", "--mapping", str(move.mapping), "--chunk-rows", str(CHUNK_ROWS), "--strategy", strategy)


def migrate_with(move: SmallMove, mapping: str, *options: str, code: int = 0) -> Ended:
    """Migrate with another mapping."""
    move.mapping.write_text(mapping)
    return move.run("migrate", "--mapping", str(move.mapping), *options, code=code)


def assert_all_there(move: SmallMove) -> None:
    move.finish()
    move.assert_every_row_arrived_once()
    move.assert_rows_and_checkpoints_agree()
    move.assert_nothing_is_left()


@pytest.mark.parametrize("strategy", ["fdw", "copy"])
@pytest.mark.parametrize("case", CASES)
def test_bad_row_is_reported_and_finished_chunks_are_kept(move: SmallMove, case: str, strategy: str) -> None:
    spoil, column, message = CASES[case]
    move.source.sql(spoil)
    set_up(move, strategy)
    failed = move.run("migrate", code=5).err
    what = f"a row of public.tb_post does not fit into public.post: id = {BAD}, column {column}"
    assert f"confiture: {in_plain_words(what)}\n" in failed
    assert message in failed
    assert f"(chunk {CHUNK}, {ROWS})" in failed
    assert what in str(move.journal("blocked_reason"))
    assert move.chunks("post")[:CHUNK] == [("done", CHUNK_ROWS)] * (CHUNK - 1) + [("failed", None)]
    move.assert_rows_and_checkpoints_agree()

    # It fails with the same error until the row is fixed, and then continues.
    assert in_plain_words(what) in move.run("migrate", code=5).err
    move.source.sql(FIX)
    copied = move.run("migrate").out
    assert f"({300 + 200 - (CHUNK - 1) * CHUNK_ROWS} by this command)" in copied
    assert move.journal("blocked_reason") is None
    assert_all_there(move)


def test_duplicate_rows_are_reported_and_copied_again_after_the_fix(move: SmallMove) -> None:
    move.source.sql("UPDATE tb_user SET code = 'c7' WHERE id = 90")
    set_up(move)
    failed = move.run("migrate", code=5).err
    what = "rows of public.app_user are not unique: constraint code_unique on public.app_user cannot be restored"
    assert in_plain_words(what) in failed
    assert "Key (code)=(c7) is duplicated." in failed
    assert "migrate --restart-table public.app_user" in failed
    assert what in str(move.journal("blocked_reason"))
    move.source.sql("UPDATE tb_user SET code = 'c90' WHERE id = 90")
    assert in_plain_words(what) in move.run("migrate", code=5).err
    move.run("migrate", "--restart-table", "public.app_user")
    assert_all_there(move)


# A fixed mapping -----------------------------------------------------------------------------------

FIXED_MAPPING = MAPPING.replace('"cents::int"', "\"nullif(cents, 'many')::int\"")


def test_mapping_may_change_while_no_chunk_of_the_table_is_done(move: SmallMove) -> None:
    move.source.sql("UPDATE tb_post SET cents = 'many' WHERE id = 3")
    set_up(move)
    move.run("migrate", code=5)
    migrate_with(move, FIXED_MAPPING)
    move.source.sql("UPDATE tb_post SET cents = NULL WHERE id = 3")
    assert_all_there(move)


def test_mapping_of_another_table_may_change_while_one_is_blocked(move: SmallMove) -> None:
    move.source.sql("UPDATE tb_post SET cents = 'many' WHERE id = 450")
    set_up(move)
    move.run("migrate", code=5)
    upper = MAPPING + '  name: {source_column: name, transform: "upper(name)"}\n'
    # The key is no longer a plain rename. Only tag is planned again.
    assert "id = 450" in migrate_with(move, upper, code=5).err
    move.source.sql(FIX)
    move.run("migrate")
    move.run("verify")
    assert move.target.value("SELECT count(*) FROM tag WHERE name = upper(name)") == 200


def test_mapping_of_a_table_with_rows_changes_only_with_a_restart(move: SmallMove) -> None:
    move.source.sql("UPDATE tb_post SET cents = 'many' WHERE id = 450")
    set_up(move)
    move.run("migrate", code=5)
    before = move.target.rows("TABLE post")
    refused = migrate_with(move, FIXED_MAPPING, code=4)
    assert "the mapping was changed for tables that have rows already" in refused.err
    assert "--restart-table public.post" in refused.err
    assert move.target.rows("TABLE post") == before
    # A refused command changes nothing: the stored mapping is still valid.
    assert "id = 450" in move.run("migrate", code=5).err

    migrate_with(move, FIXED_MAPPING, "--restart-table", "public.post")
    move.source.sql("UPDATE tb_post SET cents = NULL WHERE id = 450")
    assert_all_there(move)


def test_a_restart_names_a_table_of_the_plan(move: SmallMove) -> None:
    set_up(move)
    move.run("migrate")
    failed = move.run("migrate", "--restart-table", "pots", code=2)
    assert "the plan has no table pots" in failed.err
    assert "app_user, post, tag" in failed.err
    assert move.target.value("SELECT count(*) FROM post") == 300


@pytest.mark.parametrize(
    ("after", "table"),
    [("migrate", "app_user"), ("verify", "post"), ("verify", "public.tag"), ("as declared", "app_user")],
)
def test_a_finished_table_that_others_reference_is_copied_again(
    forks: Forks, move: SmallMove, databases: Databases, after: str, table: str
) -> None:
    set_up(move)
    move.run("migrate")
    if after != "migrate":
        move.run("verify")
    if after == "as declared":
        # The cutover has restored the foreign keys as declared, and was killed under its lock.
        forks.run(move.arguments("cutover"), move.project, CONFITURE_FAILPOINT="cutover.locked")
    name = table.removeprefix("public.")
    rows = move.target.value(f"SELECT count(*) FROM {name}")
    move.target.sql(
        f"ALTER TABLE {name} DISABLE TRIGGER ALL; DELETE FROM {name}; ALTER TABLE {name} ENABLE TRIGGER USER"
    )
    move.target.sql("ALTER TABLE tag DISABLE TRIGGER refuse")
    again = move.run("migrate", "--restart-table", table)
    assert f"({rows} by this command)" in again.out
    assert move.state() == "migrating"
    assert_all_there(move)


def test_equivalent_mapping_does_not_reopen_a_verified_run(move: SmallMove) -> None:
    set_up(move)
    move.run("migrate")
    move.run("verify")
    said = migrate_with(move, MAPPING + "# reviewed\n")
    assert "nothing to migrate" in said.err
    assert move.state() == "verified"
    assert_all_there(move)


def test_a_verified_run_whose_mapping_changed_is_verified_again(move: SmallMove) -> None:
    set_up(move)
    move.run("migrate")
    move.run("verify")
    migrate_with(move, MAPPING.replace("cents::int", "cents::int + 0"), "--restart-table", "post")
    assert move.state() == "migrating"
    assert "not verified" in move.run("cutover", code=4).err
    assert_all_there(move)


def test_two_conflicting_rows_are_reported_by_their_value(move: SmallMove) -> None:
    """A function needs the unique constraint, which therefore is not dropped for the load, so the copy fails."""
    ddl = move.project / "db/schema/10_tables/tables.sql"
    kept = (
        "CREATE FUNCTION keep() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO app_user (id, username)"
        " VALUES (0, '') ON CONFLICT ON CONSTRAINT code_unique DO NOTHING; END;"
    )
    ddl.write_text(ddl.read_text() + kept)
    move.source.sql("UPDATE tb_user SET code = 'c7' WHERE id = 8")
    set_up(move)
    failed = move.run("migrate", code=5).err
    assert "key unknown, column code, constraint code_unique" in failed
    assert "Key (code)=(c7) already exists. (chunk 1, rows before id = 41)" in failed
    move.source.sql("UPDATE tb_user SET code = 'c8' WHERE id = 8")
    move.run("migrate")
    assert_all_there(move)


def test_a_value_outside_a_domain_names_its_column(move: SmallMove) -> None:
    ddl = move.project / "db/schema/10_tables/tables.sql"
    domain = "CREATE DOMAIN short AS text CONSTRAINT is_short CHECK (length(value) < 20);"
    ddl.write_text(domain + ddl.read_text().replace("body varchar(60)", "body short"))
    move.source.sql("UPDATE tb_post SET body = repeat('x', 20) WHERE id = 450")
    move.mapping.write_text(MAPPING.replace("$from: tb_post", '$from: tb_post\n  body: {transform: "body"}'))
    set_up(move)
    assert "id = 450, column body, constraint is_short" in move.run("migrate", code=5).err
    move.source.sql(FIX)
    move.run("migrate")
    assert_all_there(move)
