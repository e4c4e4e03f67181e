-- name: blockers
-- Who holds a lock that keeps writers' lock away, on the named tables or their partitions: one text each.
-- Without pg_read_all_stats, what other roles' sessions do is hidden, their pid and role are not.
WITH RECURSIVE involved AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN unnest(%(schemas)s::text[], %(names)s::text[]) w(schema, name)
      ON w.schema = n.nspname AND w.name = c.relname
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN involved v ON v.oid = i.inhparent
)
SELECT DISTINCT CASE
    WHEN p.gid IS NOT NULL THEN format('the prepared transaction %%L of %%s', p.gid, p.owner)
    ELSE format('pid %%s (%%s, %%s, %%s, in a transaction for %%s)', a.pid, a.usename,
                coalesce(nullif(a.application_name, ''), 'no name'), coalesce(a.state, 'state hidden'),
                coalesce(date_trunc('second', clock_timestamp() - a.xact_start)::text, 'a time that is hidden')) END
FROM pg_locks l JOIN involved v ON v.oid = l.relation
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_locks x ON l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction AND x.locktype = 'transactionid'
LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
WHERE l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND coalesce(a.application_name, '') !~ '^confiture '
  AND (a.pid IS NOT NULL OR p.gid IS NOT NULL)
