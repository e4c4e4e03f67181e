-- name: own
-- The schemas and objects that are described: not those of the system, of extensions and of Confiture. Each other block
-- follows this one in a statement of its own. ``name`` has a schema wherever the object has one.
WITH space AS (
    SELECT oid, nspname, quote_ident(nspname) AS name FROM pg_namespace
    WHERE nspname !~ '^(pg_|information_schema$|confiture$|confiture_[0-9a-f]{8}$)'
), member AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
), relation AS (
    SELECT c.*, s.name || '.' || quote_ident(c.relname) AS name,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'c' THEN 'type'
                WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind
    FROM pg_class c JOIN space s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c', 'S') AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_class'::regclass, c.oid))
), routine AS (
    SELECT p.*, s.name || '.' || quote_ident(p.proname) || '('
               || coalesce((SELECT string_agg(format_type(t, NULL), ', ' ORDER BY n)
                            FROM unnest(p.proargtypes) WITH ORDINALITY a(t, n)), '') || ')' AS name
    FROM pg_proc p JOIN space s ON s.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_proc'::regclass, p.oid))
), type AS (
    -- Not the types of tables and views, nor those that the server creates with another type.
    SELECT t.*, s.name || '.' || quote_ident(t.typname) AS name,
           CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END AS kind
    FROM pg_type t JOIN space s ON s.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.typtype <> 'm' AND coalesce(c.relkind, 'c') = 'c' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
      AND NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_type'::regclass, t.oid))
)

-- name: schemas
-- Schemas.
SELECT 'pg_namespace'::regclass::oid AS class, s.oid, 0 AS sub, 'schema' AS kind, s.name, NULL AS of_kind, NULL AS of_name,
       '{}'::jsonb AS properties
FROM space s
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_namespace'::regclass, s.oid))

-- name: extensions
-- Extensions; their objects are not described.
SELECT 'pg_extension'::regclass::oid AS class, e.oid, 0 AS sub, 'extension' AS kind, quote_ident(e.extname) AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('schema', quote_ident(n.nspname), 'version', e.extversion) AS properties
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace

-- name: relations
-- Tables with their partitions, foreign tables, views and materialized views.
SELECT 'pg_class'::regclass::oid AS class, r.oid, 0 AS sub, r.kind, r.name, NULL AS of_kind, NULL AS of_name,
       jsonb_build_object(
           'persistence', CASE r.relpersistence WHEN 'u' THEN 'unlogged' END,
           'definition', CASE WHEN r.relkind IN ('v', 'm') THEN pg_get_viewdef(r.oid) END,
           'partitioned by', pg_get_partkeydef(r.oid),
           'partition of', CASE WHEN r.relispartition THEN (
               SELECT i.inhparent::regclass || CASE WHEN i.inhdetachpending THEN ' (being detached)' ELSE '' END
               FROM pg_inherits i WHERE i.inhrelid = r.oid) END,
           'bound', pg_get_expr(r.relpartbound, r.oid),
           'inherits', CASE WHEN NOT r.relispartition THEN (
               SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno)
               FROM pg_inherits i WHERE i.inhrelid = r.oid) END,
           'of type', CASE WHEN r.reloftype <> 0 THEN format_type(r.reloftype, NULL) END,
           'access method', (SELECT quote_ident(m.amname) FROM pg_am m WHERE m.oid = r.relam AND m.amname <> 'heap'),
           'tablespace', (SELECT quote_ident(t.spcname) FROM pg_tablespace t WHERE t.oid = r.reltablespace),
           'parameters', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(r.reloptions || (
               SELECT array_agg('toast.' || p) FROM pg_class t, unnest(t.reloptions) p WHERE t.oid = r.reltoastrelid)) o),
           'row security', nullif(concat_ws(', ', CASE WHEN r.relrowsecurity THEN 'enabled' END,
               CASE WHEN r.relforcerowsecurity THEN 'forced' END), ''),
           'replica identity', CASE WHEN r.relkind IN ('r', 'p', 'm') THEN CASE r.relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN 'nothing' WHEN 'i' THEN 'index' END END,
           'server', (SELECT quote_ident(v.srvname) FROM pg_foreign_table f JOIN pg_foreign_server v ON v.oid = f.ftserver
                      WHERE f.ftrelid = r.oid),
           'options', (SELECT string_agg(o, ', ' ORDER BY o) FROM pg_foreign_table f, unnest(f.ftoptions) o
                       WHERE f.ftrelid = r.oid),
           'column order', CASE WHEN r.relkind IN ('r', 'p', 'f') THEN (
               SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
               WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped) END
       ) AS properties
FROM relation r WHERE r.relkind NOT IN ('c', 'S')

