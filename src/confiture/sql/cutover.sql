-- name: blockers
-- The sessions with a lock on the named tables or their partitions, or on a large object where the catalog of these is
-- named, that conflicts with a lock against writers; with ``readers``, the sessions with any lock. Confiture's own server
-- processes are excluded by process ID and start, because any application may set its application_name. Without
-- pg_read_all_stats, the state and query of other roles' sessions are not visible; their process ID and role are.
WITH RECURSIVE involved AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN unnest(%(schemas)s::text[], %(names)s::text[]) w(schema, name)
      ON w.schema = n.nspname AND w.name = c.relname
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN involved v ON v.oid = i.inhparent
)
SELECT DISTINCT a.pid, extract(epoch FROM a.backend_start)::text, coalesce(a.usename, p.owner)::text, coalesce(a.application_name, '')::text,
    coalesce(a.state, '')::text, extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
    coalesce(a.query, '')::text, coalesce(a.backend_type, '')::text, p.gid::text
FROM pg_locks l JOIN involved v ON v.oid IN (l.relation, l.classid)
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_locks x ON l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction AND x.locktype = 'transactionid'
LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
WHERE l.granted AND (%(readers)s OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND NOT EXISTS (SELECT FROM unnest(%(pids)s::int[], %(starts)s::text[]) ours(pid, started)
    WHERE ours.pid = a.pid AND ours.started = extract(epoch FROM a.backend_start)::text)
  AND (a.pid IS NOT NULL OR p.gid IS NOT NULL)
ORDER BY 6 DESC NULLS LAST, 1

-- name: terminate
-- Terminate one session, unless its process ID belongs to another session now. The start is NULL when it is not visible.
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
WHERE a.pid = %(pid)s AND extract(epoch FROM a.backend_start)::text IS NOT DISTINCT FROM %(started)s
