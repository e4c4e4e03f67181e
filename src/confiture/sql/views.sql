-- name: refresh_concurrently
-- Whether a materialized view (schema, name) is populated and has a unique index of plain columns over every row:
-- it is then refreshed without blocking its readers.
SELECT c.relispopulated AND EXISTS (
    SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
        AND i.indpred IS NULL AND i.indexprs IS NULL)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) = (%s, %s) AND c.relkind = 'm'