-- name: columns
-- Columns of tables and views. The sequence of an identity column belongs to the column.
SELECT 'pg_class'::regclass::oid AS class, r.oid, a.attnum AS sub, 'column' AS kind, r.name || '.' || quote_ident(a.attname) AS name,
       r.kind AS of_kind, r.name AS of_name,
       jsonb_build_object(
           'type', format_type(a.atttypid, a.atttypmod),
           'collation', CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END,
           'not null', CASE WHEN a.attnotnull THEN coalesce((
               SELECT concat_ws(', ', 'yes', CASE WHEN k.connoinherit THEN 'NO INHERIT' END,
                   CASE WHEN NOT k.convalidated THEN 'NOT VALID' END)
               FROM pg_constraint k WHERE k.conrelid = r.oid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum]), 'yes') END,
           'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
           'generated', pg_get_expr(d.adbin, d.adrelid)
               || CASE a.attgenerated WHEN 's' THEN ' STORED' WHEN 'v' THEN ' VIRTUAL' END,
           'identity', CASE WHEN a.attidentity <> '' THEN (
               SELECT concat_ws(' ', CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
                   'START', q.seqstart, 'INCREMENT', q.seqincrement, 'MINVALUE', q.seqmin, 'MAXVALUE', q.seqmax,
                   'CACHE', q.seqcache, CASE WHEN q.seqcycle THEN 'CYCLE' END)
               FROM pg_depend e JOIN pg_sequence q ON q.seqrelid = e.objid
               WHERE (e.classid, e.refclassid, e.refobjid, e.refobjsubid, e.deptype)
                   = ('pg_class'::regclass, 'pg_class'::regclass, r.oid, a.attnum, 'i')) END,
           'storage', CASE WHEN a.attstorage <> t.typstorage THEN
               CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END,
           'compression', CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END,
           'statistics', CASE WHEN a.attstattarget >= 0 THEN a.attstattarget END,
           'parameters', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(a.attoptions) o),
           'options', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(a.attfdwoptions) o)
       ) AS properties
FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE r.relkind NOT IN ('c', 'S')

-- name: constraints
-- Constraints of tables, without those that the server keeps equal to the constraint of a parent, and without NOT NULL,
-- which the columns have. The index of a constraint belongs to it.
SELECT 'pg_constraint'::regclass::oid AS class, k.oid, 0 AS sub, 'constraint' AS kind, r.name || '.' || quote_ident(k.conname) AS name,
       r.kind AS of_kind, r.name AS of_name,
       jsonb_build_object(
           'definition', pg_get_constraintdef(k.oid),
           'index', CASE WHEN k.contype IN ('p', 'u', 'x') THEN (
               SELECT regexp_replace(pg_get_indexdef(i.indexrelid), '^.*? USING ', 'USING ')
                      || CASE WHEN i.indisvalid THEN '' ELSE ' (not valid)' END
                      || CASE WHEN i.indisclustered THEN ' (used by CLUSTER)' ELSE '' END
                      || CASE WHEN i.indisreplident THEN ' (replica identity)' ELSE '' END
               FROM pg_index i WHERE i.indexrelid = k.conindid) END,
           'tablespace', CASE WHEN k.contype IN ('p', 'u', 'x') THEN (
               SELECT quote_ident(t.spcname) FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
               WHERE c.oid = k.conindid) END
       ) AS properties
FROM relation r JOIN pg_constraint k ON k.conrelid = r.oid
WHERE k.conparentid = 0 AND k.contype IN ('p', 'u', 'f', 'c', 'x')

-- name: indexes
-- Indexes of no constraint, without those that are attached to the index of a parent.
SELECT 'pg_class'::regclass::oid AS class, c.oid, 0 AS sub, 'index' AS kind,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, r.kind AS of_kind, r.name AS of_name,
       jsonb_build_object(
           'definition', pg_get_indexdef(c.oid),
           'state', CASE WHEN NOT i.indisvalid THEN 'not valid' END,
           'clustered', CASE WHEN i.indisclustered THEN 'yes' END,
           'replica identity', CASE WHEN i.indisreplident THEN 'yes' END,
           'tablespace', (SELECT quote_ident(t.spcname) FROM pg_tablespace t WHERE t.oid = c.reltablespace),
           'statistics', (SELECT string_agg(a.attnum || ': ' || a.attstattarget, ', ' ORDER BY a.attnum)
                          FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0)
       ) AS properties
FROM relation r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))

-- name: triggers
-- Triggers, without those of Confiture, and without those that the server keeps equal to the trigger of a parent.
SELECT 'pg_trigger'::regclass::oid AS class, t.oid, 0 AS sub, 'trigger' AS kind, r.name || '.' || quote_ident(t.tgname) AS name,
       r.kind AS of_kind, r.name AS of_name,
       jsonb_build_object('definition', pg_get_triggerdef(t.oid), 'state', CASE t.tgenabled
           WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'enabled for replicas' WHEN 'A' THEN 'enabled always' END) AS properties
FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND p.pronamespace::regnamespace::text !~ '^confiture(_[0-9a-f]{8})?$'
  AND (t.tgparentid = 0 OR t.tgenabled <> (SELECT o.tgenabled FROM pg_trigger o WHERE o.oid = t.tgparentid))

-- name: rules
-- Rules, except the definitions of views.
SELECT 'pg_rewrite'::regclass::oid AS class, w.oid, 0 AS sub, 'rule' AS kind, r.name || '.' || quote_ident(w.rulename) AS name,
       r.kind AS of_kind, r.name AS of_name,
       jsonb_build_object('definition', pg_get_ruledef(w.oid), 'state', CASE w.ev_enabled
           WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'enabled for replicas' WHEN 'A' THEN 'enabled always' END) AS properties
FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid WHERE w.ev_type <> '1'

-- name: policies
-- Policies of row security.
SELECT 'pg_policy'::regclass::oid AS class, p.oid, 0 AS sub, 'policy' AS kind, r.name || '.' || quote_ident(p.polname) AS name,
       r.kind AS of_kind, r.name AS of_name,
       jsonb_build_object(
           'command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
               ELSE 'ALL' END,
           'mode', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
           'roles', (SELECT string_agg(CASE u WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(u)) END, ', '
                                       ORDER BY u <> 0, pg_get_userbyid(u)) FROM unnest(p.polroles) u),
           'using', pg_get_expr(p.polqual, p.polrelid),
           'with check', pg_get_expr(p.polwithcheck, p.polrelid)
       ) AS properties
FROM relation r JOIN pg_policy p ON p.polrelid = r.oid

-- name: sequences
-- Sequences, except those of identity columns. Their values are data.
SELECT 'pg_class'::regclass::oid AS class, r.oid, 0 AS sub, 'sequence' AS kind, r.name, NULL AS of_kind, NULL AS of_name,
       jsonb_build_object(
           'type', format_type(q.seqtypid, NULL), 'start', q.seqstart, 'increment', q.seqincrement, 'minimum', q.seqmin,
           'maximum', q.seqmax, 'cache', q.seqcache, 'cycle', CASE WHEN q.seqcycle THEN 'yes' END,
           'persistence', CASE r.relpersistence WHEN 'u' THEN 'unlogged' END,
           'owned by', (SELECT e.refobjid::regclass || '.' || quote_ident(a.attname)
                        FROM pg_depend e JOIN pg_attribute a ON (a.attrelid, a.attnum) = (e.refobjid, e.refobjsubid)
                        WHERE (e.classid, e.objid, e.refclassid, e.deptype) = ('pg_class'::regclass, r.oid, 'pg_class'::regclass, 'a'))
       ) AS properties
FROM relation r JOIN pg_sequence q ON q.seqrelid = r.oid
WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE (e.classid, e.objid, e.refclassid, e.deptype)
                      = ('pg_class'::regclass, r.oid, 'pg_class'::regclass, 'i'))

-- name: routines
-- Functions, procedures and window functions; of an aggregate, the parts that every function has.
SELECT 'pg_proc'::regclass::oid AS class, p.oid, 0 AS sub,
       CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END AS kind, p.name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object(
           'arguments', nullif(pg_get_function_arguments(p.oid), ''),
           'returns', pg_get_function_result(p.oid),
           'language', CASE WHEN p.prokind <> 'a' THEN quote_ident(l.lanname) END,
           'body', CASE WHEN p.prokind <> 'a' THEN coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) END,
           'library', p.probin,
           'window', CASE WHEN p.prokind = 'w' THEN 'yes' END,
           'volatility', CASE p.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
           'parallel', CASE p.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' ELSE 'UNSAFE' END,
           'strict', CASE WHEN p.proisstrict THEN 'yes' END,
           'leakproof', CASE WHEN p.proleakproof THEN 'yes' END,
           'security', CASE WHEN p.prosecdef THEN 'DEFINER' END,
           'settings', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(p.proconfig) o),
           'cost', p.procost, 'rows', nullif(p.prorows, 0),
           'support', nullif(p.prosupport::regproc::text, '-'),
           'transforms', (SELECT string_agg(format_type(t, NULL), ', ') FROM unnest(p.protrftypes) t)
       ) AS properties
FROM routine p JOIN pg_language l ON l.oid = p.prolang
WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE (e.classid, e.objid, e.deptype) = ('pg_proc'::regclass, p.oid, 'i'))

