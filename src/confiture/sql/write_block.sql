-- The objects that refuse the application's writes to a database (capture/write_block.py).

-- name: function
-- Replacing this one function blocks writes, or allows them, on every table (I-8.5). It runs with the privileges of its
-- owner, no other role can call it, and its search path is its own (I-4.9).
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS {body};
REVOKE ALL ON FUNCTION {function}() FROM PUBLIC

-- name: refuse
-- The body while writes are blocked.
BEGIN
    RAISE EXCEPTION USING MESSAGE = {message}, ERRCODE = 'read_only_sql_transaction', HINT = {hint};
END

-- name: allow
-- The body while the application may write.
BEGIN
    RETURN NULL;
END

-- name: row_trigger
-- The server clones it to each partition, also to one that is attached later. The session setting marks the writes of
-- Confiture.
CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
WHEN (pg_catalog.current_setting({setting}, true) IS DISTINCT FROM {writer})
EXECUTE FUNCTION {function}()

-- name: truncate_trigger
-- The server does not clone it, so each partition has one of its own.
CREATE TRIGGER {trigger} BEFORE TRUNCATE ON {table} FOR EACH STATEMENT
WHEN (pg_catalog.current_setting({setting}, true) IS DISTINCT FROM {writer})
EXECUTE FUNCTION {function}()

-- name: always
-- Fire for the writes of a subscription too, and with session_replication_role = replica.
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}
