-- name: facts
-- The facts that the meaning of the rows of some tables depends on (docs/invariants.md, I-2.1): one row for each table and
-- aspect. Facts are lines of text, so that a difference can be printed. The catalogs are read through the transaction's snapshot.
-- The query is this block, followed by the blocks of the wanted kinds with UNION ALL between them: the server does
-- not parse what no kind needs.
WITH RECURSIVE root AS MATERIALIZED (
    SELECT c.oid, c.relkind, c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (%(roots)s::oid[])
), member AS MATERIALIZED (
    -- Each table with its partitions of every level.
    SELECT r.oid AS root, r.oid, r.relkind FROM root r
    UNION ALL
    SELECT m.root, i.inhrelid, c.relkind FROM member m JOIN pg_inherits i ON i.inhparent = m.oid
    JOIN pg_class c ON c.oid = i.inhrelid WHERE m.relkind = 'p'
)

-- name: table
-- The table itself, by OID, and children that are not partitions.
SELECT r.oid::bigint AS root, 'table' AS aspect,
       concat_ws(' ', CASE r.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END, r.oid::regclass::text,
           (SELECT 'with children ' || string_agg(i.inhrelid::regclass::text, ', ' ORDER BY i.inhrelid) FROM pg_inherits i
            WHERE i.inhparent = r.oid AND r.relkind = 'r')) AS fact
FROM root r

-- name: columns
-- The columns.
SELECT r.oid::bigint, 'columns', string_agg(concat_ws(' ', 'column', quote_ident(a.attname),
       '(number ' || a.attnum || ')', format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END,
       CASE WHEN a.attnotnull THEN 'NOT NULL' ||
           CASE WHEN EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'n'
                             AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated) THEN ' (not validated)' ELSE '' END END,
       CASE WHEN a.attgenerated <> '' THEN 'GENERATED AS (' ||
           (SELECT pg_get_expr(f.adbin, f.adrelid) FROM pg_attrdef f WHERE (f.adrelid, f.adnum) = (a.attrelid, a.attnum))
           || ')' END), E'\n' ORDER BY a.attnum)
FROM root r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
GROUP BY r.oid

-- name: trigger_aspects
-- Triggers of the user, of capture and of the write block: three kinds. Of internal triggers only their enabling counts: the triggers of foreign keys may be disabled too. Confiture's own
-- are known by their function, and by xmin: one that was disabled and enabled again differs.
SELECT m.root::bigint,
       CASE WHEN p.pronamespace = to_regnamespace(quote_ident(%(schema)s))
            THEN CASE WHEN p.proname LIKE 'capture%%' THEN 'capture' ELSE 'write block' END
            ELSE 'triggers' END AS aspect,
       string_agg(concat_ws(' ', 'trigger', quote_ident(t.tgname), 'on', m.oid::regclass,
           CASE t.tgenabled WHEN 'D' THEN '(disabled)' WHEN 'O' THEN '(enabled)' WHEN 'A' THEN '(enabled always)'
                            ELSE '(enabled for replica)' END,
           CASE WHEN p.pronamespace = to_regnamespace(quote_ident(%(schema)s))
                THEN '(version ' || t.oid || '.' || t.xmin || ')'
                ELSE 'function ' || t.tgfoid::regproc END), E'\n' ORDER BY m.oid, t.tgname)
FROM member m JOIN pg_trigger t ON t.tgrelid = m.oid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal OR p.pronamespace = to_regnamespace(quote_ident(%(schema)s))
GROUP BY 1, 2

-- name: subscriptions
-- Subscriptions that feed the table: changes that a subscription applies fire no statement-level trigger.
SELECT m.root::bigint, 'subscriptions', string_agg('subscription feeds ' || m.oid::regclass, E'\n' ORDER BY m.oid)
FROM member m JOIN pg_subscription_rel s ON s.srrelid = m.oid GROUP BY m.root

-- name: rules
-- Rules. A disabled rule has no effect.
SELECT m.root::bigint, 'rules', string_agg(concat_ws(' ', 'rule', quote_ident(w.rulename), 'on', m.oid::regclass),
           E'\n' ORDER BY m.oid, w.rulename)
FROM member m JOIN pg_rewrite w ON w.ev_class = m.oid AND w.ev_enabled <> 'D'
GROUP BY m.root

-- name: foreign_keys
-- Foreign keys from and to the table.
SELECT m.root::bigint, 'foreign keys',
       string_agg(DISTINCT concat_ws(' ', 'foreign key', quote_ident(k.conname), 'on', k.conrelid::regclass,
           pg_get_constraintdef(k.oid)), E'\n')
FROM (SELECT m.root, k.oid FROM member m JOIN pg_constraint k ON k.conrelid = m.oid AND k.contype = 'f'
      UNION SELECT m.root, k.oid FROM member m JOIN pg_constraint k ON k.confrelid = m.oid AND k.contype = 'f') m
JOIN pg_constraint k ON k.oid = m.oid AND k.conparentid = 0
GROUP BY m.root

