-- name: bounds
-- The named sequences in their order, with what bounds them; no row for a name that is no sequence now.
SELECT w.n::int, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle
FROM unnest(%(schemas)s::text[], %(names)s::text[]) WITH ORDINALITY w(schema, name, n)
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_sequence s ON s.seqrelid = c.oid
ORDER BY w.n

-- name: set
-- Set every named sequence. Not transactional: it holds whatever becomes of the transaction.
SELECT setval(format('%%I.%%I', w.schema, w.name)::regclass, w.last, w.called)
FROM unnest(%(schemas)s::text[], %(names)s::text[], %(lasts)s::bigint[], %(calleds)s::boolean[])
     w(schema, name, last, called)
