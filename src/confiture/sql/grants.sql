-- name: objects
-- Each object with owner, privileges, comment and security labels. ``usual`` are the privileges of an object without a
-- GRANT. Objects of extensions and of the system have no owner and no comment here; they are listed only if ``every``, or
-- if their privileges were changed. An index, and a sequence that a column owns, has its table's owner.
WITH object AS (
    SELECT 'pg_class'::regclass AS class, c.oid, 0 AS sub, c.relacl AS acl,
           CASE WHEN c.relkind NOT IN ('i', 'I') AND NOT EXISTS (
               SELECT FROM pg_depend d WHERE (d.classid, d.objid, d.refclassid) = ('pg_class'::regclass, c.oid, 'pg_class'::regclass)
                   AND c.relkind = 'S' AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0) THEN c.relowner END AS owner,
           CASE WHEN c.relkind IN ('r', 'p', 'v', 'm', 'f') THEN acldefault('r', c.relowner)
                WHEN c.relkind = 'S' THEN acldefault('s', c.relowner) END AS usual,
           c.relnamespace AS namespace, c.oid AS relation, NULL::name AS part
    FROM pg_class c WHERE c.relkind NOT IN ('c', 't')
    UNION ALL
    SELECT 'pg_class'::regclass, a.attrelid, a.attnum, a.attacl, NULL,
           CASE WHEN c.relkind <> 'c' THEN '{{}}'::aclitem[] END, c.relnamespace, c.oid, a.attname
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.oid >= 16384
    UNION ALL
    SELECT 'pg_namespace'::regclass, oid, 0, nspacl, nspowner, acldefault('n', nspowner), oid, NULL, NULL FROM pg_namespace
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, 0, proacl, proowner, acldefault('f', proowner), pronamespace, NULL, NULL FROM pg_proc
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, 0, t.typacl, t.typowner, acldefault('T', t.typowner), t.typnamespace, NULL, NULL
    FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.typtype <> 'm' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
        AND coalesce(c.relkind, 'c') = 'c'
    UNION ALL
    SELECT 'pg_language'::regclass, oid, 0, lanacl, lanowner, acldefault('l', lanowner), NULL, NULL, NULL FROM pg_language
    UNION ALL
    SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, fdwacl, fdwowner, acldefault('F', fdwowner), NULL, NULL, NULL
    FROM pg_foreign_data_wrapper
    UNION ALL
    SELECT 'pg_foreign_server'::regclass, oid, 0, srvacl, srvowner, acldefault('S', srvowner), NULL, NULL, NULL
    FROM pg_foreign_server WHERE srvname !~ '^confiture'
    UNION ALL
    SELECT 'pg_database'::regclass, oid, 0, datacl, datdba, acldefault('d', datdba), NULL, NULL, NULL
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'pg_operator'::regclass, oid, 0, NULL, oprowner, NULL, oprnamespace, NULL, NULL FROM pg_operator
    UNION ALL
    SELECT 'pg_opclass'::regclass, oid, 0, NULL, opcowner, NULL, opcnamespace, NULL, NULL FROM pg_opclass
    UNION ALL
    SELECT 'pg_opfamily'::regclass, oid, 0, NULL, opfowner, NULL, opfnamespace, NULL, NULL FROM pg_opfamily
    UNION ALL
    SELECT 'pg_collation'::regclass, oid, 0, NULL, collowner, NULL, collnamespace, NULL, NULL FROM pg_collation
    UNION ALL
    SELECT 'pg_conversion'::regclass, oid, 0, NULL, conowner, NULL, connamespace, NULL, NULL FROM pg_conversion
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, oid, 0, NULL, dictowner, NULL, dictnamespace, NULL, NULL FROM pg_ts_dict
    UNION ALL
    SELECT 'pg_ts_config'::regclass, oid, 0, NULL, cfgowner, NULL, cfgnamespace, NULL, NULL FROM pg_ts_config
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, oid, 0, NULL, stxowner, NULL, stxnamespace, NULL, NULL FROM pg_statistic_ext
    UNION ALL
    SELECT 'pg_event_trigger'::regclass, oid, 0, NULL, evtowner, NULL, NULL, NULL, NULL FROM pg_event_trigger
    UNION ALL
    SELECT 'pg_publication'::regclass, oid, 0, NULL, pubowner, NULL, NULL, NULL, NULL FROM pg_publication
    UNION ALL
    SELECT 'pg_extension'::regclass, oid, 0, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_extension
    UNION ALL
    SELECT 'pg_cast'::regclass, oid, 0, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_cast WHERE oid >= 16384
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid, 0, NULL, NULL, NULL, k.connamespace, nullif(k.conrelid, 0), k.conname
    FROM pg_constraint k
    UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid, 0, NULL, NULL, NULL, c.relnamespace, c.oid, t.tgname
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'pg_rewrite'::regclass, w.oid, 0, NULL, NULL, NULL, c.relnamespace, c.oid, w.rulename
    FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class WHERE w.ev_type <> '1'
    UNION ALL
    SELECT 'pg_policy'::regclass, p.oid, 0, NULL, NULL, NULL, c.relnamespace, c.oid, p.polname
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
), judged AS (
    SELECT o.*, i.initprivs, coalesce(o.acl, o.usual) AS privileges,
           (o.oid < 16384 AND o.class <> 'pg_database'::regclass
               AND (o.class, n.nspname) IS DISTINCT FROM ('pg_namespace'::regclass, 'public'))
           OR EXISTS (SELECT FROM pg_depend d WHERE (d.classid, d.objid, d.deptype) = (o.class, o.oid, 'e')) AS provided
    FROM object o LEFT JOIN pg_namespace n ON n.oid = o.namespace
    LEFT JOIN pg_init_privs i ON (i.classoid, i.objoid, i.objsubid) = (o.class, o.oid, o.sub)
    WHERE n.nspname IS NULL OR n.nspname !~ '^(confiture(_.*)?|pg_toast.*|pg_temp.*)$'
)
SELECT w.type, w.identity, rn.nspname, r.relname, j.part,
       CASE WHEN NOT j.provided THEN pg_get_userbyid(j.owner) END,
       CASE WHEN j.usual IS NOT NULL THEN {privileges} END,
       CASE WHEN j.usual IS NOT NULL THEN {usual} END,
       CASE WHEN NOT j.provided THEN d.description END,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(l.provider, l.label) ORDER BY l.provider), '[]')
        FROM (SELECT provider, label FROM pg_seclabel WHERE (classoid, objoid, objsubid) = (j.class, j.oid, j.sub)
              UNION ALL
              SELECT provider, label FROM pg_shseclabel WHERE (classoid, objoid) = (j.class, j.oid)) l)
