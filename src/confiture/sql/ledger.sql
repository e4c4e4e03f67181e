-- name: exists
-- Whether this database has a ledger.
SELECT pg_catalog.to_regclass('confiture.ledger') IS NOT NULL

-- name: entries
-- The last execution of each migration by version.
SELECT l.version, l.name, l.direction, l.done_at IS NOT NULL AS done, l.up_checksum, l.down_checksum, l.out_of_order, l.baseline,
       left(l.run_id::text, 8) AS run, l.role, l.actor, l.tool_version, l.begun_at, l.done_at, l.seconds
FROM confiture.ledger l ORDER BY l.version

-- name: progress
-- The statements of a migration that were begun.
SELECT s.number, s.digest, s.done_at IS NOT NULL AS done FROM confiture.ledger_statement s WHERE s.version = %(version)s ORDER BY s.number

-- name: begin
-- Record that the file of one direction begins to run.
WITH discarded AS (DELETE FROM confiture.ledger_statement WHERE version = %(version)s)
INSERT INTO confiture.ledger (version, name, direction, up_checksum, down_checksum, out_of_order, run_id, actor, tool_version)
VALUES (%(version)s, %(name)s, %(direction)s, %(up)s, %(down)s, %(out_of_order)s, %(run)s, %(actor)s, %(tool)s)
ON CONFLICT (version) DO UPDATE
SET name = excluded.name, direction = excluded.direction, up_checksum = excluded.up_checksum, down_checksum = excluded.down_checksum,
    out_of_order = excluded.out_of_order, baseline = false, run_id = excluded.run_id, role = session_user, actor = excluded.actor,
    tool_version = excluded.tool_version, begun_at = clock_timestamp(), done_at = NULL, seconds = NULL

-- name: continue
-- Record the run that continues an execution, and the file as it is now.
UPDATE confiture.ledger
SET up_checksum = %(up)s, down_checksum = %(down)s, run_id = %(run)s, role = session_user, actor = %(actor)s, tool_version = %(tool)s
WHERE version = %(version)s

-- name: finish
-- Record that every statement of the execution is done.
UPDATE confiture.ledger l
SET done_at = clock_timestamp(), seconds = (SELECT sum(s.seconds) FROM confiture.ledger_statement s WHERE s.version = l.version)
WHERE l.version = %(version)s

-- name: record
-- Record a migration as applied without running it.
INSERT INTO confiture.ledger (version, name, direction, up_checksum, down_checksum, baseline, run_id, actor, tool_version, done_at)
VALUES (%(version)s, %(name)s, 'up', %(up)s, %(down)s, true, %(run)s, %(actor)s, %(tool)s, clock_timestamp())
ON CONFLICT (version) DO UPDATE
SET name = excluded.name, direction = 'up', up_checksum = excluded.up_checksum, down_checksum = excluded.down_checksum,
    out_of_order = false, baseline = true, run_id = excluded.run_id, role = session_user, actor = excluded.actor,
    tool_version = excluded.tool_version, begun_at = clock_timestamp(), done_at = clock_timestamp(), seconds = NULL

-- name: discard
-- Remove a migration that has no file any more.
DELETE FROM confiture.ledger WHERE version = %(version)s

-- name: statement_begun
-- Record that a statement begins to run outside a transaction.
INSERT INTO confiture.ledger_statement (version, number, digest) VALUES (%(version)s, %(number)s, %(digest)s)
ON CONFLICT (version, number) DO UPDATE SET digest = excluded.digest, begun_at = clock_timestamp(), done_at = NULL, seconds = NULL,
    resolution = NULL

-- name: statement_done
-- Record that a statement is done.
INSERT INTO confiture.ledger_statement (version, number, digest, done_at, seconds, resolution)
VALUES (%(version)s, %(number)s, %(digest)s, clock_timestamp(), %(seconds)s, %(resolution)s)
ON CONFLICT (version, number) DO UPDATE SET digest = excluded.digest, done_at = clock_timestamp(), seconds = excluded.seconds,
    resolution = coalesce(excluded.resolution, ledger_statement.resolution)

-- name: statement_failed
-- Discard the beginning of a statement that has certainly had no effect.
DELETE FROM confiture.ledger_statement WHERE version = %(version)s AND number = %(number)s AND done_at IS NULL
