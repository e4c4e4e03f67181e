-- name: bounds
-- The bounds of the named sequences, in their order; no row for a name that is not a sequence.
SELECT w.n::int, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle
FROM unnest(%(schemas)s::text[], %(names)s::text[]) WITH ORDINALITY w(schema, name, n)
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_sequence s ON s.seqrelid = c.oid
ORDER BY w.n

-- name: set
-- Set every named sequence. Not transactional: the values remain set after a rollback.
SELECT setval(format('%%I.%%I', w.schema, w.name)::regclass, w.last, w.called)
FROM unnest(%(schemas)s::text[], %(names)s::text[], %(lasts)s::bigint[], %(calleds)s::boolean[])
     w(schema, name, last, called)
