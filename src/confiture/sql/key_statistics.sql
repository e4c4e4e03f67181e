-- name: histogram
-- The bounds of the histogram that ANALYZE has made of a key column, in order, after a key: each two have about as many
-- rows between them. The smallest and the largest value are left out. Not for a type with a collation, because the
-- bounds would be sorted by another one than the column's. The number of parts of the whole histogram comes first.
SELECT h.parts, b.bound::text
FROM (
    SELECT s.histogram_bounds::text::{type}[] AS bounds, array_length(s.histogram_bounds::text::text[], 1) - 1 AS parts
    FROM pg_catalog.pg_stats s
        JOIN pg_catalog.pg_class c ON c.oid = {table}::regclass
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_attribute a ON (a.attrelid, a.attname, a.attcollation) = (c.oid, s.attname, 0)
    WHERE (s.schemaname, s.tablename, s.attname) = (n.nspname, c.relname, {column})
        AND s.inherited = (c.relkind = 'p' OR c.relhassubclass AND NOT {only})
        AND s.histogram_bounds IS NOT NULL
) h, unnest(h.bounds[2:h.parts]) b (bound)
WHERE {after}
ORDER BY b.bound
