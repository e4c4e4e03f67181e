"""The rule of each column: foreign keys spread it, unique indexes and types restrict it."""

from __future__ import annotations

import pytest

from confiture.config import resolve
from confiture.masking.fit import misfits
from confiture.masking.model import Kind, Masks
from confiture.postgres.session import Session
from conftest import ROOT
from masking import catalog_of, evaluated, faults_of, masks_of, pass_key
from servers import TestDatabase

LINKED = """
CREATE TABLE account (login varchar(40) PRIMARY KEY, tenant int, number bigint, UNIQUE (tenant, number));
CREATE TABLE "Order" (id int PRIMARY KEY, login text REFERENCES account, tenant int, number int,
                      FOREIGN KEY (tenant, number) REFERENCES account (tenant, number));
CREATE TABLE line (login char(30) REFERENCES account, parent int REFERENCES "Order");
INSERT INTO account SELECT 'user' || n, n % 3, n FROM generate_series(1, 50) n;
INSERT INTO "Order" SELECT n, 'user' || 1 + n % 50, (1 + n % 50) % 3, 1 + n % 50 FROM generate_series(1, 200) n;
INSERT INTO line SELECT 'user' || n, n FROM generate_series(1, 50) n;
"""


def columns(masks: Masks) -> dict[str, str]:
    return {f"{m.table.name}.{m.column}": f"{m.rule}; {m.why}" for m in masks.masks}


def test_a_rule_is_that_of_every_column_that_foreign_keys_link(database: TestDatabase) -> None:
    database.sql(LINKED)
    masks = masks_of(database, "line:\n  login: hash\naccount: {number: hash}\n")
    assert columns(masks) == {
        "Order.login": "hash; foreign key with line.login",
        "Order.number": "hash; foreign key with account.number",
        "account.login": "hash; foreign key with line.login",
        "account.number": "hash; line 3",
        "line.login": "hash; line 2",
    }
    groups = {f"{m.table.name}.{m.column}": m.group for m in masks.masks}
    assert len({groups["Order.login"], groups["account.login"], groups["line.login"]}) == 1
    assert groups["Order.number"] == groups["account.number"] != groups["Order.login"]


def test_masked_ends_of_foreign_keys_of_several_types_still_join(database: TestDatabase) -> None:
    database.sql(LINKED)
    masks = masks_of(database, "line: {login: hash}\naccount: {number: hash, tenant: hash}\n")
    values = {}
    for table in ("account", "Order", "line"):
        of_table = [mask for mask in masks.masks if mask.table.name == table]
        values[table] = [
            dict(zip([mask.column for mask in of_table], row, strict=True)) for row in evaluated(database, of_table)
        ]
    parents = {(row["login"], row["tenant"], row["number"]) for row in values["account"]}
    assert len(parents) == len(values["account"])
    assert {(row["login"], row["tenant"], row["number"]) for row in values["Order"]} <= parents
    assert {(row["login"] or "").strip() for row in values["line"]} == {row["login"] for row in values["account"]}
    assert all(len(row["login"]) == 30 for row in values["account"])


def test_contradicting_rules_of_linked_columns_are_faults(database: TestDatabase) -> None:
    database.sql(LINKED)
    found = faults_of(database, "account:\n  login: hash\nline:\n  login: uuid\n'\"Order\"':\n  login: keep\n")
    assert any("mask.yaml:4:3: line.login has the rule uuid" in fault for fault in found)
    assert any(
        'mask.yaml:6:3: "Order".login has the rule keep' in fault or "account.login has" in fault for fault in found
    )
    (found_again,) = faults_of(database, "account:\n  login: {sql: 'md5(login)'}\n'\"Order\"': {login: {sql: x}}\n")
    assert "line.login, which a foreign key links, none" in found_again


def test_null_may_drop_the_link_of_a_referring_column(database: TestDatabase) -> None:
    database.sql(LINKED)
    assert columns(masks_of(database, "line: {login: null}")) == {"line.login": "null; line 1"}


