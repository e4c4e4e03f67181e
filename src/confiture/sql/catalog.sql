-- name: identity
-- The identity of the database, its encoding and locale, and the privileges of the role. Connections: the limit (-1:
-- none), and those in use by others. Sessions of other roles have no visible name.
WITH others AS (
    SELECT usesysid, datid FROM pg_stat_activity
    WHERE usesysid IS NOT NULL AND coalesce(application_name, '') !~ '^confiture '
)
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
       d.datname AS database, d.oid::bigint AS oid,
       current_setting('server_version_num')::int AS version,
       pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, d.datctype AS ctype,
       coalesce(to_jsonb(d)->>'datlocprovider', 'c') AS locale_provider,
       coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale') AS locale,
       pg_is_in_recovery() AS in_recovery,
       current_setting('fsync') = 'on' AS fsync,
       (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects,
       r.rolsuper AS superuser, r.rolbypassrls AS bypasses_row_security, r.rolname AS role,
       r.rolinherit AS inherits, r.rolsuper OR r.rolcreatedb AS may_create_databases,
       -- The session has set it when it may. PostgreSQL 14 lacks has_parameter_privilege.
       coalesce(current_setting('event_triggers', true) = 'off', false) AS may_silence_events,
       ARRAY[r.rolconnlimit, (SELECT count(*) FROM others WHERE usesysid = r.oid)]::int[] AS role_connections,
       ARRAY[d.datconnlimit, (SELECT count(*) FROM others WHERE datid = d.oid)]::int[] AS database_connections,
       ARRAY[current_setting('max_connections')::int - CASE WHEN r.rolsuper THEN 0 ELSE
                 current_setting('superuser_reserved_connections')::int
                 + coalesce(current_setting('reserved_connections', true)::int, 0) END,
             (SELECT count(*) FROM others)]::int[] AS server_connections,
       has_database_privilege(d.oid, 'CREATE') AS may_create, has_database_privilege(d.oid, 'TEMP') AS may_temp,
       pg_size_bytes(current_setting('shared_buffers')) / 1024 AS shared_buffers,
       pg_size_bytes(current_setting('maintenance_work_mem')) / 1024 AS maintenance_memory,
       current_setting('max_parallel_maintenance_workers')::int AS maintenance_workers,
       least(current_setting('max_parallel_workers')::int, current_setting('max_worker_processes')::int)
           AS parallel_workers
FROM pg_database d JOIN pg_roles r ON r.rolname = current_user WHERE d.datname = current_database()

-- name: tables
-- Tables that a mapping may name, without partitions. A partitioned table has the rows and bytes of its leaves.
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       row_security_active(c.oid) AS row_security, c.relforcerowsecurity AS forces_row_security,
       coalesce(s.tuples, -1)::bigint AS tuples, coalesce(s.bytes, 0)::bigint AS bytes,
       coalesce(s.large_bytes, 0)::bigint AS large_bytes,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AND c.relkind <> 'p' AS inherited_from,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) AS inherits,
       has_table_privilege(c.oid, 'SELECT') AS may_select,
       has_schema_privilege(n.oid, 'USAGE') AS may_use_schema,
       has_schema_privilege(n.oid, 'CREATE') AS may_create_in_schema,
       has_schema_privilege(c.relowner, n.oid, 'USAGE') AS owner_uses_schema,
       has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')
           OR CASE WHEN current_setting('server_version_num')::int >= 170000
                   THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END AS may_lock,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       pg_get_userbyid(c.relowner) AS owner
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    -- A table that has grown since its statistics were taken has more rows in proportion.
    SELECT sum(greatest(l.reltuples, 0) * CASE WHEN l.relpages > 0
                   THEN pg_relation_size(l.oid) / (l.relpages * current_setting('block_size')::float8) ELSE 1 END) FILTER (WHERE l.reltuples >= 0 AND (l.reltuples > 0 OR l.relpages > 0
               OR pg_relation_size(l.oid) = 0)) AS tuples,
           sum(pg_relation_size(l.oid)) AS bytes, sum(pg_relation_size(l.reltoastrelid)) AS large_bytes
    FROM (SELECT relid FROM pg_partition_tree(c.oid) WHERE c.relkind = 'p' AND isleaf
          UNION ALL SELECT c.oid WHERE c.relkind = 'r') t(relid)
    JOIN pg_class l ON l.oid = t.relid
) s ON true
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname !~ '^(pg_|information_schema$|confiture$|confiture_[0-9a-f]{8}$)'
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"

