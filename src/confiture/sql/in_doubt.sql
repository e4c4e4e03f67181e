-- name: index
-- The index with this name on a table: whether it is valid, and its name as SQL. No row when the table has no such index.
SELECT i.indisvalid AND i.indisready, format('%%I.%%I', n.nspname, c.relname)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = pg_catalog.to_regclass(%(table)s) AND c.relname = (pg_catalog.parse_ident(%(name)s))[1]::pg_catalog.name

-- name: relation
-- Whether a relation exists.
SELECT pg_catalog.to_regclass(%(name)s) IS NOT NULL

-- name: left_by_reindex
-- The invalid indexes that an interrupted REINDEX CONCURRENTLY has left.
WITH named AS (
    SELECT CASE WHEN %(catalog)s IN ('index', 'table') THEN pg_catalog.to_regclass(%(name)s) END::oid AS oid),
scope AS (
    SELECT oid FROM named
    UNION SELECT t.relid FROM named, pg_catalog.pg_partition_tree(named.oid) t),
indexed AS (
    SELECT oid FROM scope WHERE %(catalog)s = 'table'
    UNION
    SELECT x.indrelid FROM scope JOIN pg_catalog.pg_index x ON x.indexrelid = scope.oid WHERE %(catalog)s = 'index'
    UNION
    SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND (%(catalog)s IN ('database', 'system')
        OR %(catalog)s = 'schema' AND n.nspname = (pg_catalog.parse_ident(%(name)s))[1]::pg_catalog.name)
)
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
  AND i.indrelid IN (
      SELECT oid FROM indexed
      UNION SELECT r.reltoastrelid FROM pg_catalog.pg_class r JOIN indexed ON indexed.oid = r.oid)
ORDER BY 1

-- name: partition
-- Whether a partition is being detached. No row when it is not a partition of the table, or when it does not exist.
SELECT h.inhdetachpending FROM pg_catalog.pg_inherits h
WHERE h.inhrelid = pg_catalog.to_regclass(%(name)s) AND h.inhparent = pg_catalog.to_regclass(%(table)s)

-- name: database
-- Whether a database exists.
SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = (pg_catalog.parse_ident(%(name)s))[1]::pg_catalog.name)

-- name: tablespace
-- Whether a tablespace exists.
SELECT EXISTS (SELECT FROM pg_catalog.pg_tablespace WHERE spcname = (pg_catalog.parse_ident(%(name)s))[1]::pg_catalog.name)

-- name: subscription
-- Whether this database has a subscription. Every role may read these columns.
SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
    WHERE d.datname = current_database() AND s.subname = (pg_catalog.parse_ident(%(name)s))[1]::pg_catalog.name)