def test_a_value_that_the_narrowest_linked_column_cannot_have_becomes_null(database: TestDatabase) -> None:
    database.sql("""
        CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1), (2);
        CREATE TABLE child (id bigint); INSERT INTO child VALUES (1), (2), (1 + 2::bigint ^ 31), (NULL), (-1);
        ALTER TABLE child ADD FOREIGN KEY (id) REFERENCES parent NOT VALID;
        """)
    masks = masks_of(database, "parent: {id: hash}").masks
    parents = [row[0] for row in evaluated(database, [mask for mask in masks if mask.table.name == "parent"])]
    children = [row[0] for row in evaluated(database, [mask for mask in masks if mask.table.name == "child"])]
    assert children[:2] == parents
    assert children[2:4] == [None, None]
    assert int(children[4]) < 0


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("name", "name may give two rows the same value, and the index one_c_key is unique"),
        ("phone", "phone may give two rows the same value"),
        ("{rule: constant, value: x}", "constant may give two rows the same value"),
        ("text", "text may give two rows the same value"),
        ("{rule: hash, length: 4}", "the unique index one_c_key over about 1,000 rows needs 40"),
    ],
)
def test_a_rule_that_may_repeat_values_is_refused_for_a_unique_column(
    database: TestDatabase, rule: str, reason: str
) -> None:
    database.sql("CREATE TABLE one (c text UNIQUE, d text)")
    (found,) = faults_of(database, f"one: {{c: {rule}, d: {rule}}}")
    assert reason in found
    assert "one.c" in found


def test_an_exclusion_constraint_makes_its_columns_unique(database: TestDatabase) -> None:
    database.sql("CREATE TABLE stay (guest text, EXCLUDE USING hash (guest WITH =))")
    (fault,) = faults_of(database, "stay: {guest: name}")
    assert "name may give two rows the same value, and the index stay_guest_excl is unique" in fault
    assert faults_of(database, "stay: {guest: hash}") == []


def test_an_expression_index_makes_its_columns_unique(database: TestDatabase) -> None:
    database.sql("""CREATE TABLE one (email text, "First" text, first text);
                    CREATE UNIQUE INDEX u ON one (lower(email), lower("First"))""")
    found = faults_of(database, "one: {email: name, '\"First\"': name, first: name}")
    assert len(found) == 2
    assert columns(masks_of(database, "one: {email: email}"))


def test_hashes_are_unique_where_a_short_column_permits_it(database: TestDatabase) -> None:
    database.sql("CREATE TABLE one (c varchar(10) UNIQUE); INSERT INTO one SELECT n FROM generate_series(1, 30000) n")
    database.sql("ANALYZE one")
    (found,) = faults_of(database, "one: {c: uuid}")
    assert "a uuid does not fit character varying(10)" in found
    values = [row[0] for row in evaluated(database, masks_of(database, "one: {c: hash}").masks)]
    assert len(set(values)) == 30000
    database.sql("DROP TABLE one; CREATE TABLE one (c varchar(6) UNIQUE)")
    (found,) = faults_of(database, "one: {c: hash}")
    assert "hash gives values of 35 bits" in found


def test_null_on_a_column_that_is_not_null_is_refused(database: TestDatabase) -> None:
    database.sql("CREATE DOMAIN must AS text NOT NULL; CREATE TABLE one (c text NOT NULL, d must, e text UNIQUE)")
    found = faults_of(database, "one: {c: null, d: null, e: null}")
    assert [fault.split(" (")[0] for fault in found] == [
        "mask.yaml:1:7: one.c: the column is NOT NULL",
        "mask.yaml:1:16: one.d: the column is NOT NULL",
    ]


def test_unknown_names_are_faults_with_hints(database: TestDatabase) -> None:
    database.sql(
        "CREATE TABLE customer (email text); CREATE SCHEMA s; CREATE TABLE s.a (x int); CREATE TABLE a (x int)"
    )
    found = faults_of(
        database, "custmer: {email: hash}\ncustomer: {emial: hash}\ns.a: {y: hash}\n", ["customer.emall", "x"]
    )
    assert next(fault for fault in found if "custmer" in fault).endswith("no table custmer (did you mean customer?)")
    assert any("customer has no column emial in the source (did you mean email?)" in fault for fault in found)
    assert any("s.a has no column y" in fault for fault in found)
    assert any("customer has no column emall" in fault for fault in found)
    assert any("'x' is not the name of a column" in fault for fault in found)


def test_defaults_apply_where_they_fit_and_the_file_names_nothing_else(database: TestDatabase) -> None:
    database.sql("""CREATE TABLE one (email text, work_email varchar(99), email_verified bool, old_email text,
                                      "Home_Phone" text, small_email varchar(3))""")
    masks = masks_of(database, "$defaults:\n  '*email*': email\n  '*phone': phone\none: {old_email: keep}\n")
    assert columns(masks) == {
        "one.Home_Phone": "phone; default in line 3",
        "one.email": "email; default in line 2",
        "one.old_email": "keep; line 4",
        "one.work_email": "email; default in line 2",
    }