-- name: aggregates
-- Further properties of aggregates.
SELECT 'pg_proc'::regclass::oid AS class, p.oid, 0 AS sub, 'aggregate' AS kind, p.name, NULL AS of_kind, NULL AS of_name,
       jsonb_build_object(
           'kind', CASE g.aggkind WHEN 'o' THEN 'ordered set' WHEN 'h' THEN 'hypothetical set' END,
           'transition', concat_ws(' ', g.aggtransfn::regprocedure, 'over', format_type(g.aggtranstype, NULL),
               'from ' || quote_literal(g.agginitval), nullif(g.aggtransspace, 0)),
           'moving transition', CASE WHEN g.aggmtransfn <> 0 THEN concat_ws(' ', g.aggmtransfn::regprocedure,
               g.aggminvtransfn::regprocedure, format_type(g.aggmtranstype, NULL), 'from ' || quote_literal(g.aggminitval),
               nullif(g.aggmfinalfn::regprocedure::text, '-')) END,
           'final', CASE WHEN g.aggfinalfn <> 0 THEN concat_ws(' ', g.aggfinalfn::regprocedure, g.aggfinalmodify,
               CASE WHEN g.aggfinalextra THEN 'extra' END) END,
           'combine', nullif(g.aggcombinefn::regprocedure::text, '-'),
           'serial', CASE WHEN g.aggserialfn <> 0 THEN concat_ws(' ', g.aggserialfn::regprocedure, g.aggdeserialfn::regprocedure) END,
           'sort operator', CASE WHEN g.aggsortop <> 0 THEN g.aggsortop::regoperator::text END
       ) AS properties
FROM routine p JOIN pg_aggregate g ON g.aggfnoid = p.oid

-- name: types
-- Enumerations, composite types, domains, ranges and base types.
SELECT 'pg_type'::regclass::oid AS class, t.oid, 0 AS sub, t.kind, t.name, NULL AS of_kind, NULL AS of_name,
       jsonb_build_object(
           'values', (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) FROM pg_enum l
                      WHERE l.enumtypid = t.oid),
           'attributes', (SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
                              || CASE WHEN a.attcollation <> y.typcollation THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END,
                              ', ' ORDER BY a.attnum)
                          FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
                          WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
           'base type', CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
           'collation', CASE WHEN t.typtype = 'd' AND t.typcollation <> (SELECT y.typcollation FROM pg_type y WHERE y.oid = t.typbasetype)
               THEN t.typcollation::regcollation::text END,
           'default', t.typdefault,
           'not null', CASE WHEN t.typnotnull THEN 'yes' END,
           'constraints', (SELECT string_agg(quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid), E'\n' ORDER BY k.conname)
                           FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype <> 'n'),
           'range', (SELECT concat_ws(', ', 'subtype ' || format_type(g.rngsubtype, NULL),
                         'multirange type ' || format_type(g.rngmultitypid, NULL),
                         'collation ' || nullif(g.rngcollation, 0)::regcollation,
                         'operator class ' || (SELECT quote_ident(o.opcname) FROM pg_opclass o WHERE o.oid = g.rngsubopc),
                         'canonical ' || nullif(g.rngcanonical::regproc::text, '-'),
                         'difference ' || nullif(g.rngsubdiff::regproc::text, '-'))
                     FROM pg_range g WHERE g.rngtypid = t.oid),
           'base', CASE WHEN t.typtype IN ('b', 'p') THEN concat_ws(', ', 'input ' || t.typinput::regproc, 'output ' || t.typoutput::regproc,
               'receive ' || nullif(t.typreceive::regproc::text, '-'), 'send ' || nullif(t.typsend::regproc::text, '-'),
               'length ' || t.typlen, 'alignment ' || t.typalign::text, 'storage ' || t.typstorage::text, 'category ' || t.typcategory::text,
               CASE WHEN t.typispreferred THEN 'preferred' END, CASE WHEN NOT t.typisdefined THEN 'not defined' END) END
       ) AS properties
FROM type t

-- name: event_triggers
-- Event triggers.
SELECT 'pg_event_trigger'::regclass::oid AS class, e.oid, 0 AS sub, 'event trigger' AS kind, quote_ident(e.evtname) AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('event', e.evtevent, 'function', e.evtfoid::regprocedure,
           'tags', (SELECT string_agg(t, ', ' ORDER BY t) FROM unnest(e.evttags) t),
           'state', CASE e.evtenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'enabled for replicas'
               WHEN 'A' THEN 'enabled always' END) AS properties
FROM pg_event_trigger e
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_event_trigger'::regclass, e.oid))

-- name: collations
-- Collations. The version is that of a library of the machine.
SELECT 'pg_collation'::regclass::oid AS class, c.oid, 0 AS sub, 'collation' AS kind, s.name || '.' || quote_ident(c.collname) AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('provider', CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
           'locale', coalesce(to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'colllocale',
               concat_ws(', ', c.collcollate, nullif(c.collctype, c.collcollate))),
           'rules', to_jsonb(c) ->> 'collicurules',
           'deterministic', CASE WHEN NOT c.collisdeterministic THEN 'no' END) AS properties
FROM pg_collation c JOIN space s ON s.oid = c.collnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_collation'::regclass, c.oid))

