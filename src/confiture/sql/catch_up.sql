-- The statements of catch-up, in both directions (capture/apply.py, capture/reverse_apply.py).
-- {log}: the log of a table on the side where the application writes. {changed}: the temporary table on that side with
-- the changed keys of a pass. {keys}: the temporary table with the same keys, cast, on the side that passes keep up to date.

-- name: lock_passes
-- One session at a time works on the logs of a run (I-5.7). LOCK TABLE takes no snapshot, so that the snapshot of a pass
-- is newer than the commit that the pass has waited for. A lock on the row of the table would take one before it waits.
LOCK TABLE {passes} IN SHARE UPDATE EXCLUSIVE MODE

-- name: compact
-- Keep the newest log row of each key. Log rows are never updated, so ctid identifies them.
DELETE FROM {log} WHERE ctid IN (
    SELECT ctid FROM (
        SELECT ctid, row_number() OVER (PARTITION BY {log_key}, truncated ORDER BY at DESC) AS n FROM {log}
    ) l WHERE n > 1
)

-- name: temporary_table
-- Emptied by each commit; lives as long as its session.
CREATE TEMP TABLE IF NOT EXISTS {table} ({columns}) ON COMMIT DELETE ROWS

-- name: move_log
-- Move exactly the log rows of this snapshot into the temporary table, each key once.
WITH gone AS (DELETE FROM {log} RETURNING {log_key}, truncated)
INSERT INTO {changed} SELECT DISTINCT {log_key}, truncated FROM gone ORDER BY {log_key}

-- name: read_log
-- The same for a helper of the pass, in its snapshot. The session that exported the snapshot deletes the log rows.
INSERT INTO {changed} SELECT DISTINCT {log_key}, truncated FROM {log} ORDER BY {log_key}

-- name: discard_null_keys
-- A NULL key finds no row. A row whose key is no longer NULL was logged under its new key too.
DELETE FROM {changed} WHERE NOT truncated AND ({key_is_null})

-- name: read_keys
-- The changed keys, cast as the view of the table casts them.
COPY (SELECT {cast_key} FROM {changed} WHERE NOT truncated) TO STDOUT

-- name: was_truncated
-- Whether a TRUNCATE is among the changes.
SELECT 1 FROM {changed} WHERE truncated LIMIT 1

-- name: add_gone_keys
-- After a TRUNCATE: add the keys of rows that no longer exist on the other side (I-5.11). {existing}: the keys that do.
INSERT INTO {keys} SELECT {own_key} FROM {table} t WHERE NOT EXISTS (SELECT FROM {existing} k WHERE {matches})

-- name: read_existing_keys
-- Every key that the snapshot of a pass has.
COPY (SELECT {key} FROM {view}) TO STDOUT

-- name: delete_rows
-- Delete the rows of the changed keys.
DELETE FROM {table} t USING {keys} k WHERE {matches}

-- name: read_rows
-- The rows that exist under the changed keys, through the one view of the table.
COPY (SELECT {columns} FROM {changed} c JOIN {view} v ON {same_key} WHERE NOT c.truncated)
TO STDOUT (FORMAT {format})

-- name: saved_rows
-- The values of columns that no pass reads, with the key of their row.
CREATE TEMP TABLE IF NOT EXISTS {saved} ON COMMIT DELETE ROWS AS SELECT {preserved} FROM {table} t WITH NO DATA

-- name: delete_and_save_rows
-- Delete the rows of the changed keys, and save the values that no pass reads.
WITH gone AS (DELETE FROM {table} t USING {keys} k WHERE {matches} RETURNING {preserved})
INSERT INTO {saved} SELECT * FROM gone

-- name: insert_saved_rows
-- Rows that existed before keep the values that no pass reads.
INSERT INTO {table} ({columns}, {preserved}) OVERRIDING SYSTEM VALUE
SELECT {values}, {saved_values} FROM {rows} r JOIN {saved} s ON {same_key}

-- name: insert_new_rows
-- Rows that did not exist before get defaults.
INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {values} FROM {rows} r WHERE NOT EXISTS (SELECT FROM {saved} s WHERE {same_key})

-- name: log_in_reverse
-- Log the keys of a reverse pass on the source again (I-7.6).
INSERT INTO {log} ({log_key}) SELECT {typed_key} FROM {keys}

-- name: read_gone_in_reverse
-- The keys, as text, of rows that the run moved and that a TRUNCATE of the target removed. {moved}: the rows of the
-- source that the run moved. Rows that $where left behind were never in the target.
COPY (SELECT {images} FROM ({moved}) t WHERE NOT EXISTS (SELECT FROM {existing} k WHERE {matches})) TO STDOUT

-- name: add_gone_in_reverse
-- The same keys, added to those of the pass.
INSERT INTO {keys} SELECT {own_key} FROM ({moved}) t WHERE NOT EXISTS (SELECT FROM {existing} k WHERE {matches})

-- name: connections
-- Pairs of tables that are connected in the target, each by its OID: by a foreign key, or as a parent and its partition
-- or child. A foreign key that the run has dropped for now connects nothing.
SELECT conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f'
UNION SELECT inhrelid::bigint, inhparent::bigint FROM pg_inherits

-- name: copy_keys_as_text
-- The changed keys of a reverse pass, as text.
INSERT INTO {texts} SELECT {key_texts} FROM {changed} WHERE NOT truncated

