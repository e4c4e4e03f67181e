-- name: blockers
-- The sessions and prepared transactions for which a server process waits now, the oldest first. Confiture's own are excluded.
-- A prepared transaction has no process: pg_blocking_pids() reports 0 for it.
WITH waits AS (SELECT pg_catalog.pg_blocking_pids(%(pid)s) AS pids)
SELECT a.pid, extract(epoch FROM a.backend_start)::text, coalesce(a.usename, '')::text, coalesce(a.application_name, '')::text,
    coalesce(a.state, '')::text, extract(epoch FROM clock_timestamp() - a.xact_start)::float8, coalesce(a.query, '')::text,
    coalesce(a.backend_type, '')::text, NULL::text
FROM waits JOIN pg_catalog.pg_stat_activity a ON a.pid = ANY (waits.pids)
WHERE NOT a.pid = ANY (%(ours)s::int[])
UNION ALL
SELECT NULL, NULL, p.owner::text, '', '', extract(epoch FROM clock_timestamp() - p.prepared)::float8, '', '', p.gid::text
FROM waits JOIN pg_catalog.pg_prepared_xacts p ON 0 = ANY (waits.pids) AND p.database = current_database()
ORDER BY 6 DESC NULLS LAST, 1