FROM judged j
CROSS JOIN LATERAL pg_identify_object(j.class, j.oid, j.sub) w
LEFT JOIN pg_class r ON r.oid = j.relation
LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace
LEFT JOIN (SELECT classoid, objoid, objsubid, description FROM pg_description
           UNION ALL SELECT classoid, objoid, 0, description FROM pg_shdescription) d
    ON (d.classoid, d.objoid, d.objsubid) = (j.class, j.oid, j.sub)
WHERE NOT j.provided OR j.usual IS NOT NULL AND (%(every)s OR j.acl IS DISTINCT FROM j.initprivs)

-- name: explode
-- The privileges in a list, as (role, privilege, grantable); the role is null for PUBLIC.
(SELECT coalesce(jsonb_agg(jsonb_build_array(CASE WHEN x.grantee <> 0 THEN pg_get_userbyid(x.grantee) END,
                                             x.privilege_type, x.is_grantable)), '[]')
 FROM aclexplode(nullif({acl}, '{{}}')) x)

-- name: default_privileges
-- The default privileges of each role, in the whole database (no schema) or in one schema, with those that hold without
-- them.
SELECT pg_get_userbyid(a.defaclrole), n.nspname, a.defaclobjtype::text, {privileges}, {usual}
FROM (SELECT *, CASE WHEN defaclnamespace = 0
                     THEN acldefault(CASE defaclobjtype WHEN 'S' THEN 's' ELSE defaclobjtype END, defaclrole)
                     ELSE '{{}}' END AS usual
      FROM pg_default_acl) a
LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace

-- name: roles
-- The roles of the server.
SELECT rolname FROM pg_roles

-- name: reach
-- Why a role sees values of rows whatever it is granted; null if it does not, no row if there is no such role.
SELECT CASE WHEN r.rolsuper THEN 'it is a superuser'
            WHEN pg_has_role(r.oid, n.nspowner, 'MEMBER') THEN 'it is a member of ' || quote_ident(pg_get_userbyid(n.nspowner))
                || ', which owns the journal'
            WHEN pg_has_role(r.oid, 'pg_read_all_data', 'MEMBER') THEN 'it is a member of pg_read_all_data'
            ELSE (SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE 'it is a member of ' || quote_ident(pg_get_userbyid(x.grantee))
                              || ', which' END || ' may read ' || c.oid::regclass
                  FROM pg_class c, aclexplode(c.relacl) x
                  WHERE c.relnamespace = n.oid AND c.relname = ANY (%(tables)s) AND x.privilege_type = 'SELECT'
                      AND x.grantee <> r.oid AND (x.grantee = 0 OR pg_has_role(r.oid, nullif(x.grantee, 0), 'MEMBER'))
                  ORDER BY c.relname LIMIT 1) END
FROM pg_roles r, pg_namespace n WHERE r.rolname = %(role)s AND n.nspname = 'confiture'

-- name: excess
-- Privileges of the role itself on whole tables of the journal, each with its tables, for example by default privileges: to write,
-- and to read values of rows.
SELECT x.privilege_type, array_agg(c.relname::text ORDER BY c.relname) FROM pg_class c, aclexplode(c.relacl) x
WHERE c.relnamespace = 'confiture'::regnamespace AND c.relkind IN ('r', 'v')
    AND (x.privilege_type <> 'SELECT' OR c.relname = ANY (%(tables)s))
    AND x.grantee = (SELECT oid FROM pg_roles WHERE rolname = %(role)s) AND x.grantee <> c.relowner
GROUP BY x.privilege_type ORDER BY x.privilege_type