-- name: columns
-- Columns in their order, each with the base type of its domain.
-- null_free: a validated NOT NULL holds in the table and in each partition. The NOT NULL of a domain proves nothing
-- (an empty subquery stores NULL), nor does that of a partitioned table whose partition has not validated its own.
WITH RECURSIVE base AS (
    SELECT t.oid AS type, t.oid AS base, -1 AS typmod, false AS not_null FROM pg_type t
    UNION ALL
    SELECT b.type, t.typbasetype, CASE WHEN t.typtypmod <> -1 THEN t.typtypmod ELSE b.typmod END,
           b.not_null OR t.typnotnull
    FROM base b JOIN pg_type t ON t.oid = b.base WHERE t.typtype = 'd'
), nullable AS (
    SELECT DISTINCT l.root, a.attname
    FROM (SELECT r.oid AS root, r.oid FROM unnest(%(tables)s::oid[]) r(oid)
          UNION SELECT r.oid, t.relid FROM unnest(%(tables)s::oid[]) r(oid), pg_partition_tree(r.oid) t) l
    JOIN pg_attribute a ON a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_constraint nn ON nn.conrelid = l.oid AND nn.contype = 'n' AND nn.conkey = ARRAY[a.attnum]
    WHERE NOT a.attnotnull OR NOT nn.convalidated
)
SELECT a.attrelid::bigint AS table_oid, a.attname AS name,
       format_type(a.atttypid, a.atttypmod) AS formatted,
       t.typtype::text AS type_kind,
       format_type(bt.oid, CASE WHEN t.typtype = 'd' THEN b.typmod ELSE a.atttypmod END) AS base_formatted,
       bt.typname AS base_name, bn.nspname AS base_schema, bt.typtype::text AS base_kind,
       bt.oid < 16384 AS base_builtin,
       CASE WHEN t.typtype = 'd' THEN b.typmod ELSE a.atttypmod END AS typmod,
       a.attnotnull OR b.not_null AS not_null,
       u.root IS NULL AS null_free,
       a.atthasdef AND a.attgenerated = '' AS has_default,
       a.attidentity::text AS identity, a.attgenerated::text AS generated,
       CASE WHEN a.attcollation NOT IN (0, 'pg_catalog."default"'::regcollation) THEN co.collname END AS collation,
       coalesce(co.collisdeterministic, true) AS deterministic,
       (SELECT string_agg(quote_ident(x.attname) || coalesce((
            SELECT '(' || string_agg(quote_ident(y.attname), ', ' ORDER BY y.attnum) || ')' FROM pg_attribute y
            WHERE xt.typrelid <> 0 AND y.attrelid = xt.typrelid AND y.attnum > 0 AND NOT y.attisdropped), ''),
            ', ' ORDER BY x.attnum)
        FROM pg_attribute x JOIN pg_type xt ON xt.oid = x.atttypid
        WHERE x.attrelid = coalesce(nullif(bt.typrelid, 0), et.typrelid) AND x.attnum > 0 AND NOT x.attisdropped
       ) AS attributes
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN base b ON b.type = t.oid
JOIN pg_type bt ON bt.oid = b.base AND bt.typtype <> 'd'
LEFT JOIN pg_type et ON et.oid = bt.typelem AND et.typrelid <> 0
JOIN pg_namespace bn ON bn.oid = bt.typnamespace
LEFT JOIN pg_collation co ON co.oid = a.attcollation
LEFT JOIN nullable u ON u.root = a.attrelid AND u.attname = a.attname
WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum

