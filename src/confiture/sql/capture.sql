-- The objects that log which rows of a source table the application changes (capture/triggers.py).
-- {log}: the table's log. {log_key}: its key columns k1, k2... {storage}: the run's table of storages.

-- name: log_table
-- One row for each key of a changed row. REPLICA IDENTITY FULL lets the rows be deleted where a publication is FOR ALL
-- TABLES (I-4.10). There is no index: maintaining one takes as long as writing the log.
CREATE TABLE {log} ({key}, truncated boolean NOT NULL DEFAULT false, at timestamptz NOT NULL DEFAULT now());
ALTER TABLE {log} REPLICA IDENTITY FULL

-- name: record_storage
-- The storage of one table, or of one partition: a partitioned table itself has none.
INSERT INTO {storage} SELECT f FROM pg_relation_filenode({table}::regclass) f WHERE f IS NOT NULL

-- name: function
-- A trigger function. It runs with the privileges of its owner, because application roles have none on the run's
-- schema. No other role can call it, and its search path is its own (I-4.9).
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $confiture$
BEGIN
    {statements};
    RETURN NULL;
END
$confiture$;
REVOKE ALL ON FUNCTION {function}() FROM PUBLIC

-- name: key
-- The key of each row of {rows}, whose columns are named by position: a function that used the table's own names would
-- fail, and every write of the application with it, once the application renames a column of the key.
SELECT {key} FROM {rows} AS t({columns})

-- name: log_keys
-- Log every key of a query.
INSERT INTO {log} ({log_key}) {keys}

-- name: log_row
-- Log the old and the new key of a row. A key that did not change is logged once.
IF TG_OP = 'INSERT' THEN
    INSERT INTO {log} ({log_key}) {new_key};
ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO {log} ({log_key}) {old_key};
ELSE
    INSERT INTO {log} ({log_key}) {old_key} UNION {new_key};
END IF

-- name: log_row_of
-- Some partitions order their columns differently; for them {statements} run, for all others {otherwise}.
IF TG_RELID IN ({partitions}) THEN
    {statements};
ELSE
    {otherwise};
END IF

-- name: log_truncate
-- Log that every row is gone. TRUNCATE gives a table new storage: a storage that is not recorded here was created by a
-- rewrite that nothing has logged. A table with partitions has no storage.
INSERT INTO {log} (truncated) VALUES (true);
INSERT INTO {storage} SELECT f FROM pg_relation_filenode(TG_RELID) f WHERE f IS NOT NULL

-- name: statement_trigger
-- {operation} is INSERT, UPDATE or DELETE; {version} NEW or OLD. The session setting marks the writes of Confiture.
CREATE TRIGGER {trigger} AFTER {operation} ON {table}
REFERENCING {version} TABLE AS {rows} FOR EACH STATEMENT
WHEN (pg_catalog.current_setting({setting}, true) IS DISTINCT FROM {writer})
EXECUTE FUNCTION {function}()

-- name: key_trigger
-- The old key of a row whose key changed. Nearly no UPDATE changes a key, and to compare both transition tables of every
-- statement takes as long as to log it.
CREATE TRIGGER {trigger} AFTER UPDATE ON {table} FOR EACH ROW
WHEN (
    ROW({old_key}) IS DISTINCT FROM ROW({new_key})
    AND pg_catalog.current_setting({setting}, true) IS DISTINCT FROM {writer}
)
EXECUTE FUNCTION {function}()

-- name: row_trigger
-- Where statement-level triggers miss rows: partitioned tables, and tables that a subscription writes to.
CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
WHEN (pg_catalog.current_setting({setting}, true) IS DISTINCT FROM {writer})
EXECUTE FUNCTION {function}()

-- name: truncate_trigger
-- The server does not clone it, so each partition has one of its own.
CREATE TRIGGER {trigger} AFTER TRUNCATE ON {table} FOR EACH STATEMENT
WHEN (pg_catalog.current_setting({setting}, true) IS DISTINCT FROM {writer})
EXECUTE FUNCTION {function}()

-- name: always
-- Fire for the writes of a subscription too, and with session_replication_role = replica (I-4.5).
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}
