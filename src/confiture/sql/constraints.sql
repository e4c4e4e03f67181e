-- name: invalid
-- Constraints and indexes of the planned tables that do not hold for every row.
SELECT con.conrelid::regclass::text, con.conname, 'constraint not validated'
FROM pg_constraint con
WHERE con.conrelid = ANY (%(tables)s::oid[]) AND NOT con.convalidated
  AND coalesce((to_jsonb(con)->>'conenforced')::bool, true)
UNION ALL
SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text, 'index not valid'
FROM pg_index i
WHERE i.indrelid = ANY (%(tables)s::oid[]) AND NOT (i.indisvalid AND i.indisready)