-- name: indexes
-- Indexes of tables and their partitions, with the properties of a key. A root comes before the indexes attached to it.
SELECT p.root::bigint AS table_oid, tn.nspname AS table_schema, tc.relname AS table_name,
       p.level, hn.nspname AS parent_schema, hc.relname AS parent_name,
       coalesce(pg_partition_root(i.indexrelid)::oid, i.indexrelid)::bigint AS tree,
       ic.relname AS name, pg_get_indexdef(i.indexrelid) AS definition,
       i.indisunique AS is_unique, i.indisprimary AS is_primary, i.indimmediate AS immediate,
       i.indisvalid AS valid, i.indpred IS NOT NULL AS partial, i.indexprs IS NOT NULL AS expressions,
       ic.relkind = 'I' AND (i.indisreplident OR con.oid IS NOT NULL AND ic.reloptions IS NOT NULL)
         -- A published table needs its replica identity for each DELETE.
         OR (i.indisreplident OR i.indisprimary AND tc.relreplident = 'd') AND published.tablename IS NOT NULL
         -- Since PostgreSQL 18, a partition whose primary key is added declares the inherited NOT NULL as its own.
         OR i.indisprimary AND EXISTS (
             SELECT FROM pg_constraint nn WHERE nn.conrelid = i.indrelid AND nn.contype = 'n' AND NOT nn.conislocal
             AND nn.conkey <@ i.indkey::int2[])
         AS marked,
       i.indisclustered AS clustered, i.indisreplident AS replica_identity,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(a.attnum, a.attstattarget) ORDER BY a.attnum), '[]')
        FROM pg_attribute a WHERE a.attrelid = ic.oid AND coalesce(a.attstattarget, -1) <> -1) AS statistics,
       ic.relkind = 'I' AS partitioned,
       am.amname = 'btree' AS btree,
       NOT EXISTS (
           SELECT FROM unnest(i.indclass::oid[], i.indcollation::oid[], i.indkey::int2[])
                WITH ORDINALITY k(opclass, compared_by, attnum, n)
           JOIN pg_opclass o ON o.oid = k.opclass
           LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
           WHERE k.n <= i.indnkeyatts AND (
               o.oid >= 16384 OR k.compared_by IS DISTINCT FROM a.attcollation
               OR NOT EXISTS (SELECT FROM pg_opclass d WHERE d.opcfamily = o.opcfamily
                              AND d.opcintype = o.opcintype AND d.opcdefault))
       ) AS own_equality,
       (SELECT coalesce(array_agg(a.attname::text ORDER BY k.n), '{}')
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE k.n <= i.indnkeyatts) AS columns,
       con.conname AS constraint_name,
       CASE WHEN con.oid IS NOT NULL THEN pg_get_constraintdef(con.oid) END AS constraint_definition,
       obj_description(con.oid, 'pg_constraint') AS constraint_comment, obj_description(ic.oid, 'pg_class') AS comment,
       coalesce(ic.reloptions, '{}') AS options, ts.spcname AS tablespace
FROM (SELECT r.oid AS root, r.oid, 0 AS level FROM unnest(%(tables)s::oid[]) r(oid)
      UNION SELECT r.oid, t.relid, t.level FROM unnest(%(tables)s::oid[]) r(oid), pg_partition_tree(r.oid) t) p
JOIN pg_class tc ON tc.oid = p.oid JOIN pg_namespace tn ON tn.oid = tc.relnamespace
JOIN pg_index i ON i.indrelid = p.oid
JOIN pg_class ic ON ic.oid = i.indexrelid
JOIN pg_am am ON am.oid = ic.relam
LEFT JOIN (SELECT DISTINCT schemaname, tablename FROM pg_publication_tables) published
       ON (published.schemaname, published.tablename) = (tn.nspname, tc.relname)
LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
LEFT JOIN pg_class hc ON hc.oid = h.inhparent LEFT JOIN pg_namespace hn ON hn.oid = hc.relnamespace
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x')
LEFT JOIN pg_tablespace ts ON ts.oid = ic.reltablespace
ORDER BY p.root, p.level, i.indisprimary DESC, ic.relname COLLATE "C"

-- name: foreign_keys
-- Foreign keys declared on a table or on one of its partitions (not those that a partition inherits).
SELECT p.root::bigint AS table_oid, n.nspname AS table_schema, c.relname AS table_name, con.conname AS name, pg_get_constraintdef(con.oid) AS definition,
       rn.nspname AS ref_schema, rc.relname AS ref_name,
       (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(con.conkey) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum) AS columns,
       (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(con.confkey) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.attnum) AS ref_columns,
       con.confmatchtype = 'f' AS match_full,
       con.confupdtype = 'a' AND con.confdeltype = 'a' AS no_action,
       con.condeferrable AS is_deferrable, con.condeferred AS is_deferred, con.convalidated AS validated,
       -- NOT VALID is refused on a partitioned table before PostgreSQL 18.
       c.relkind = 'p' AND current_setting('server_version_num')::int < 180000 AS partitioned,
       rc.relkind = 'p' AS to_partitioned,
       current_setting('server_version_num')::int < 180000 AS parts_stay_unvalidated,
       NOT coalesce((to_jsonb(con)->>'conenforced')::bool, true) AS kept_as_declared,
       coalesce((to_jsonb(con)->>'conperiod')::bool, false) AS period,
       (SELECT jsonb_agg(jsonb_build_object(
                   'operator', format('OPERATOR(%%I.%%s)', opn.nspname, o.oprname),
                   'left_type', format('%%I.%%I', ln.nspname, lt.typname),
                   'right_type', format('%%I.%%I', tn.nspname, rt.typname),
                   'collation', CASE WHEN co.oid IS NOT NULL THEN format('%%I.%%I', cn.nspname, co.collname) END)
               ORDER BY k.n)
        FROM unnest(con.conpfeqop, con.confkey) WITH ORDINALITY k(op, attnum, n)
        JOIN pg_operator o ON o.oid = k.op JOIN pg_namespace opn ON opn.oid = o.oprnamespace
        JOIN pg_type lt ON lt.oid = o.oprleft JOIN pg_namespace ln ON ln.oid = lt.typnamespace
        JOIN pg_type rt ON rt.oid = o.oprright JOIN pg_namespace tn ON tn.oid = rt.typnamespace
        JOIN pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.attnum
        LEFT JOIN pg_collation co ON co.oid = a.attcollation LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
       ) AS operators,
       obj_description(con.oid, 'pg_constraint') AS comment
FROM (SELECT r.oid AS root, r.oid FROM unnest(%(tables)s::oid[]) r(oid)
      UNION SELECT r.oid, t.relid FROM unnest(%(tables)s::oid[]) r(oid), pg_partition_tree(r.oid) t) p
JOIN pg_constraint con ON con.conrelid = p.oid
JOIN pg_class c ON c.oid = con.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class rc ON rc.oid = con.confrelid JOIN pg_namespace rn ON rn.oid = rc.relnamespace
WHERE con.contype = 'f' AND con.conparentid = 0
ORDER BY p.root, n.nspname COLLATE "C", c.relname COLLATE "C", con.conname COLLATE "C"

