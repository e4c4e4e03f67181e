-- name: relations
-- The relations that exist before the statements run: what a dropped one was called, and about how large it was.
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relpages::bigint * current_setting('block_size')::bigint,
       c.reltuples::float8
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'

-- name: locks
-- The locks of this session on relations, and how large the relation is; 0 for one that this transaction has dropped.
SELECT l.relation::bigint, l.mode,
       CASE WHEN c.relkind IN ('r', 'm', 't', 'i') THEN pg_catalog.pg_total_relation_size(c.oid) ELSE 0 END
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
WHERE l.locktype = 'relation' AND l.granted AND l.pid = pg_catalog.pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
ORDER BY 1, 2
