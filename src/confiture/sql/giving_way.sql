-- name: waiting
-- Sessions that have waited for a while for a lock of ours (pid of ours, then the session). A role that may not see
-- another one's activity still sees that it waits. Autovacuum is not the application: its user is NULL.
-- A session of ours that waits itself, for the same lock, is only before it in the queue and blocks nothing.
SELECT b.pid, a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''),
       CASE WHEN a.query = '<insufficient privilege>' THEN '' ELSE coalesce(a.query, '') END
FROM pg_locks w
JOIN pg_stat_activity a ON a.pid = w.pid
CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) b(pid)
WHERE NOT w.granted AND w.waitstart < clock_timestamp() - make_interval(secs => %(seconds)s)
  AND a.usesysid IS NOT NULL AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
  AND b.pid = ANY (%(ours)s::int[]) AND NOT w.pid = ANY (%(ours)s::int[])
  AND NOT EXISTS (SELECT FROM pg_locks o WHERE o.pid = b.pid AND NOT o.granted
                  AND (o.locktype, o.database, o.relation) IS NOT DISTINCT FROM (w.locktype, w.database, w.relation))