-- name: operators
-- Operators.
SELECT 'pg_operator'::regclass::oid AS class, o.oid, 0 AS sub, 'operator' AS kind, o.oid::regoperator::text AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('function', o.oprcode::regprocedure, 'returns', format_type(o.oprresult, NULL),
           'commutator', CASE WHEN o.oprcom <> 0 THEN o.oprcom::regoperator::text END,
           'negator', CASE WHEN o.oprnegate <> 0 THEN o.oprnegate::regoperator::text END,
           'restrict', nullif(o.oprrest::regproc::text, '-'), 'join', nullif(o.oprjoin::regproc::text, '-'),
           'supports', nullif(concat_ws(', ', CASE WHEN o.oprcanmerge THEN 'merges' END, CASE WHEN o.oprcanhash THEN 'hashes' END), '')
       ) AS properties
FROM pg_operator o JOIN space s ON s.oid = o.oprnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_operator'::regclass, o.oid))

-- name: operator_classes
-- Operator classes.
SELECT 'pg_opclass'::regclass::oid AS class, o.oid, 0 AS sub, 'operator class' AS kind,
       s.name || '.' || quote_ident(o.opcname) || ' USING ' || quote_ident(m.amname) AS name, NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('type', format_type(o.opcintype, NULL), 'default', CASE WHEN o.opcdefault THEN 'yes' END,
           'stored', CASE WHEN o.opckeytype <> 0 THEN format_type(o.opckeytype, NULL) END,
           'family', quote_ident(n.nspname) || '.' || quote_ident(f.opfname)) AS properties
FROM pg_opclass o JOIN space s ON s.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
JOIN pg_opfamily f ON f.oid = o.opcfamily JOIN pg_namespace n ON n.oid = f.opfnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_opclass'::regclass, o.oid))

-- name: operator_families
-- Operator families, with the operators and functions of their classes.
SELECT 'pg_opfamily'::regclass::oid AS class, f.oid, 0 AS sub, 'operator family' AS kind,
       s.name || '.' || quote_ident(f.opfname) || ' USING ' || quote_ident(m.amname) AS name, NULL AS of_kind, NULL AS of_name,
       jsonb_build_object(
           'operators', (SELECT string_agg(concat_ws(' ', a.amopstrategy, a.amopopr::regoperator,
                             CASE WHEN a.amopsortfamily <> 0 THEN 'for ordering' END), E'\n'
                             ORDER BY a.amopstrategy, a.amopopr::regoperator::text)
                         FROM pg_amop a WHERE a.amopfamily = f.oid),
           'functions', (SELECT string_agg(concat_ws(' ', a.amprocnum, format_type(a.amproclefttype, NULL),
                             format_type(a.amprocrighttype, NULL), a.amproc::regprocedure), E'\n'
                             ORDER BY a.amprocnum, a.amproc::regprocedure::text)
                         FROM pg_amproc a WHERE a.amprocfamily = f.oid)) AS properties
FROM pg_opfamily f JOIN space s ON s.oid = f.opfnamespace JOIN pg_am m ON m.oid = f.opfmethod
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_opfamily'::regclass, f.oid))

-- name: casts
-- Casts.
SELECT 'pg_cast'::regclass::oid AS class, c.oid, 0 AS sub, 'cast' AS kind,
       '(' || format_type(c.castsource, NULL) || ' AS ' || format_type(c.casttarget, NULL) || ')' AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('function', nullif(c.castfunc::regprocedure::text, '-'),
           'method', CASE c.castmethod WHEN 'i' THEN 'WITH INOUT' WHEN 'b' THEN 'WITHOUT FUNCTION' ELSE 'WITH FUNCTION' END,
           'context', CASE c.castcontext WHEN 'i' THEN 'IMPLICIT' WHEN 'a' THEN 'ASSIGNMENT' ELSE 'EXPLICIT' END) AS properties
FROM pg_cast c WHERE c.oid >= 16384
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE (e.classid, e.objid, e.deptype) = ('pg_cast'::regclass, c.oid, 'i'))
  AND NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_cast'::regclass, c.oid))

-- name: conversions
-- Conversions between encodings.
SELECT 'pg_conversion'::regclass::oid AS class, c.oid, 0 AS sub, 'conversion' AS kind, s.name || '.' || quote_ident(c.conname) AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('encodings', pg_encoding_to_char(c.conforencoding) || ' to ' || pg_encoding_to_char(c.contoencoding),
           'function', c.conproc::regproc, 'default', CASE WHEN c.condefault THEN 'yes' END) AS properties
FROM pg_conversion c JOIN space s ON s.oid = c.connamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_conversion'::regclass, c.oid))