-- name: unvalidated
-- CHECK and NOT NULL constraints NOT VALID of tables and partitions: old rows may violate them. Level 0 inherits from none.
-- valid_below: the constraints of partitions and children that are dropped with it, although they are validated.
WITH RECURSIVE above AS (
    SELECT inhrelid AS relation, inhparent AS parent, 1 AS level FROM pg_inherits
    UNION ALL
    SELECT a.relation, i.inhparent, a.level + 1 FROM above a JOIN pg_inherits i ON i.inhrelid = a.parent
)
SELECT p.root::bigint AS table_oid, n.nspname AS table_schema, c.relname AS table_name, con.conname AS name,
       pg_get_constraintdef(con.oid) AS definition, obj_description(con.oid, 'pg_constraint') AS comment,
       NOT con.conislocal AS inherited, coalesce((SELECT max(a.level) FROM above a WHERE a.relation = c.oid), 0) AS level,
       (WITH RECURSIVE below AS (
            SELECT con.oid, con.conrelid, con.convalidated
            UNION ALL
            SELECT i.oid, i.conrelid, i.convalidated
            FROM below b JOIN pg_inherits h ON h.inhparent = b.conrelid
            JOIN pg_constraint i ON i.conrelid = h.inhrelid AND i.contype = con.contype AND NOT i.conislocal
            WHERE NOT b.convalidated
              AND CASE WHEN con.contype = 'c' THEN i.conname = con.conname
                       ELSE (SELECT attname FROM pg_attribute WHERE (attrelid, attnum) = (i.conrelid, i.conkey[1]))
                          = (SELECT attname FROM pg_attribute WHERE (attrelid, attnum) = (con.conrelid, con.conkey[1]))
                  END
        )
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'table', jsonb_build_object('schema', vn.nspname, 'name', vc.relname), 'name', v.conname,
                   'definition', pg_get_constraintdef(v.oid), 'comment', obj_description(v.oid, 'pg_constraint'))
                   ORDER BY v.oid), '[]')
        FROM below JOIN pg_constraint v ON v.oid = below.oid
        JOIN pg_class vc ON vc.oid = v.conrelid JOIN pg_namespace vn ON vn.oid = vc.relnamespace
        WHERE v.convalidated) AS valid_below
FROM (SELECT r.oid AS root, r.oid FROM unnest(%(tables)s::oid[]) r(oid)
      UNION SELECT r.oid, t.relid FROM unnest(%(tables)s::oid[]) r(oid), pg_partition_tree(r.oid) t) p
JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_constraint con ON con.conrelid = p.oid
WHERE con.contype IN ('c', 'n') AND NOT con.convalidated
  AND (con.conislocal OR obj_description(con.oid, 'pg_constraint') IS NOT NULL)
  AND coalesce((to_jsonb(con)->>'conenforced')::bool, true)
ORDER BY p.root, n.nspname COLLATE "C", c.relname COLLATE "C", con.conname COLLATE "C"

-- name: unvalidated_of_domains
-- CHECK constraints NOT VALID of domains.
SELECT n.nspname AS table_schema, t.typname AS table_name, con.conname AS name,
       pg_get_constraintdef(con.oid) AS definition, obj_description(con.oid, 'pg_constraint') AS comment,
       false AS inherited, 0 AS level
FROM pg_constraint con JOIN pg_type t ON t.oid = con.contypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE NOT con.convalidated AND n.nspname !~ '^(pg_|information_schema$|confiture)'
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
ORDER BY n.nspname COLLATE "C", t.typname COLLATE "C", con.conname COLLATE "C"

-- name: triggers
-- User-defined triggers of tables and partitions. A clone may have another state than the trigger of its root.
SELECT p.root::bigint AS table_oid, n.nspname AS table_schema, c.relname AS table_name,
       t.tgname AS name, t.tgenabled::text AS enabled, pg_get_triggerdef(t.oid) AS definition
FROM (SELECT r.oid AS root, r.oid FROM unnest(%(tables)s::oid[]) r(oid)
      UNION SELECT r.oid, t.relid FROM unnest(%(tables)s::oid[]) r(oid), pg_partition_tree(r.oid) t) p
JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_trigger t ON t.tgrelid = p.oid
WHERE NOT t.tgisinternal
ORDER BY p.root, n.nspname COLLATE "C", c.relname COLLATE "C", t.tgname COLLATE "C"

