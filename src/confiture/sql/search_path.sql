-- name: relying
-- Expressions of tables and materialized views that run a function whose body is a string and which has no search_path
-- of its own: such a function finds its objects in the search_path of the session. The query follows operators,
-- operator classes, aggregates, domains with CHECK constraints, views, and functions with parsed bodies.
WITH RECURSIVE object AS (
    SELECT 'index' AS kind, c.relname::text AS name, i.indrelid AS rel, NULL::text AS col,
        'pg_class'::regclass::oid AS classid, i.indexrelid AS objid
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    UNION ALL
    SELECT 'constraint', conname, conrelid, NULL, 'pg_constraint'::regclass, oid
    FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
    UNION ALL
    SELECT CASE a.attgenerated WHEN '' THEN 'default of column' ELSE 'generated column' END, a.attname, d.adrelid,
        a.attname, 'pg_attrdef'::regclass, d.oid
    FROM pg_attrdef d JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
    UNION ALL
    SELECT 'domain of column', a.attname, a.attrelid, a.attname, 'pg_type'::regclass, a.atttypid
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
    UNION ALL
    SELECT 'partition key', c.relname, p.partrelid, NULL, 'pg_class'::regclass, p.partrelid
    FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid WHERE p.partexprs IS NOT NULL
    UNION ALL
    SELECT 'statistics object', s.stxname, s.stxrelid, NULL, 'pg_statistic_ext'::regclass, s.oid
    FROM pg_statistic_ext s WHERE s.stxexprs IS NOT NULL
    UNION ALL
    SELECT 'materialized view', c.relname, c.oid, NULL, 'pg_rewrite'::regclass, r.oid
    FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid WHERE c.relkind = 'm'
), part AS (
    SELECT classid AS root_class, objid AS root, classid, objid FROM object
    UNION
    SELECT p.root_class, p.root, n.classid, n.objid FROM part p CROSS JOIN LATERAL (
        SELECT d.refclassid AS classid, d.refobjid AS objid FROM pg_depend d
        WHERE d.classid = p.classid AND d.objid = p.objid AND d.deptype IN ('n', 'a')
          AND d.refclassid = ANY (ARRAY['pg_proc', 'pg_operator', 'pg_opclass', 'pg_type']::regclass[]::oid[])
        UNION ALL
        -- In PostgreSQL 14 it is the generated column that depends on the functions of its expression.
        SELECT d.refclassid, d.refobjid FROM pg_attrdef a JOIN pg_depend d
            ON (d.classid, d.objid, d.objsubid) = ('pg_class'::regclass, a.adrelid, a.adnum)
        WHERE p.classid = 'pg_attrdef'::regclass AND a.oid = p.objid
          AND d.refclassid = ANY (ARRAY['pg_proc', 'pg_operator']::regclass[]::oid[])
        UNION ALL
        SELECT 'pg_rewrite'::regclass, r.oid FROM pg_depend d JOIN pg_rewrite r ON r.ev_class = d.refobjid
        WHERE d.classid = p.classid AND d.objid = p.objid AND p.classid = 'pg_rewrite'::regclass
          AND d.refclassid = 'pg_class'::regclass
        UNION ALL
        SELECT 'pg_proc'::regclass, o.oprcode::oid FROM pg_operator o
        WHERE p.classid = 'pg_operator'::regclass AND o.oid = p.objid
        UNION ALL
        SELECT 'pg_proc'::regclass, a.amproc::oid FROM pg_opclass o JOIN pg_amproc a ON a.amprocfamily = o.opcfamily
        WHERE p.classid = 'pg_opclass'::regclass AND o.oid = p.objid
        UNION ALL
        SELECT 'pg_type'::regclass, u.oid FROM pg_type t CROSS JOIN LATERAL unnest(ARRAY[t.typbasetype, t.typelem]) u(oid)
        WHERE p.classid = 'pg_type'::regclass AND t.oid = p.objid AND u.oid <> 0
        UNION ALL
        SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c
        WHERE p.classid = 'pg_type'::regclass AND c.contypid = p.objid
    ) n
), found AS (
    SELECT o.*, array_agg(DISTINCT f.oid::bigint) AS functions
    FROM object o JOIN part p ON (p.root_class, p.root) = (o.classid, o.objid)
    JOIN pg_proc f ON p.classid = 'pg_proc'::regclass AND f.oid = p.objid
    JOIN pg_language l ON l.oid = f.prolang AND l.lanname NOT IN ('internal', 'c')
    WHERE f.prosqlbody IS NULL AND f.oid >= 16384
      AND NOT EXISTS (SELECT FROM unnest(f.proconfig) s(setting) WHERE s.setting LIKE 'search_path=%')
    GROUP BY o.kind, o.name, o.rel, o.col, o.classid, o.objid
)
SELECT f.kind, f.name, n.nspname, c.relname, coalesce(pg_partition_root(f.rel), f.rel)::bigint, f.col, f.functions, CASE f.kind
    WHEN 'index' THEN array(
        SELECT pg_get_indexdef(i.indexrelid, k, false) FROM pg_index i CROSS JOIN generate_series(1, i.indnatts) k
        WHERE i.indexrelid = f.objid AND i.indkey[k - 1] = 0
        UNION ALL
        SELECT pg_get_expr(i.indpred, i.indrelid) FROM pg_index i WHERE i.indexrelid = f.objid AND i.indpred IS NOT NULL)
    WHEN 'constraint' THEN (SELECT ARRAY[pg_get_expr(conbin, conrelid)] FROM pg_constraint WHERE oid = f.objid)
    WHEN 'domain of column' THEN ARRAY[quote_ident(f.col)]
    WHEN 'partition key' THEN (
        SELECT ARRAY[format('ROW(%s)', pg_get_expr(partexprs, partrelid))] FROM pg_partitioned_table
        WHERE partrelid = f.objid)
    WHEN 'statistics object' THEN pg_get_statisticsobjdef_expressions(f.objid)
    WHEN 'materialized view' THEN ARRAY[]::text[]
    ELSE (SELECT ARRAY[pg_get_expr(adbin, adrelid)] FROM pg_attrdef WHERE oid = f.objid) END