-- name: text_search
-- Text search configurations, dictionaries, parsers and templates.
SELECT 'pg_ts_config'::regclass::oid AS class, c.oid, 0 AS sub, 'text search configuration' AS kind,
       s.name || '.' || quote_ident(c.cfgname) AS name, NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('parser', (SELECT quote_ident(n.nspname) || '.' || quote_ident(p.prsname)
                                     FROM pg_ts_parser p JOIN pg_namespace n ON n.oid = p.prsnamespace WHERE p.oid = c.cfgparser),
           'mappings', (SELECT string_agg(a.alias || ': ' || a.dictionaries, E'\n' ORDER BY a.alias) FROM (
               SELECT t.alias, string_agg(m.mapdict::regdictionary::text, ', ' ORDER BY m.mapseqno) AS dictionaries
               FROM pg_ts_config_map m JOIN ts_token_type(c.cfgparser) t ON t.tokid = m.maptokentype
               WHERE m.mapcfg = c.oid GROUP BY t.alias) a)) AS properties
FROM pg_ts_config c JOIN space s ON s.oid = c.cfgnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_ts_config'::regclass, c.oid))
UNION ALL
SELECT 'pg_ts_dict'::regclass::oid, d.oid, 0, 'text search dictionary', s.name || '.' || quote_ident(d.dictname), NULL, NULL,
       jsonb_build_object('options', d.dictinitoption,
           'template', (SELECT quote_ident(n.nspname) || '.' || quote_ident(t.tmplname)
                        FROM pg_ts_template t JOIN pg_namespace n ON n.oid = t.tmplnamespace WHERE t.oid = d.dicttemplate))
FROM pg_ts_dict d JOIN space s ON s.oid = d.dictnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_ts_dict'::regclass, d.oid))
UNION ALL
SELECT 'pg_ts_parser'::regclass::oid, p.oid, 0, 'text search parser', s.name || '.' || quote_ident(p.prsname), NULL, NULL,
       jsonb_build_object('functions', concat_ws(', ', p.prsstart, p.prstoken, p.prsend, p.prslextype, nullif(p.prsheadline::text, '-')))
FROM pg_ts_parser p JOIN space s ON s.oid = p.prsnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_ts_parser'::regclass, p.oid))
UNION ALL
SELECT 'pg_ts_template'::regclass::oid, t.oid, 0, 'text search template', s.name || '.' || quote_ident(t.tmplname), NULL, NULL,
       jsonb_build_object('functions', concat_ws(', ', t.tmplinit, t.tmpllexize))
FROM pg_ts_template t JOIN space s ON s.oid = t.tmplnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_ts_template'::regclass, t.oid))

-- name: foreign_servers
-- Foreign-data wrappers, foreign servers and user mappings. The options of a user mapping contain passwords.
SELECT 'pg_foreign_data_wrapper'::regclass::oid AS class, w.oid, 0 AS sub, 'foreign-data wrapper' AS kind,
       quote_ident(w.fdwname) AS name, NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('handler', nullif(w.fdwhandler::regproc::text, '-'), 'validator', nullif(w.fdwvalidator::regproc::text, '-'),
           'options', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(w.fdwoptions) o)) AS properties
FROM pg_foreign_data_wrapper w
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_foreign_data_wrapper'::regclass, w.oid))
UNION ALL
SELECT 'pg_foreign_server'::regclass::oid, v.oid, 0, 'foreign server', quote_ident(v.srvname), NULL, NULL,
       jsonb_build_object('wrapper', (SELECT quote_ident(w.fdwname) FROM pg_foreign_data_wrapper w WHERE w.oid = v.srvfdw),
           'type', v.srvtype, 'version', v.srvversion,
           'options', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(v.srvoptions) o WHERE o !~* '^[^=]*pass'))
FROM pg_foreign_server v
WHERE v.srvname !~ '^confiture_[0-9a-f]{8}'
  AND NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_foreign_server'::regclass, v.oid))
UNION ALL
SELECT 'pg_user_mapping'::regclass::oid, u.umid, 0, 'user mapping', quote_ident(u.usename) || ' SERVER ' || quote_ident(u.srvname),
       'foreign server', quote_ident(u.srvname), '{}'
FROM pg_user_mappings u WHERE u.srvname !~ '^confiture_[0-9a-f]{8}'

-- name: publications
-- Publications.
SELECT 'pg_publication'::regclass::oid AS class, p.oid, 0 AS sub, 'publication' AS kind, quote_ident(p.pubname) AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object(
           'publishes', concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
               CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END),
           'all tables', CASE WHEN p.puballtables THEN 'yes' END,
           'via root', CASE WHEN p.pubviaroot THEN 'yes' END,
           'generated columns', nullif(nullif(to_jsonb(p) ->> 'pubgencols', 'n'), 'false')) AS properties
FROM pg_publication p
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_publication'::regclass, p.oid))

-- name: published_before_15
-- The tables of publications before PostgreSQL 15.
SELECT 'pg_publication'::regclass::oid AS class, p.oid, 0 AS sub, 'publication' AS kind, quote_ident(p.pubname) AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('tables', (
           SELECT string_agg(t.prrelid::regclass::text, E'\n' ORDER BY t.prrelid::regclass::text)
           FROM pg_publication_rel t WHERE t.prpubid = p.oid)) AS properties