def test_a_default_is_that_of_every_linked_column_unless_the_file_names_one(database: TestDatabase) -> None:
    database.sql("""CREATE TABLE login (email text PRIMARY KEY); CREATE TABLE visit (who text REFERENCES login);
                    CREATE TABLE code (email varchar(3) PRIMARY KEY); CREATE TABLE use (code text REFERENCES code)""")
    assert columns(masks_of(database, "$defaults: {email: email}")) == {
        "login.email": "email; default in line 1",
        "visit.who": "email; foreign key with login.email",
    }
    assert columns(masks_of(database, "$defaults: {email: email}\nvisit: {who: hash}")) == {
        "login.email": "hash; foreign key with visit.who",
        "visit.who": "hash; line 2",
    }


def test_an_allowed_column_is_kept_and_cannot_have_a_rule(database: TestDatabase) -> None:
    database.sql('CREATE TABLE one (email text, "E" text)')
    masks = masks_of(database, "", ["one.email", 'public.one."E"'])
    assert columns(masks) == {"one.E": "keep; --allow-unmasked", "one.email": "keep; --allow-unmasked"}
    assert not masks.needs_key
    (found,) = faults_of(database, "one: {email: hash}", ["one.email"])
    assert "--allow-unmasked names one.email, which has the rule hash" in found


def test_columns_of_citext_are_masked_alike_in_any_case(database: TestDatabase) -> None:
    database.sql("CREATE EXTENSION citext; CREATE TABLE one (c citext UNIQUE); INSERT INTO one VALUES ('Ann@X.org')")
    (upper,) = evaluated(database, masks_of(database, "one: {c: email}").masks)
    database.sql("UPDATE one SET c = 'ann@x.ORG'")
    assert evaluated(database, masks_of(database, "one: {c: email}").masks) == [upper]


def test_masked_values_that_a_check_rejects_are_reported_before_the_copy(database: TestDatabase) -> None:
    database.sql("""
        CREATE DOMAIN corp AS text CHECK (VALUE LIKE '%@corp.test');
        CREATE DOMAIN any_mail AS text CHECK (VALUE LIKE '%@%');
        CREATE TABLE one (c corp, d any_mail, e text CHECK (length(e) < 9), f text, g varchar(5), h int NOT NULL,
                          CHECK (f <> e), i text);
        INSERT INTO one VALUES ('a@corp.test', 'b@c', 'e', 'f', 'g', 5, 'i');
        """)
    masks = masks_of(
        database,
        "one: {c: email, d: email, e: hash, f: {sql: e}, g: {sql: \"'abcdefg'\"}, h: {sql: 'nullif(h, 5)'}, i: hash}",
    )
    catalog = catalog_of(database)
    with Session(resolve(database.conninfo, ROOT), "test") as session, session.transaction() as tx:
        pass_key(tx.pg)
        found = misfits(tx, tx, catalog, catalog, masks)
    assert found == (
        "public.one.c: email gives values that corp rejects: corp_check",
        "public.one.g: sql gives values of 7 characters, and character varying(5) has 5",
        "public.one.h: sql gives NULL, and the column is NOT NULL",
        "public.one.e: the masked values violate the constraint one_e_check",
    ) or found == (
        "public.one.c: email gives values that public.corp rejects: corp_check",
        "public.one.g: sql gives values of 7 characters, and character varying(5) has 5",
        "public.one.h: sql gives NULL, and the column is NOT NULL",
        "public.one.e: the masked values violate the constraint one_e_check",
    )
    fixed = masks_of(database, "one: {c: {rule: email, domain: corp.test}, d: email, i: hash}")
    with Session(resolve(database.conninfo, ROOT), "test") as session, session.transaction() as tx:
        pass_key(tx.pg)
        assert misfits(tx, tx, catalog, catalog, fixed) == ()


def test_only_masks_with_a_keyed_rule_need_the_key(database: TestDatabase) -> None:
    database.sql("CREATE TABLE one (a text, b text, c text)")
    masks = masks_of(database, "one: {a: null, b: text, c: {rule: constant, value: x}}")
    assert not masks.needs_key
    assert {mask.rule.kind for mask in masks.masks if mask.is_masked} == {Kind.NULL, Kind.TEXT, Kind.CONSTANT}
    assert masks_of(database, "one: {a: hash}").needs_key
