-- name: now
-- This server's clock, and what it is.
SELECT clock_timestamp(), current_setting('server_version'), to_regclass('confiture.run') IS NOT NULL,
       to_regclass('confiture.migration') IS NOT NULL

-- name: runs
-- Every run of this target, the live one first.
SELECT r.id, r.state, r.state_since, r.started_at, r.source_name, r.target_name, r.writes_served_by,
       r.blocked_reason, r.cutover_phase,
       coalesce((r.options->>'capture')::bool, false) AS captured,
       (SELECT t->'target'->>'schema' || '.' || (t->'target'->>'name') || ': ' || (t->>'rollback_problem')
        FROM jsonb_array_elements(r.plan->'tables') t WHERE t->>'rollback_problem' IS NOT NULL LIMIT 1) AS no_way_back,
       r.state IN ('cleaned', 'aborted') AS over
FROM confiture.run r ORDER BY over, r.state_since DESC

-- name: runner
-- The last runner, how long it is silent by this server's clock, and how often others came before it.
SELECT n.host, n.pid, n.command, n.tool_version, n.heartbeat_at, n.started_at, n.ended_at, n.ended_why,
       extract(epoch FROM clock_timestamp() - n.heartbeat_at)::float8 AS silent,
       n.target_backends = '[]' OR EXISTS (
           SELECT FROM jsonb_array_elements(n.target_backends) b JOIN pg_stat_activity a ON a.pid = (b->>0)::int
           WHERE coalesce(a.backend_start = (b->>1)::timestamptz, true)) AS connected,
       (SELECT count(*) FROM confiture.event e WHERE e.run_id = n.run_id AND e.kind = 'takeover') AS restarts,
       (SELECT max(e.at) FROM confiture.event e WHERE e.run_id = n.run_id AND e.kind = 'takeover') AS last_restart
FROM confiture.runner n WHERE n.run_id = %(run)s ORDER BY n.epoch DESC LIMIT 1

-- name: tables
-- Each table's rows, its last checkpoint, what failed, and its rows of the last ten minutes.
SELECT t.number, quote_ident(t.source_schema) || '.' || quote_ident(t.source_table) AS source,
       quote_ident(t.target_schema) || '.' || quote_ident(t.target_table) AS target,
       t.phase, t.estimate, t.sealed, t.rows_done, t.plan->>'strategy' AS strategy,
       c.checkpoint, c.attempts, c.failed, c.last_error, coalesce(c.recent, 0)::bigint AS recent, c.first_recent,
       (SELECT string_agg(k->>'source', ', ') FROM jsonb_array_elements(t.plan->'key') k) AS key
FROM confiture.table_plan t
LEFT JOIN LATERAL (
    SELECT (array_agg(c.upper_key ORDER BY c.number DESC) FILTER (WHERE c.status = 'done' AND c.upper_key IS NOT NULL))[1]
               AS checkpoint,
           coalesce(max(c.attempts), 0) AS attempts, count(*) FILTER (WHERE c.status = 'failed') AS failed,
           (array_agg(c.error->>'message') FILTER (WHERE c.error IS NOT NULL))[1] AS last_error,
           sum(c.rows) FILTER (WHERE c.done_at > clock_timestamp() - interval '10 minutes') AS recent,
           min(c.done_at - make_interval(secs => c.seconds))
               FILTER (WHERE c.done_at > clock_timestamp() - interval '10 minutes') AS first_recent
    FROM confiture.chunk c WHERE c.run_id = t.run_id AND c.table_number = t.number
) c ON true
WHERE t.run_id = %(run)s ORDER BY t.number

-- name: rebuilding
-- Indexes and constraints of each table that are back, of those taken off.
SELECT quote_ident(d.schema_name) || '.' || quote_ident(d.table_name) AS target,
       count(*) FILTER (WHERE d.status <> 'off') AS back, count(*) AS taken
FROM confiture.deferred_object d WHERE d.run_id = %(run)s AND d.kind <> 'trigger' GROUP BY 1

-- name: changes
-- Passes of catch-up, and how far behind the source the target was when last measured.
SELECT c.rows AS applied, c.backlog, c.oldest AS oldest_seconds FROM confiture.catchup c WHERE c.run_id = %(run)s

-- name: verification
-- The last verification, its differences, and whether rows were copied after it.
SELECT v.verdict, coalesce(v.ended_at, v.started_at) AS checked_at, v.purpose,
       v.plan_hash IS DISTINCT FROM r.plan_hash
         OR EXISTS (SELECT FROM confiture.chunk c WHERE c.run_id = v.run_id AND c.done_at > v.started_at) AS stale,
       (SELECT count(*) FROM confiture.difference d WHERE d.run_id = v.run_id AND d.verification = v.number) AS differences
FROM confiture.verification v JOIN confiture.run r ON r.id = v.run_id
WHERE v.run_id = %(run)s ORDER BY v.number DESC LIMIT 1

-- name: errors
-- What went wrong in the last 24 hours.
SELECT e.at, e.kind, coalesce(e.detail->>'message', e.detail->>'reason', e.detail->>'command', '') AS text
FROM confiture.event e
WHERE e.run_id = %(run)s AND e.kind IN ('bad row', 'blocked', 'takeover')
  AND e.at > clock_timestamp() - interval '24 hours' ORDER BY e.at DESC LIMIT 20

-- name: paused
-- When the run was asked to pause, if that still holds.
SELECT extract(epoch FROM clock_timestamp() - q.at)::float8, q.at
FROM (SELECT kind, at FROM confiture.request WHERE run_id = %(run)s AND kind IN ('pause', 'resume')
      ORDER BY id DESC LIMIT 1) q WHERE q.kind = 'pause'

-- name: locks
-- Sessions of this database that wait for our recorded ones, and ours that wait for others.
WITH ours AS (
    SELECT (b->>0)::int AS pid FROM confiture.runner n, jsonb_array_elements(n.target_backends) b
    WHERE n.run_id = %(run)s AND n.ended_at IS NULL
)
SELECT count(*) FILTER (WHERE a.pid NOT IN (SELECT pid FROM ours)
                        AND pg_blocking_pids(a.pid) && (SELECT array_agg(pid) FROM ours)) AS waiting_for_us,
       count(*) FILTER (WHERE a.pid IN (SELECT pid FROM ours) AND pg_blocking_pids(a.pid) <> '{}') AS we_wait
FROM pg_stat_activity a WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'