-- name: partitions
-- Partitions of every level, with their bounds.
SELECT m.root::bigint, 'partitions', string_agg(concat_ws(' ', 'partition', i.inhrelid::regclass, 'of', i.inhparent::regclass,
           pg_get_expr(c.relpartbound, c.oid), '(version ' || i.inhrelid || '.' || i.xmin || ')'),
           E'\n' ORDER BY i.inhrelid)
FROM member m JOIN pg_inherits i ON i.inhparent = m.oid JOIN pg_class c ON c.oid = i.inhrelid
GROUP BY m.root

-- name: storage
-- The files of the table and of its partitions.
SELECT m.root::bigint, 'storage',
       string_agg('storage of ' || m.oid::regclass || ' ' || pg_relation_filenode(m.oid), E'\n' ORDER BY m.oid)
FROM member m WHERE m.relkind <> 'p' GROUP BY m.root

-- name: definitions
-- Functions, types, operators and collations that the rows depend on.
SELECT root::bigint, 'definitions', string_agg(DISTINCT line, E'\n') FROM (WITH RECURSIVE followed (class) AS (
    -- The kinds of objects that determine what a value is or how it is computed.
    VALUES ('pg_proc'::regclass::oid), ('pg_type'::regclass), ('pg_operator'::regclass), ('pg_collation'::regclass),
           ('pg_ts_config'::regclass), ('pg_ts_dict'::regclass)
), followed_type AS (
    -- Types of the user, and those whose values the server prints as the current name of an object.
    SELECT oid, CASE WHEN oid < 16384 THEN ltrim(typname, '_') END AS names FROM pg_type
    WHERE oid >= 16384 OR typname ~ '^_?reg(class|proc|procedure|type|role|namespace)$'
), needed AS (
    -- Everything that the run's views and the column types depend on, transitively. Objects of the server itself are not in
    -- pg_depend. A function whose body is a string depends on each function that its body names.
    SELECT r.oid AS root, 'pg_type'::regclass::oid AS class, a.atttypid AS object
    FROM root r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE a.atttypid IN (SELECT oid FROM followed_type)
    UNION
    SELECT r.oid, 'pg_collation'::regclass::oid, a.attcollation
    FROM root r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE a.attcollation >= 16384
    UNION
    SELECT on_root.refobjid, d.refclassid, d.refobjid
    FROM pg_class v JOIN pg_rewrite w ON w.ev_class = v.oid
    JOIN pg_depend on_root ON on_root.classid = 'pg_rewrite'::regclass AND on_root.objid = w.oid
         AND on_root.refclassid = 'pg_class'::regclass AND on_root.refobjid = ANY (%(roots)s::oid[])
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
         AND d.refclassid IN (SELECT class FROM followed)
    WHERE v.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND v.relkind = 'v'
    UNION
    -- A virtual column is computed when it is read.
    SELECT r.oid, d.refclassid, d.refobjid FROM root r
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attgenerated = 'v'
    JOIN pg_attrdef f ON (f.adrelid, f.adnum) = (a.attrelid, a.attnum)
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid IN (SELECT class FROM followed)
    UNION
    SELECT e.root, f.class, f.object FROM needed e, LATERAL (
        -- The type of a multirange depends on its range internally, that of an array on its element.
        SELECT d.refclassid AS class, d.refobjid AS object FROM pg_depend d
        WHERE d.classid = e.class AND d.objid = e.object AND d.deptype IN ('n', 'i')
          AND d.refclassid IN (SELECT class FROM followed)
        UNION ALL
        SELECT 'pg_type'::regclass::oid, a.atttypid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
        WHERE e.class = 'pg_type'::regclass AND t.oid = e.object AND t.typrelid <> 0 AND a.attnum > 0
          AND NOT a.attisdropped AND a.atttypid IN (SELECT oid FROM followed_type)
        UNION ALL
        SELECT 'pg_proc'::regclass::oid, o.oprcode FROM pg_operator o
        WHERE e.class = 'pg_operator'::regclass AND o.oid = e.object AND o.oprcode >= 16384
        UNION ALL
        SELECT 'pg_proc'::regclass::oid, q.oid FROM pg_proc p, pg_proc q
        WHERE e.class = 'pg_proc'::regclass AND p.oid = e.object AND p.oid >= 16384 AND q.oid >= 16384
          AND p.prosrc ~* ('\m' || regexp_replace(q.proname, '(\W)', '\\\1', 'g') || '\M')
    ) f
), name (type, oid, schema, name) AS (
    SELECT 'regclass', oid, relnamespace::regnamespace, oid::regclass::text FROM pg_class WHERE relkind NOT IN ('i', 'I', 't')
    UNION ALL SELECT unnest(ARRAY['regproc', 'regprocedure']), oid, pronamespace::regnamespace, oid::regprocedure::text FROM pg_proc
    UNION ALL SELECT 'regtype', oid, typnamespace::regnamespace, oid::regtype::text FROM pg_type WHERE typelem = 0
    UNION ALL SELECT 'regrole', oid, NULL, rolname FROM pg_roles
    UNION ALL SELECT 'regnamespace', oid, oid::regnamespace, nspname FROM pg_namespace
), definition AS (
    SELECT e.root, CASE
        WHEN e.class = 'pg_type'::regclass AND e.object < 16384 THEN (
            SELECT concat_ws(' ', 'names that', f.names, 'prints, definition', (
                SELECT md5(string_agg(n.oid || n.name, ',' ORDER BY n.oid)) FROM name n WHERE n.type = f.names AND n.oid >= 16384
                AND coalesce(n.schema::text !~ '^(pg_|confiture$|confiture_[0-9a-f]{8}$)', true)))
            FROM followed_type f WHERE f.oid = e.object)
        WHEN e.class = 'pg_type'::regclass THEN (
            SELECT concat_ws(' ', 'type', format_type(t.oid, NULL), t.typtype,
                (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) FROM pg_enum l
                 WHERE l.enumtypid = t.oid),
                CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) || coalesce(' ' || (
                    SELECT string_agg(pg_get_constraintdef(k.oid), ' ' ORDER BY k.conname) FROM pg_constraint k
                    WHERE k.contypid = t.oid AND k.convalidated), '') END,
                (SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
                 FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
            FROM pg_type t WHERE t.oid = e.object)
        WHEN e.class = 'pg_proc'::regclass THEN (
            SELECT concat_ws(' ', 'function', p.oid::regprocedure, 'of', pg_get_userbyid(p.proowner),
                'definition', md5(concat_ws('|', p.prosrc, p.probin, p.prolang, p.provolatile, p.proisstrict,
                    p.prosecdef, p.proconfig, pg_get_function_sqlbody(p.oid))))
            FROM pg_proc p WHERE p.oid = e.object)
        WHEN e.class = 'pg_operator'::regclass THEN (
            SELECT concat_ws(' ', 'operator', o.oid::regoperator, 'function', o.oprcode)
            FROM pg_operator o WHERE o.oid = e.object)
        WHEN e.class = 'pg_ts_config'::regclass THEN (
            SELECT concat_ws(' ', 'text search configuration', c.oid::regconfig, 'definition', md5(concat_ws('|', c.cfgparser,
                (SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapseqno, m.mapdict::regdictionary), ','
                                   ORDER BY m.maptokentype, m.mapseqno)
                 FROM pg_ts_config_map m WHERE m.mapcfg = c.oid))))
            FROM pg_ts_config c WHERE c.oid = e.object)
        WHEN e.class = 'pg_ts_dict'::regclass THEN (
            SELECT concat_ws(' ', 'text search dictionary', d.oid::regdictionary, d.dictinitoption)
            FROM pg_ts_dict d WHERE d.oid = e.object)
        ELSE (
            SELECT concat_ws(' ', 'collation', c.oid::regcollation, c.collprovider, c.collcollate,
                to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'colllocale', c.collisdeterministic,
                coalesce(pg_collation_actual_version(c.oid), c.collversion))
            FROM pg_collation c WHERE c.oid = e.object)
        END AS line
    FROM needed e
) SELECT root, line FROM definition) d
GROUP BY root