FROM pg_publication p
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_publication'::regclass, p.oid))

-- name: published
-- The tables of publications, with columns and filters, and their schemas.
SELECT 'pg_publication'::regclass::oid AS class, p.oid, 0 AS sub, 'publication' AS kind, quote_ident(p.pubname) AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('tables', (
           SELECT string_agg(concat_ws(' ', t.prrelid::regclass,
                      (SELECT '(' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')' FROM pg_attribute a
                       WHERE a.attrelid = t.prrelid AND a.attnum = ANY (t.prattrs)),
                      'WHERE ' || pg_get_expr(t.prqual, t.prrelid)), E'\n' ORDER BY t.prrelid::regclass::text)
           FROM pg_publication_rel t WHERE t.prpubid = p.oid), 'schemas', (
           SELECT string_agg(quote_ident(s.nspname), ', ' ORDER BY s.nspname)
           FROM pg_publication_namespace n JOIN pg_namespace s ON s.oid = n.pnnspid WHERE n.pnpubid = p.oid)) AS properties
FROM pg_publication p
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_publication'::regclass, p.oid))

-- name: statistics
-- Extended statistics.
SELECT 'pg_statistic_ext'::regclass::oid AS class, x.oid, 0 AS sub, 'statistics' AS kind, s.name || '.' || quote_ident(x.stxname) AS name,
       r.kind AS of_kind, r.name AS of_name,
       jsonb_build_object('definition', pg_get_statisticsobjdef(x.oid),
           'target', CASE WHEN x.stxstattarget >= 0 THEN x.stxstattarget END) AS properties
FROM pg_statistic_ext x JOIN space s ON s.oid = x.stxnamespace JOIN relation r ON r.oid = x.stxrelid
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_statistic_ext'::regclass, x.oid))

-- name: languages
-- Procedural languages, access methods and transforms that no extension contains.
SELECT 'pg_language'::regclass::oid AS class, l.oid, 0 AS sub, 'language' AS kind, quote_ident(l.lanname) AS name,
       NULL AS of_kind, NULL AS of_name,
       jsonb_build_object('trusted', CASE WHEN l.lanpltrusted THEN 'yes' END,
           'handler', nullif(l.lanplcallfoid::regproc::text, '-')) AS properties
FROM pg_language l WHERE l.oid >= 16384
  AND NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_language'::regclass, l.oid))
UNION ALL
SELECT 'pg_am'::regclass::oid, a.oid, 0, 'access method', quote_ident(a.amname), NULL, NULL,
       jsonb_build_object('handler', a.amhandler, 'type', a.amtype)
FROM pg_am a WHERE a.oid >= 16384
  AND NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_am'::regclass, a.oid))
UNION ALL
SELECT 'pg_transform'::regclass::oid, t.oid, 0, 'transform',
       format_type(t.trftype, NULL) || ' LANGUAGE ' || (SELECT quote_ident(l.lanname) FROM pg_language l WHERE l.oid = t.trflang), NULL, NULL,
       jsonb_build_object('from', nullif(t.trffromsql::regprocedure::text, '-'), 'to', nullif(t.trftosql::regprocedure::text, '-'))
FROM pg_transform t
WHERE NOT EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = ('pg_transform'::regclass, t.oid))

-- name: default_privileges
-- Default privileges of each role, for one schema or for all.
SELECT 'pg_default_acl'::regclass::oid AS class, d.oid, 0 AS sub, 'default privileges' AS kind,
       concat_ws(' ', 'of', quote_ident(pg_get_userbyid(d.defaclrole)), 'in schema ' || quote_ident(n.nspname), 'on',
           CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
               WHEN 'L' THEN 'large objects' ELSE 'schemas' END) AS name,
       NULL AS of_kind, NULL AS of_name, '{}'::jsonb AS properties
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE d.defaclnamespace = 0 OR d.defaclnamespace IN (SELECT oid FROM space)

