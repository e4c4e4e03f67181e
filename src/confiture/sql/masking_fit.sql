-- name: checks
-- The CHECK constraints of tables, with their columns. They are evaluated over masked values of the source.
SELECT n.nspname, c.relname, con.conname, pg_catalog.pg_get_expr(con.conbin, con.conrelid),
       ARRAY(SELECT a.attname::text FROM unnest(con.conkey) k(attnum)
             JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum)
FROM pg_constraint con JOIN pg_class c ON c.oid = con.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE con.contype = 'c' AND con.conrelid = ANY (%(tables)s::oid[])
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", con.conname COLLATE "C"

-- name: column
-- The longest masked value, and whether a value that is not NULL becomes NULL. Each value is cast to the column's type.
SELECT pg_catalog.max({length}), pg_catalog.count(*) FILTER (WHERE s.before IS NOT NULL AND s.value IS NULL),
       pg_catalog.count({cast})
FROM (SELECT (
{expression}
)::{wire} AS value, {column} AS before FROM {table} LIMIT {rows}) AS s

-- name: check
-- How many rows with their masked values violate a constraint.
SELECT pg_catalog.count(*) FILTER (WHERE ({condition}) IS FALSE)
FROM (SELECT {columns} FROM {table} LIMIT {rows}) AS {alias}