-- name: key
-- Unique indexes by which rows are walked and found again; a new one changes nothing. REINDEX CONCURRENTLY replaces an index
-- by one of the same name and definition.
SELECT i.indrelid::bigint, 'key ' || i.indexrelid::regclass,
       concat_ws(' ', 'index', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid),
           CASE WHEN NOT (i.indisvalid AND i.indisready) THEN '(not valid)' END,
           CASE WHEN NOT i.indimmediate THEN '(deferrable)' END)
FROM root r JOIN pg_index i ON i.indrelid = r.oid WHERE i.indisunique

-- name: tables
-- The set of tables.
SELECT 0, 'tables', string_agg(fact, E'\n' ORDER BY fact) FROM (
    SELECT CASE c.relkind WHEN 'f' THEN 'foreign table ' ELSE 'table ' END || format('%%I.%%I', n.nspname, c.relname) AS fact
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
      AND n.nspname !~ '^(pg_|information_schema$|confiture$|confiture_[0-9a-f]{8}$)'
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')) t

-- name: large_objects
-- Whether there are large objects.
SELECT 0, 'large objects', CASE WHEN EXISTS (SELECT FROM pg_largeobject_metadata) THEN 'large objects' END

-- name: changes
-- The facts that differ from the recorded ones. Aspects that were never recorded are not compared.
SELECT e.root, e.schema_name, e.table_name, e.aspect, e.fact, coalesce(f.fact, '')
FROM {recorded} e LEFT JOIN facts f ON (f.root, f.aspect) = (e.root, e.aspect)
WHERE (e.root = 0 OR e.root = ANY (%(roots)s::oid[])) AND e.kind = ANY (%(kinds)s::text[])
  AND e.fact IS DISTINCT FROM coalesce(f.fact, '')
ORDER BY e.root, e.aspect
