-- name: partitioned
-- Whether a table (schema, name) is partitioned.
SELECT c.relkind = 'p'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) = (%s, %s)

-- name: validated
-- Whether a constraint (schema, table, name) holds for every row.
SELECT con.convalidated
FROM pg_constraint con JOIN pg_class c ON c.oid = con.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname, con.conname) = (%s, %s, %s)

-- name: invalid
-- Indexes of the planned tables that are not valid.
SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text
FROM pg_index i
WHERE i.indrelid = ANY (%(tables)s::oid[]) AND NOT (i.indisvalid AND i.indisready)
