-- name: constrained
-- The columns that a constraint or an index of a table is about, in order.
SELECT a.attname FROM pg_class t
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN LATERAL (
    SELECT k.attnum, k.place FROM pg_constraint c CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY k(attnum, place)
    WHERE c.conrelid = t.oid AND c.conname = %(constraint)s
    UNION
    SELECT k.attnum, k.place FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
    WHERE i.indrelid = t.oid AND x.relname = %(constraint)s
) k
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
WHERE n.nspname = %(schema)s AND t.relname = %(name)s
ORDER BY k.place
