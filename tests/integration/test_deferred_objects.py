"""Each transition of a deferred object ends with the object as it was declared, on either server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from confiture import catalog, config
from confiture.catalog_model import Catalog
from confiture.journal.deferred_objects import in_order
from confiture.journal.model import Deferred, DeferredForeignKey, deferred_as_json, deferred_from_json
from confiture.postgres.session import Session, Transaction
from confiture.schema_to_schema import deferred_objects
from confiture.schema_to_schema.deferred_objects import describe, foreign_keys, indexes
from servers import Databases, TestDatabase

TABLES = """
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (
    id int PRIMARY KEY,
    plain int CONSTRAINT plain REFERENCES parent,
    late int CONSTRAINT late REFERENCES parent DEFERRABLE,
    deferred int CONSTRAINT deferred REFERENCES parent DEFERRABLE INITIALLY DEFERRED,
    cascading int CONSTRAINT "cascading %s" REFERENCES parent ON DELETE CASCADE ON UPDATE SET NULL,
    small int UNIQUE
);
ALTER TABLE child ADD CONSTRAINT unchecked FOREIGN KEY (small) REFERENCES parent ON DELETE CASCADE NOT VALID;
COMMENT ON CONSTRAINT "cascading %s" ON child IS 'with an action';
CREATE INDEX child_plain ON child (plain) WITH (fillfactor = 70);
COMMENT ON INDEX child_plain IS 'of a column';
COMMENT ON CONSTRAINT child_small_key ON child IS 'of a constraint';
CREATE TABLE parts (id int, ref int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (10);
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
ALTER TABLE parts ADD CONSTRAINT of_parts FOREIGN KEY (ref) REFERENCES parent ON DELETE CASCADE;
CREATE INDEX parts_ref ON parts (ref);
CREATE DOMAIN few AS int;
ALTER DOMAIN few ADD CONSTRAINT is_few CHECK (VALUE < 10) NOT VALID;
COMMENT ON CONSTRAINT is_few ON DOMAIN few IS 'of a domain';
ALTER TABLE parts_low ADD CONSTRAINT positive CHECK (ref > 0) NOT VALID;
ALTER TABLE parts ADD CONSTRAINT positive CHECK (ref > 0) NOT VALID;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER always AFTER INSERT ON parts FOR EACH ROW EXECUTE FUNCTION nothing();
ALTER TABLE parts_low ENABLE ALWAYS TRIGGER always;
CREATE RULE nowhere AS ON DELETE TO child DO ALSO NOTHING;
ALTER TABLE child ENABLE REPLICA RULE nowhere;
CREATE TABLE unidentified (a int);
CREATE PUBLICATION of_all FOR TABLE unidentified WITH (publish = 'insert, delete');
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 2, 2);
INSERT INTO parts VALUES (1, 1), (20, 2);
"""
#: Constraints, except those of partitions that belong to a constraint of the root. The server chooses their names.
STATE = """
SELECT 'constraint', concat_ws(' ', conrelid::regclass, contypid::regtype, conname), pg_get_constraintdef(oid),
       convalidated::text, obj_description(oid, 'pg_constraint')
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conparentid = 0 AND contype <> 't'
UNION ALL
SELECT 'index', c.relname, pg_get_indexdef(c.oid), coalesce(p.inhparent::regclass::text, ''),
       obj_description(c.oid, 'pg_class')
