-- name: journal
-- Whether there is a journal here, and the server's clock.
SELECT to_regclass('confiture.run') IS NOT NULL, clock_timestamp()

-- name: version
-- The newest step of the control schema.
SELECT max(version) FROM confiture.migration

-- name: runs
-- Every run of this target: the one that is not over first, then the newest.
SELECT id, state, state_since, started_at, source_name, source_conninfo, source_identity, target_name, plan_hash,
       writes_served_by, cutover_phase, blocked_reason
FROM confiture.run ORDER BY state IN ('cleaned', 'aborted'), state_since DESC

-- name: runner
-- Who runs the run, or ran it last.
SELECT host, pid, command, tool_version, started_at, heartbeat_at, ended_at, ended_why, target_backends
FROM confiture.runner WHERE run_id = %(run)s ORDER BY epoch DESC LIMIT 1

-- name: restarts
-- How often a dead runner was taken over from, and when last.
SELECT count(*)::int, max(at) FROM confiture.event WHERE run_id = %(run)s AND kind = 'takeover'

-- name: reached
-- When each state was reached last.
SELECT to_state, max(at) FROM confiture.event WHERE run_id = %(run)s AND to_state IS NOT NULL GROUP BY to_state

-- name: events
-- What went wrong in the last 24 hours.
SELECT at, kind, detail FROM confiture.event
WHERE run_id = %(run)s AND at > %(now)s - interval '24 hours' AND kind IN ('bad row', 'blocked', 'takeover')
ORDER BY id

-- name: steps
-- The setup steps that are done.
SELECT name FROM confiture.step WHERE run_id = %(run)s AND phase = 'setup' AND status = 'done'

-- name: request
-- The last word on whether to pause.
SELECT kind, at FROM confiture.request WHERE run_id = %(run)s AND kind IN ('pause', 'resume') ORDER BY id DESC LIMIT 1

-- name: verifications
-- The last attempt at verifying, and the last that came to a verdict.
WITH v AS (SELECT * FROM confiture.verification WHERE run_id = %(run)s)
SELECT started_at, ended_at, plan_hash, purpose, verdict,
       (SELECT count(*) FROM confiture.difference d
        WHERE (d.run_id, d.verification) = (v.run_id, v.number))::int AS differences
FROM v
WHERE number IN (SELECT max(number) FROM v UNION SELECT max(number) FROM v WHERE verdict IS NOT NULL)
ORDER BY number DESC

-- name: deferred
-- Indexes and constraints the load took off, by table: how many, and how many are back.
SELECT schema_name, table_name, count(*)::int, count(*) FILTER (WHERE status <> 'off')::int
FROM confiture.deferred_object WHERE run_id = %(run)s AND kind IN ('index', 'constraint') GROUP BY 1, 2

-- name: tables
-- The tables of the plan and how far each is.
SELECT number, source_schema, source_table, target_schema, target_table, estimate, phase, rows_done,
       started_at, finished_at, plan -> 'key' AS key, plan ->> 'rollback_problem' AS rollback_problem
FROM confiture.table_plan WHERE run_id = %(run)s ORDER BY number

-- name: chunks
-- What the chunks say, by table; recent is what was done in the window that rates are taken over.
SELECT c.table_number,
       count(*) FILTER (WHERE c.status = 'failed')::int AS failed,
       max(c.attempts) AS attempts,
       max(c.done_at) AS done_at,
       coalesce(sum(c.rows) FILTER (WHERE recent), 0)::bigint AS recent_rows,
       min(c.done_at - make_interval(secs => coalesce(c.seconds, 0))) FILTER (WHERE recent) AS recent_since,
       (SELECT d.upper_key FROM confiture.chunk d WHERE (d.run_id, d.table_number) = (c.run_id, c.table_number)
            AND d.status = 'done' ORDER BY d.number DESC LIMIT 1) AS checkpoint,
       (SELECT f.error FROM confiture.chunk f WHERE (f.run_id, f.table_number) = (c.run_id, c.table_number)
            AND f.status = 'failed' ORDER BY f.number LIMIT 1) AS error
FROM confiture.chunk c, LATERAL (SELECT c.done_at > %(now)s - make_interval(secs => %(window)s)) w(recent)
WHERE c.run_id = %(run)s GROUP BY c.run_id, c.table_number

-- name: locks
-- Sessions that wait for a lock of ours, and those ours wait for. Prepared transactions have pid 0.
WITH ours AS (
    SELECT a.pid FROM pg_stat_activity a
    JOIN unnest(%(pids)s::int[], %(starts)s::text[]) w(pid, started)
      ON w.pid = a.pid AND w.started = extract(epoch FROM a.backend_start)::text
), pairs AS (
    SELECT true AS waits_on_us, a.pid, a.query_start AS since FROM pg_stat_activity a
    WHERE a.wait_event_type = 'Lock' AND a.pid NOT IN (SELECT pid FROM ours)
      AND pg_blocking_pids(a.pid) && ARRAY(SELECT pid FROM ours)
    UNION
    SELECT false, b.pid, x.query_start FROM ours o JOIN pg_stat_activity x USING (pid), unnest(pg_blocking_pids(o.pid)) b(pid)
)
SELECT p.waits_on_us, p.pid, a.usename::text AS "user", a.application_name AS application,
       greatest(0, extract(epoch FROM clock_timestamp() - p.since))::float8 AS seconds
FROM pairs p LEFT JOIN pg_stat_activity a USING (pid) ORDER BY p.since
