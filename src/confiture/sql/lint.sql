-- name: tables
-- The tables and views that files may mean by the words in them, with those that such a word reaches: the tables of
-- indexes, the parents and partitions, and those with a column of a domain. Sizes are those of the files, without locks
-- but that of a reader; a partitioned table has the bytes and rows of its leaves.
WITH RECURSIVE named AS (
    SELECT c.oid FROM pg_class c WHERE c.relname = ANY (%(words)s::text[])
    UNION
    SELECT i.indrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = ANY (%(words)s::text[])
    UNION
    SELECT a.attrelid FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE t.typtype = 'd' AND t.typname = ANY (%(words)s::text[]) AND NOT a.attisdropped
), reached AS (
    SELECT oid FROM named
    UNION
    SELECT i.inhparent FROM pg_inherits i JOIN named n ON n.oid = i.inhrelid
), below AS (
    SELECT oid FROM reached
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN below b ON b.oid = i.inhparent
)
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       coalesce(s.bytes, 0)::bigint AS bytes, s.rows::bigint AS rows,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM pg_constraint p, unnest(p.conkey) WITH ORDINALITY AS k (number, place), pg_attribute a
        WHERE p.conrelid = c.oid AND p.contype = 'p' AND a.attrelid = c.oid AND a.attnum = k.number) AS key,
       (SELECT a.attname FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid
        WHERE p.partrelid = c.oid AND a.attnum = p.partattrs[0]) AS partition_key,
       pn.nspname AS parent_schema, pc.relname AS parent_name,
       EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partdefid = c.oid) AS is_default,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
               AND i.indpred IS NULL AND i.indexprs IS NULL) AS unique_index,
       (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid)::int AS policies
FROM below b JOIN pg_class c ON c.oid = b.oid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits h ON h.inhrelid = c.oid AND c.relispartition
LEFT JOIN pg_class pc ON pc.oid = h.inhparent LEFT JOIN pg_namespace pn ON pn.oid = pc.relnamespace
LEFT JOIN LATERAL (
    SELECT sum(pg_total_relation_size(l.oid)) AS bytes,
           CASE WHEN bool_or(l.reltuples >= 0) THEN sum(greatest(l.reltuples, 0)) END AS rows
    FROM (SELECT c.oid UNION SELECT t.relid FROM pg_partition_tree(c.oid) t) AS leaf (oid)
    JOIN pg_class l ON l.oid = leaf.oid AND l.relkind IN ('r', 'm')
) s ON true
WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^pg_(toast|temp)'

-- name: columns
-- The columns of tables. A constraint NOT NULL that is not valid proves nothing.
SELECT a.attrelid::bigint AS table_oid, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint n WHERE n.conrelid = a.attrelid AND n.contype::text = 'n'
                                    AND NOT n.convalidated AND a.attnum = ANY (n.conkey)) AS not_null
FROM pg_attribute a WHERE a.attrelid = ANY (%(tables)s::bigint[]) AND a.attnum > 0 AND NOT a.attisdropped

-- name: checks
-- The CHECK constraints of tables.
SELECT conrelid::bigint AS table_oid, conname AS name, pg_get_expr(conbin, conrelid) AS definition,
       convalidated AS validated
FROM pg_constraint WHERE conrelid = ANY (%(tables)s::bigint[]) AND contype = 'c'

-- name: dependents
-- The objects that use tables or their columns, and that a change of the type or a drop would concern.
SELECT d.refobjid::bigint AS table_oid, a.attname AS column,
       CASE WHEN g.oid IS NOT NULL THEN 'generated column' WHEN v.oid IS NULL THEN o.type WHEN v.relkind = 'm' THEN 'materialized view'
            WHEN v.relkind = 'v' THEN 'view' ELSE 'rule' END AS kind,
       CASE WHEN g.oid IS NOT NULL THEN (SELECT attname::text FROM pg_attribute
                                         WHERE attrelid = g.adrelid AND attnum = g.adnum)
            WHEN v.oid IS NULL THEN o.identity ELSE v.oid::regclass::text END AS name
FROM pg_depend d
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_class v ON v.oid = r.ev_class
LEFT JOIN pg_attrdef g ON d.classid = 'pg_attrdef'::regclass AND g.oid = d.objid AND g.adnum <> d.refobjsubid
LEFT JOIN pg_attribute a ON d.refobjsubid > 0 AND a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) o
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (%(tables)s::bigint[]) AND d.deptype IN ('n', 'a')
  AND (d.classid IN ('pg_proc'::regclass, 'pg_policy'::regclass)
       OR g.adrelid = d.refobjid AND d.refobjsubid > 0
       OR d.classid = 'pg_trigger'::regclass AND d.refobjsubid > 0
       OR d.classid = 'pg_rewrite'::regclass AND r.ev_class <> d.refobjid)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 4, 2

-- name: indexes
-- The indexes of the tables, and those named by the words.
SELECT n.nspname AS schema, c.relname AS name, tn.nspname AS table_schema, t.relname AS table_name,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum <= i.indnkeyatts) AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE i.indrelid = ANY (%(tables)s::bigint[])

-- name: functions
-- Functions of the words, and whether one of that name is volatile.
SELECT proname AS name, bool_or(provolatile = 'v') AS volatile FROM pg_proc
WHERE proname = ANY (%(words)s::text[]) GROUP BY proname

-- name: domains
-- The domains, with the types and constraints beneath them.
WITH RECURSIVE beneath AS (
    SELECT t.oid AS domain, t.oid, t.typbasetype, t.typtypmod FROM pg_type t WHERE t.typtype = 'd'
    UNION ALL
    SELECT b.domain, t.oid, t.typbasetype, t.typtypmod
    FROM beneath b JOIN pg_type t ON t.oid = b.typbasetype AND t.typtype = 'd'
)
SELECT d.typname AS name, format_type(d.typbasetype, d.typtypmod) AS base,
       EXISTS (SELECT FROM beneath b WHERE b.domain = d.oid AND (
           EXISTS (SELECT FROM pg_constraint c WHERE c.contypid = b.oid)
           OR EXISTS (SELECT FROM pg_type t WHERE t.oid = b.oid AND t.typnotnull))) AS constrained
FROM pg_type d WHERE d.typtype = 'd' AND d.typnamespace <> 'information_schema'::regnamespace
