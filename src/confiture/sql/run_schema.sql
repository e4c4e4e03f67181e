-- name: schema
-- The run's own schema. PUBLIC has no privilege on it, whatever the default privileges are.
CREATE SCHEMA IF NOT EXISTS {schema};
REVOKE ALL ON SCHEMA {schema} FROM PUBLIC

-- name: fence
-- One row: the epoch of the runner that may write, and the plan that the views were created for.
CREATE TABLE {schema}.fence (epoch bigint PRIMARY KEY, plan_hash text)

-- name: passes
-- One row: the last catch-up pass, the last reverse pass, and the target's WAL position at the latter. Not a part of
-- the fence, whose row a cutover locks while passes continue.
CREATE TABLE {schema}.passes (number bigint PRIMARY KEY, reverse bigint NOT NULL, target_lsn pg_lsn);
INSERT INTO {schema}.passes (number, reverse) VALUES (0, 0)

-- name: storage
-- The storages that capture began with, and those that a TRUNCATE created since. On both sides.
CREATE TABLE IF NOT EXISTS {schema}.storage (filenode oid NOT NULL)

-- name: deferred_object
-- Triggers, rules, constraints and foreign keys of the source that are off or relaxed while changes are applied in reverse.
CREATE TABLE {schema}.deferred_object (
    kind text, schema_name text, table_name text, name text, item jsonb NOT NULL,
    PRIMARY KEY (kind, schema_name, table_name, name)
)

-- name: fingerprint
-- The recorded definition of each table and of the database. root is 0 for the database. On both sides.
CREATE TABLE IF NOT EXISTS {schema}.fingerprint (
    root oid, aspect text, kind text NOT NULL, schema_name text NOT NULL, table_name text NOT NULL, fact text NOT NULL,
    PRIMARY KEY (root, aspect)
);
CREATE INDEX IF NOT EXISTS fingerprint_table ON {schema}.fingerprint (schema_name, table_name)

-- name: large_object
-- The large objects that were copied, as they were then; an empty object for one that is to be copied again. In the target.
CREATE TABLE IF NOT EXISTS {schema}.large_object (oid oid PRIMARY KEY, facts jsonb NOT NULL)

-- name: add_storage
-- Record the current storage of a table; nothing for a relation that has none.
INSERT INTO {schema}.storage
SELECT f FROM pg_relation_filenode(%s::regclass) f WHERE f IS NOT NULL

-- name: count_reverse_pass
-- The number of the reverse pass, in the transaction that holds its rows; no row where one side has lost a pass. The
-- source may be one ahead: a crash between the two commits repeats that pass, under the same number.
UPDATE {schema}.passes SET reverse = %(known)s + 1, target_lsn = %(lsn)s::pg_lsn
WHERE reverse BETWEEN %(known)s AND %(known)s + 1 AND coalesce(target_lsn <= %(lsn)s::pg_lsn, true)
RETURNING reverse
