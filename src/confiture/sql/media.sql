-- name: migrations_run
-- The run of migrations that is not over, else the last one.
SELECT r.id, r.state, r.state_since, r.started_at, r.target_name, r.blocked_reason,
       extract(epoch FROM clock_timestamp() - r.started_at)::float8 AS age
FROM confiture.run r WHERE r.medium = 'migrations'
ORDER BY r.state IN ('cleaned', 'aborted'), r.started_at DESC LIMIT 1

-- name: syncs
-- The sync that is not over, then the newest ones, each with what it has recorded of its columns and its foreign keys.
SELECT r.id, r.state, r.state_since, r.started_at, r.source_name, r.source_conninfo, r.source_identity, r.target_name,
       r.blocked_reason, r.options, r.plan IS NOT NULL AS planned,
       extract(epoch FROM clock_timestamp() - r.started_at)::float8 AS age,
       (SELECT e.actor FROM confiture.event e WHERE e.run_id = r.id AND e.kind = 'created') AS actor,
       p.at AS proved_at, p.detail -> 'columns' AS proved, c.detail AS report
FROM confiture.run r
LEFT JOIN LATERAL (SELECT e.at, e.detail FROM confiture.event e WHERE e.run_id = r.id AND e.kind = 'leak proof'
                   ORDER BY e.id DESC LIMIT 1) p ON true
LEFT JOIN confiture.event c ON c.run_id = r.id AND c.kind = 'complete'
WHERE r.medium = 'sync' ORDER BY r.state IN ('cleaned', 'aborted'), r.started_at DESC LIMIT %(most)s

-- name: blocking
-- The sessions that the sessions of the runner wait for, the oldest transaction first. A prepared transaction has no session.
SELECT DISTINCT a.pid, coalesce(a.usename, '')::text AS role, coalesce(a.application_name, '')::text AS application,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds
FROM confiture.runner r, jsonb_array_elements(r.target_backends) b
JOIN pg_stat_activity w ON w.pid = (b ->> 0)::int AND extract(epoch FROM w.backend_start)::text = b ->> 1
JOIN pg_stat_activity a ON a.pid = ANY (pg_blocking_pids(w.pid))
WHERE r.run_id = %(run)s AND r.ended_at IS NULL AND w.wait_event_type = 'Lock'
ORDER BY seconds DESC NULLS LAST, pid

-- name: statements
-- How many statements of the migrations that are not finished are done.
SELECT s.version, count(*)::int AS done FROM confiture.ledger_statement s WHERE s.done_at IS NOT NULL GROUP BY s.version
