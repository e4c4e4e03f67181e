-- The course of a run, for the charts of the page (status/course_reader.py). Each block returns few rows, also of a run with
-- 200,000 chunks.

-- name: now
-- The clock, when the run began, and when the last verification of its rows began and ended.
SELECT clock_timestamp() AS now, r.started_at AS began, v.number, v.started_at AS verification_began, v.ended_at AS verification_ended
FROM confiture.run r
LEFT JOIN LATERAL (
    SELECT number, started_at, ended_at FROM confiture.verification
    WHERE run_id = r.id AND (purpose = 'verify' OR verdict IS NOT NULL) ORDER BY number DESC LIMIT 1) v ON true
WHERE r.id = %(run)s

-- name: tables
-- Each table with the time of its copy.
SELECT t.number, t.source_schema, t.source_table, t.target_schema, t.target_table, t.phase, t.estimate, t.rows_done, t.sealed,
       coalesce(c.failed, 0) AS failed, least(t.started_at, c.began) AS began, c.ended, coalesce(c.chunks, 0) AS chunks
FROM confiture.table_plan t
LEFT JOIN (
    SELECT table_number, count(*)::int AS chunks, count(*) FILTER (WHERE status = 'failed')::int AS failed, max(done_at) AS ended,
           min(done_at - make_interval(secs => coalesce(seconds, 0))) AS began
    FROM confiture.chunk WHERE run_id = %(run)s GROUP BY table_number
) c ON c.table_number = t.number
WHERE t.run_id = %(run)s ORDER BY t.number

-- name: indexes
-- The indexes and constraints that the load removed.
SELECT kind, schema_name, table_name, name FROM confiture.deferred_object
WHERE run_id = %(run)s AND kind IN ('index', 'constraint') ORDER BY 1, 2, 3, 4

-- name: rebuilt
-- The steps that have restored indexes and constraints.
SELECT name, begun_at, done_at FROM confiture.step WHERE run_id = %(run)s AND phase = 'rebuild' AND status = 'done'

-- name: compared
-- Each table in a verification: its first and its last part, and the number of parts.
SELECT subject, min(at) AS first, max(at) AS last, count(*)::int AS parts, bool_and(equal) AS equal FROM confiture.verified_unit
WHERE run_id = %(run)s AND verification = %(number)s AND check_name = 'rows' GROUP BY subject

-- name: transitions
-- Every state that the run reached.
SELECT at, actor, to_state FROM confiture.event WHERE run_id = %(run)s AND to_state IS NOT NULL ORDER BY id

-- name: requests
-- The newest requests to pause and to resume, the oldest first.
SELECT at, kind, actor FROM (
    SELECT * FROM confiture.request WHERE run_id = %(run)s AND kind IN ('pause', 'resume') ORDER BY id DESC LIMIT %(most)s) w ORDER BY id

-- name: runners
-- The newest commands that have held the run, the oldest first, with the reason that blocked the run in each. A command that was
-- taken over from was last seen at its heartbeat.
SELECT r.epoch, r.host, r.pid, r.command, r.started_at, r.heartbeat_at, r.ended_at, r.ended_why, e.actor, e.blocked
FROM (SELECT * FROM confiture.runner WHERE run_id = %(run)s ORDER BY epoch DESC LIMIT %(most)s) r
LEFT JOIN (
    SELECT epoch, min(actor) FILTER (WHERE kind <> 'blocked') AS actor, max(detail ->> 'reason') FILTER (WHERE kind = 'blocked') AS blocked
    FROM confiture.event WHERE run_id = %(run)s AND kind IN ('start', 'takeover', 'blocked') GROUP BY epoch
) e USING (epoch) ORDER BY r.epoch

-- name: samples
-- The samples by time.
SELECT at, epoch, state, rows_done, backlog, oldest, replica_lag, throttled FROM confiture.sample
WHERE run_id = %(run)s ORDER BY at

-- name: pauses
-- The newest rehearsals and write pauses, the oldest first.
SELECT at, kind, actor, detail FROM (
    SELECT * FROM confiture.event
    WHERE run_id = %(run)s AND kind IN ('rehearsed', 'write pause') ORDER BY id DESC LIMIT %(most)s) w ORDER BY id
