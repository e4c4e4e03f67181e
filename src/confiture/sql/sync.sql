-- name: run_schemas
-- The schemas in which moves into another schema keep their objects on the source.
SELECT n.nspname FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'fence'
WHERE n.nspname ~ '^confiture_[0-9a-f]{8}$' ORDER BY 1

-- name: unlogged
-- The unlogged tables and partitions, whose rows a standby does not have.
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'p')

-- name: snapshot_age
-- How many transactions have begun since the snapshot of this session was taken.
SELECT coalesce(age(backend_xmin), 0) FROM pg_stat_activity WHERE pid = pg_backend_pid()

-- name: clear_statistics
-- Remove the statistics of a table, its partitions and their indexes, which contain values: TRUNCATE leaves them, and
-- ANALYZE of a table without rows does, too. PostgreSQL 18.
WITH part AS (SELECT %(table)s::regclass AS oid UNION SELECT relid FROM pg_partition_tree(%(table)s::regclass)),
     relation AS (SELECT oid FROM part UNION SELECT i.indexrelid FROM pg_index i JOIN part p ON i.indrelid = p.oid)
SELECT pg_catalog.pg_clear_attribute_stats(s.schemaname::text, s.tablename::text, s.attname::text, s.inherited)
FROM relation r JOIN pg_class c ON c.oid = r.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname

-- name: result_table
-- The salted hashes of the distinct values of one masked column in the target.
CREATE TEMP TABLE confiture_result (hash bytea) ON COMMIT DROP

-- name: source_table
-- The salted hashes of the values of the column on the source; they end with the transaction.
CREATE TEMP TABLE confiture_source (hash bytea) ON COMMIT DROP

-- name: occurring
-- How many values of the result the source has too.
SELECT count(*) FROM pg_temp.confiture_result r
WHERE EXISTS (SELECT FROM pg_temp.confiture_source s WHERE s.hash = r.hash)