-- name: rules
-- Rules ON INSERT, UPDATE and DELETE of tables and of their partitions.
SELECT p.root::bigint AS table_oid, n.nspname AS table_schema, c.relname AS table_name,
       r.rulename AS name, r.ev_enabled::text AS enabled, pg_get_ruledef(r.oid) AS definition
FROM (SELECT r.oid AS root, r.oid FROM unnest(%(tables)s::oid[]) r(oid)
      UNION SELECT r.oid, t.relid FROM unnest(%(tables)s::oid[]) r(oid), pg_partition_tree(r.oid) t) p
JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_rewrite r ON r.ev_class = p.oid
WHERE r.ev_type IN ('2', '3', '4')
ORDER BY p.root, n.nspname COLLATE "C", c.relname COLLATE "C", r.rulename COLLATE "C"

-- name: sequences
-- Sequences: their bounds, their last value (NULL: none was generated, or the role cannot read it), the owning column,
-- and the columns that each fills: as identity, by the default of the column or by that of its domain. plain: the
-- default is the value of the sequence, without an expression.
SELECT n.nspname AS schema, c.relname AS name, s.seqincrement AS increment,
       s.seqmin AS minimum, s.seqmax AS maximum,
       CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE') THEN pg_sequence_last_value(c.oid) END AS last,
       d.refobjid::bigint AS owner_table_oid, a.attname AS owner_column, f.fills,
       has_sequence_privilege(c.oid, 'SELECT') AS may_select,
       has_sequence_privilege(c.oid, 'UPDATE') AS may_update
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
     AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object(
               'table_oid', coalesce(pg_partition_root(x.relation)::oid, x.relation)::bigint, 'column', x.attname,
               'plain', x.expression IS NULL
                        OR x.expression ~ '^\(?nextval\(''([^'']|'''')+''::regclass\)\)?(::[a-z ]+)?$')), '[]') AS fills
    FROM (SELECT d.refobjid AS relation, a.attname, NULL AS expression WHERE d.deptype = 'i'
          UNION ALL
          SELECT v.adrelid, va.attname, pg_get_expr(v.adbin, v.adrelid)
          FROM pg_depend u JOIN pg_attrdef v ON v.oid = u.objid
          JOIN pg_attribute va ON va.attrelid = v.adrelid AND va.attnum = v.adnum
          WHERE u.classid = 'pg_attrdef'::regclass AND u.refclassid = 'pg_class'::regclass AND u.refobjid = c.oid
          UNION ALL
          SELECT ta.attrelid, ta.attname, t.typdefault
          FROM pg_depend u JOIN pg_type t ON t.oid = u.objid
          JOIN pg_attribute ta ON ta.atttypid = t.oid AND NOT ta.atthasdef AND NOT ta.attisdropped
          WHERE u.classid = 'pg_type'::regclass AND u.refclassid = 'pg_class'::regclass AND u.refobjid = c.oid
         ) x
) f
WHERE c.relkind = 'S' AND c.relpersistence <> 't'
  AND n.nspname !~ '^(pg_|information_schema$|confiture$|confiture_[0-9a-f]{8}$)'
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"

-- name: materialized_views
-- Materialized views in the order of their creation; reads: those that a view reads, also through views.
WITH RECURSIVE part AS (
    SELECT oid AS view, oid AS part FROM pg_class WHERE relkind = 'm'
    UNION
    SELECT p.view, d.refobjid
    FROM part p
    JOIN pg_rewrite r ON r.ev_class = p.part
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
)
SELECT n.nspname AS schema, c.relname AS name, c.relispopulated AS populated,
       (SELECT COALESCE(jsonb_agg(DISTINCT jsonb_build_object('schema', s.nspname, 'name', o.relname)), '[]')
        FROM part p JOIN pg_class o ON o.oid = p.part AND o.relkind = 'm' JOIN pg_namespace s ON s.oid = o.relnamespace
        WHERE p.view = c.oid AND o.oid <> c.oid) AS reads
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm'
  AND n.nspname !~ '^(pg_|information_schema$|confiture$|confiture_[0-9a-f]{8}$)'
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY c.oid

-- name: extensions
-- Installed extensions.
SELECT extname AS name, extversion AS version FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname COLLATE "C"

-- name: publications
-- Publications of updates or deletes with a table without a replica identity: the server rejects a DELETE from it.
-- tables: those tables, a partition as the table at its root. A row filter or a column list may have the same effect.
SELECT p.pubname AS name,
       concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
                 CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END) AS publish,
       f.tables
FROM pg_publication p
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('schema', rn.nspname, 'name', r.relname)), '[]') AS tables
    FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
    JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid)::oid, c.oid)
    JOIN pg_namespace rn ON rn.oid = r.relnamespace
    WHERE t.pubname = p.pubname
      AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
             SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))
) f
WHERE (p.pubupdate OR p.pubdelete)
  AND (f.tables <> '[]' OR EXISTS (SELECT FROM pg_publication_rel r
                                   WHERE r.prpubid = p.oid AND (to_jsonb(r) ->> 'prqual' IS NOT NULL
                                                                OR to_jsonb(r) ->> 'prattrs' IS NOT NULL)))
ORDER BY p.pubname COLLATE "C"

-- name: of_others
-- Objects that a run alters, with owners whose privileges the role lacks: publications and materialized views.
SELECT 'publication' AS kind, NULL AS schema, pubname AS name, pg_get_userbyid(pubowner) AS owner
FROM pg_publication WHERE NOT pg_has_role(pubowner, 'USAGE')
UNION ALL
SELECT 'materialized view', n.nspname, c.relname, pg_get_userbyid(c.relowner)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND NOT pg_has_role(c.relowner, 'USAGE')
  AND n.nspname !~ '^(pg_|information_schema$|confiture$|confiture_[0-9a-f]{8}$)'
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY 1, 2, 3

-- name: event_triggers
-- Event triggers that are not disabled, without those of extensions.
SELECT e.evtname AS name, e.evtevent AS event
FROM pg_event_trigger e
WHERE e.evtenabled <> 'D'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid AND d.deptype = 'e')
ORDER BY e.evtname COLLATE "C"

-- name: large_objects
-- The large objects as a whole. The session can read one if its role, a role whose privileges it has, or PUBLIC may.
WITH entry AS MATERIALIZED (
    SELECT m.oid, a.grantee, a.privilege_type FROM pg_largeobject_metadata m,
        aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) a
), unreadable AS (
    SELECT m.oid, m.lomowner FROM pg_largeobject_metadata m
    WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
      AND NOT EXISTS (SELECT FROM entry e WHERE e.oid = m.oid AND e.privilege_type = 'SELECT'
                      AND (e.grantee = 0 OR pg_has_role(e.grantee, 'USAGE')))
)
SELECT pg_total_relation_size('pg_largeobject')::bigint AS bytes,
       ARRAY(SELECT DISTINCT pg_get_userbyid(lomowner) FROM pg_largeobject_metadata ORDER BY 1)::text[] AS owners,
       ARRAY(SELECT DISTINCT pg_get_userbyid(grantee) FROM entry WHERE grantee <> 0 ORDER BY 1)::text[] AS grantees,
       (SELECT count(*) FROM unreadable) AS unreadable, (SELECT min(oid)::bigint FROM unreadable) AS example,
       ARRAY(SELECT DISTINCT pg_get_userbyid(lomowner) FROM unreadable ORDER BY 1)::text[] AS unreadable_owners

-- name: roles
-- The roles of the server, and whether the session has the privileges of each of them and may act as it with SET ROLE.
SELECT rolname::text AS name,
       pg_has_role(oid, 'USAGE') AND CASE WHEN current_setting('server_version_num')::int >= 160000
                                          THEN pg_has_role(oid, 'SET') ELSE true END AS may_act
FROM pg_roles