FROM pg_class c LEFT JOIN pg_inherits p ON p.inhrelid = c.oid
WHERE c.relkind IN ('i', 'I') AND c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'trigger', tgrelid::regclass || ' ' || tgname, tgenabled::text, '', NULL FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'rule', rulename, ev_enabled::text, '', NULL FROM pg_rewrite WHERE rulename = 'nowhere'
UNION ALL
SELECT 'publication', pubname, concat_ws(' ', pubinsert, pubupdate, pubdelete, pubtruncate), '', NULL
FROM pg_publication
ORDER BY 1, 2
"""

Verb = Callable[[Transaction, Any], None]


@pytest.fixture(params=["databases", "old_databases"], ids=["newest", "old"])
def database(request: pytest.FixtureRequest) -> TestDatabase:
    """A database on the newest and on an old version of PostgreSQL."""
    made: Databases = request.getfixturevalue(request.param)
    return made.cloned(TABLES)


@pytest.fixture
def session(database: TestDatabase, tmp_path: Path) -> Iterator[Session]:
    with Session(config.resolve(database.conninfo, tmp_path), "test") as opened:
        yield opened


def keys(found: Catalog) -> list[DeferredForeignKey]:
    return [describe.foreign_key(key) for table in found.tables for key in table.foreign_keys]


def suspended(found: Catalog) -> list[Deferred]:
    of_tables = [i for t in found.tables for i in (*describe.triggers(t), *describe.rules(t))]
    checks = describe.unvalidated(found, [t.ref for t in found.tables])
    return [*describe.publications(found), *checks, *of_tables]


def apply(session: Session, items: Sequence[Deferred], verb: Verb) -> None:
    with session.transaction() as tx:
        for item in items:
            verb(tx, item)


def test_every_object_that_is_deferred_is_restored_as_declared(database: TestDatabase, session: Session) -> None:
    before = database.rows(STATE)
    with session.transaction() as tx:
        found = catalog.read(tx)
    trees = [i for t in found.tables for i in (*t.indexes, *t.partition_indexes)]
    built = [describe.index(i) for i in trees if i.name != "parent_pkey"]
    roots = [i for i in indexes.roots_first(built) if i.parent is None]
    apply(session, [*suspended(found), *keys(found), *roots], deferred_objects.take_off)
    off = database.rows(STATE)
    assert not [row for row in off if row[0] == "constraint" and row[2].startswith(("FOREIGN KEY", "CHECK"))]
    assert {row[2] for row in off if row[0] in ("trigger", "rule")} == {"D"}
    assert not [row for row in off if row[:2] == ("index", "child_plain")]
    items = [*indexes.roots_first(built), *keys(found), *in_order(suspended(found))]
    assert [deferred_from_json(json.loads(json.dumps(deferred_as_json(i)))) for i in items] == items
    apply(session, items, deferred_objects.restore)
    assert database.rows(STATE) == before


def validate_interim(tx: Transaction, item: DeferredForeignKey) -> None:
    """Validate a key as the rebuild does, unless it is declared NOT VALID."""
    if item.validated:
        foreign_keys.validate_interim(tx, item)


@pytest.mark.parametrize(
    "verbs",
    [
        (foreign_keys.relax, foreign_keys.replace_interim),
        (foreign_keys.relax, foreign_keys.declare, foreign_keys.validate_declared, foreign_keys.drop_interim),
        (deferred_objects.take_off, foreign_keys.add_interim, validate_interim, foreign_keys.replace_interim),
        (
            deferred_objects.take_off,
            foreign_keys.add_interim,
            validate_interim,
            foreign_keys.declare,
            foreign_keys.validate_declared,
            foreign_keys.drop_interim,
        ),
    ],
    ids=["relaxed", "relaxed and declared beside", "taken off", "taken off and declared beside"],
)
def test_a_foreign_key_ends_as_declared_on_every_path(
    database: TestDatabase, session: Session, verbs: Sequence[Verb]
) -> None:
    before = database.rows(STATE)
    with session.transaction() as tx:
        items = keys(catalog.read(tx))
    for verb in verbs[:-1]:
        apply(session, items, verb)
    interim = [row[2] for row in database.rows(STATE) if row[0] == "constraint" and "confiture_interim" in row[1]]
    assert len(interim) == 3
    assert all("ON DELETE" not in text and "DEFERRABLE INITIALLY DEFERRED" in text for text in interim)
    apply(session, items, verbs[-1])
    assert database.rows(STATE) == before


def test_foreign_key_dropped_until_the_cutover_ends_as_declared(database: TestDatabase, session: Session) -> None:
    before = database.rows(STATE)
    with session.transaction() as tx:
        items = [k for k in keys(catalog.read(tx)) if k.table.name == "child"]
    for verb in (deferred_objects.take_off, foreign_keys.restore_not_valid, foreign_keys.validate_restored):
        apply(session, items, verb)
    assert database.rows(STATE) == before