-- name: owners
-- The owner of each object, by its class and OID; the privileges that differ from those of an object without a GRANT; and its
-- comment. The owner's own privileges count only if they are not the usual ones.
, every AS (
    SELECT 'pg_class'::regclass::oid AS class, oid, 0 AS sub, relowner AS owner, relacl AS acl,
           acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner) AS usual
    FROM pg_class WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
    UNION ALL
    SELECT 'pg_class'::regclass, attrelid, attnum, NULL, attacl, NULL FROM pg_attribute WHERE attacl IS NOT NULL
    UNION ALL
    SELECT 'pg_namespace'::regclass, oid, 0, nspowner, nspacl, acldefault('n', nspowner) FROM pg_namespace
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, 0, proowner, proacl, acldefault('f', proowner) FROM pg_proc
    UNION ALL
    SELECT 'pg_type'::regclass, oid, 0, typowner, typacl, acldefault('T', typowner) FROM pg_type
    UNION ALL
    SELECT 'pg_language'::regclass, oid, 0, lanowner, lanacl, acldefault('l', lanowner) FROM pg_language
    UNION ALL
    SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, fdwowner, fdwacl, acldefault('F', fdwowner) FROM pg_foreign_data_wrapper
    UNION ALL
    SELECT 'pg_foreign_server'::regclass, oid, 0, srvowner, srvacl, acldefault('S', srvowner) FROM pg_foreign_server
    UNION ALL
    SELECT 'pg_default_acl'::regclass, oid, 0, NULL, defaclacl, NULL FROM pg_default_acl
    UNION ALL
    SELECT 'pg_operator'::regclass, oid, 0, oprowner, NULL, NULL FROM pg_operator
    UNION ALL
    SELECT 'pg_opclass'::regclass, oid, 0, opcowner, NULL, NULL FROM pg_opclass
    UNION ALL
    SELECT 'pg_opfamily'::regclass, oid, 0, opfowner, NULL, NULL FROM pg_opfamily
    UNION ALL
    SELECT 'pg_collation'::regclass, oid, 0, collowner, NULL, NULL FROM pg_collation
    UNION ALL
    SELECT 'pg_conversion'::regclass, oid, 0, conowner, NULL, NULL FROM pg_conversion
    UNION ALL
    SELECT 'pg_ts_config'::regclass, oid, 0, cfgowner, NULL, NULL FROM pg_ts_config
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, oid, 0, dictowner, NULL, NULL FROM pg_ts_dict
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, oid, 0, stxowner, NULL, NULL FROM pg_statistic_ext
    UNION ALL
    SELECT 'pg_event_trigger'::regclass, oid, 0, evtowner, NULL, NULL FROM pg_event_trigger
    UNION ALL
    SELECT 'pg_publication'::regclass, oid, 0, pubowner, NULL, NULL FROM pg_publication
), object AS (
    SELECT * FROM every WHERE oid >= 16384 OR class = 'pg_namespace'::regclass
), granted AS (
    SELECT o.class, o.oid, o.sub, g.usual, g.grantee, string_agg(g.privilege, ', ' ORDER BY g.privilege) AS privileges
    FROM object o, LATERAL (
        SELECT false AS usual, e.grantee, e.privilege_type || CASE WHEN e.is_grantable AND e.grantee IS DISTINCT FROM o.owner
                   THEN ' WITH GRANT OPTION' ELSE '' END AS privilege
        FROM aclexplode(o.acl) e
        UNION
        SELECT true, e.grantee, e.privilege_type FROM aclexplode(o.usual) e
    ) g WHERE o.acl IS NOT NULL GROUP BY o.class, o.oid, o.sub, g.usual, g.grantee
), listed AS (
    SELECT g.class, g.oid, g.sub, g.usual,
           string_agg(CASE g.grantee WHEN 0 THEN 'PUBLIC' WHEN o.owner THEN 'the owner'
                      ELSE quote_ident(pg_get_userbyid(g.grantee)) END || ': ' || g.privileges, E'\n'
                      ORDER BY g.grantee <> 0, g.grantee = o.owner, pg_get_userbyid(g.grantee)) AS grants
    FROM granted g JOIN object o ON (o.class, o.oid, o.sub) = (g.class, g.oid, g.sub)
    WHERE g.grantee IS DISTINCT FROM o.owner OR g.privileges IS DISTINCT FROM (
        SELECT a.privileges FROM granted a
        WHERE (a.class, a.oid, a.sub, a.usual, a.grantee) = (g.class, g.oid, g.sub, NOT g.usual, g.grantee))
    GROUP BY g.class, g.oid, g.sub, g.usual
)
SELECT o.class, o.oid, o.sub, pg_get_userbyid(o.owner)::text AS owner,
       CASE WHEN o.acl IS NOT NULL AND now.grants IS DISTINCT FROM usual.grants THEN coalesce(now.grants, 'none') END AS grants,
       NULL AS comment
FROM object o
LEFT JOIN listed now ON (now.class, now.oid, now.sub, now.usual) = (o.class, o.oid, o.sub, false)
LEFT JOIN listed usual ON (usual.class, usual.oid, usual.sub, usual.usual) = (o.class, o.oid, o.sub, true)

-- name: comments
-- Comments, by class and OID. That of an extension comes with its files.
SELECT d.classoid AS class, d.objoid AS oid, d.objsubid AS sub, NULL AS owner, NULL AS grants, d.description AS comment
FROM pg_description d
WHERE d.classoid <> 'pg_extension'::regclass AND (d.objoid >= 16384 OR d.classoid = 'pg_namespace'::regclass)