FROM found f JOIN pg_class c ON c.oid = f.rel JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY n.nspname, c.relname,
    array_position(ARRAY['domain of column', 'partition key', 'generated column', 'constraint'], f.kind), f.kind, f.name

-- name: sql_functions
-- Those of the functions that are written in SQL: the language's validator resolves every name of the body.
SELECT f.oid::bigint, f.oid::regprocedure::text FROM pg_proc f JOIN pg_language l ON l.oid = f.prolang
WHERE f.oid = ANY (%(functions)s::oid[]) AND l.lanname = 'sql' ORDER BY 2

-- name: callable
-- Those of the functions that a query can call: the name, and the types of the arguments.
SELECT format('%%I.%%I', n.nspname, f.proname), array(
    SELECT format_type(t, NULL) FROM unnest(f.proargtypes) WITH ORDINALITY u(t, n) ORDER BY u.n)
FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
WHERE f.oid = ANY (%(functions)s::oid[]) AND f.prokind = 'f'
  AND f.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)

-- name: typical
-- A literal of each type, as text: a value that most functions do not return early for. NULL where none is known.
SELECT t.name, CASE
    WHEN b.typcategory = 'N' THEN '1' WHEN b.typcategory = 'S' THEN 'a' WHEN b.typcategory = 'B' THEN 't'
    WHEN b.typname IN ('time', 'timetz') THEN '12:00' WHEN b.typcategory = 'D' THEN '2000-01-01'
    WHEN b.typcategory = 'T' THEN '1 day' WHEN b.typcategory = 'A' THEN '{}' WHEN b.typcategory = 'R' THEN 'empty'
    WHEN b.typcategory = 'I' THEN '127.0.0.1' WHEN b.typcategory = 'V' THEN '1'
    WHEN b.typcategory = 'E' THEN (SELECT enumlabel FROM pg_enum e WHERE e.enumtypid = b.oid ORDER BY enumsortorder LIMIT 1)
    WHEN b.typname IN ('json', 'jsonb') THEN '{}' WHEN b.typname = 'uuid' THEN '00000000-0000-0000-0000-000000000001'
    WHEN b.typname IN ('bytea', 'tsvector', 'hstore', 'ltree') THEN 'a' END
FROM unnest(%(types)s::text[]) t(name)
CROSS JOIN LATERAL (
    WITH RECURSIVE base AS (
        SELECT y.* FROM pg_type y WHERE y.oid = to_regtype(t.name)
        UNION ALL SELECT y.* FROM base JOIN pg_type y ON y.oid = base.typbasetype)
    SELECT * FROM base WHERE typtype <> 'd' LIMIT 1
) b

-- name: by_name
-- Functions of that name which find their objects in the search_path of the session.
SELECT f.oid::regprocedure::text FROM pg_proc f JOIN pg_language l ON l.oid = f.prolang
WHERE f.proname = %(name)s AND l.lanname = 'sql' AND f.prosqlbody IS NULL
  AND NOT EXISTS (SELECT FROM unnest(f.proconfig) s(setting) WHERE s.setting LIKE 'search_path=%%')
ORDER BY 1

-- name: schemas_of_body
-- Schemas outside the given search_path with objects whose names are words in the body of the function.
WITH word AS (
    SELECT DISTINCT w FROM pg_proc f CROSS JOIN regexp_split_to_table(lower(f.prosrc), '[^[:alnum:]_$]+') w
    WHERE f.oid = to_regprocedure(%(function)s)
)
SELECT DISTINCT n.nspname FROM (
    SELECT pronamespace AS namespace, proname AS name FROM pg_proc
    UNION ALL SELECT relnamespace, relname FROM pg_class
    UNION ALL SELECT typnamespace, typname FROM pg_type
) o JOIN word ON o.name = word.w JOIN pg_namespace n ON n.oid = o.namespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> ALL (%(path)s::text[])
  AND has_schema_privilege(n.oid, 'USAGE') ORDER BY 1

-- name: columns
-- The columns of a table in their order, each with its type.
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
