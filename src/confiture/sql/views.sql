-- name: refresh_concurrently
-- Whether a materialized view (schema, name) can be refreshed CONCURRENTLY, without blocking its readers: it is populated
-- and has a unique index on columns, without a predicate.
SELECT c.relispopulated AND EXISTS (
    SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
        AND i.indpred IS NULL AND i.indexprs IS NULL)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) = (%s, %s) AND c.relkind = 'm'
