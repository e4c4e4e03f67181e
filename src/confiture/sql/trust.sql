-- name: untrusted
-- Functions that a SELECT from the given views calls, except those of superusers, of the current role and of the owner
-- of the view's table. The query follows operators with their commutators and negators, casts, the input and output
-- functions of types, CHECK constraints of domains, and parsed function bodies. The owner of a function is responsible
-- for a body that is a string. Built-in objects have no recorded dependencies; they belong to a superuser.
WITH RECURSIVE given AS (
    SELECT v.view::regclass::oid AS view, c.relowner AS owner
    FROM unnest(%(views)s::text[], %(tables)s::text[]) v(view, base) JOIN pg_class c ON c.oid = v.base::regclass
), part AS (
    SELECT g.view, 'pg_rewrite'::regclass::oid AS classid, r.oid AS objid, 0 AS sub
    FROM given g JOIN pg_rewrite r ON r.ev_class = g.view
    UNION
    SELECT p.view, n.classid, n.objid, n.sub FROM part p CROSS JOIN LATERAL (
        SELECT d.refclassid AS classid, d.refobjid AS objid, d.refobjsubid AS sub FROM pg_depend d
        WHERE d.classid = p.classid AND d.objid = p.objid AND d.deptype = 'n'
          AND p.classid = ANY (ARRAY['pg_rewrite', 'pg_proc', 'pg_constraint']::regclass[]::oid[])
        UNION ALL
        SELECT 'pg_type'::regclass, a.atttypid, 0 FROM pg_attribute a
        WHERE p.classid = 'pg_class'::regclass AND a.attrelid = p.objid AND a.attnum > 0 AND p.sub IN (0, a.attnum)
        UNION ALL
        SELECT 'pg_type'::regclass, a.atttypid, 0 FROM pg_attribute a
        WHERE p.classid = 'pg_rewrite'::regclass AND a.attrelid = p.view AND a.attnum > 0
        UNION ALL
        SELECT 'pg_proc'::regclass, f.oid, 0 FROM pg_operator o
        LEFT JOIN pg_operator c ON c.oid = o.oprcom LEFT JOIN pg_operator x ON x.oid = o.oprnegate
        CROSS JOIN LATERAL unnest(ARRAY[o.oprcode, c.oprcode, x.oprcode]::oid[]) f(oid)
        WHERE p.classid = 'pg_operator'::regclass AND o.oid = p.objid
        UNION ALL
        SELECT 'pg_type'::regclass, u.oid, 0 FROM pg_type t LEFT JOIN pg_range r ON r.rngtypid = t.oid
        CROSS JOIN LATERAL unnest(ARRAY[t.typbasetype, t.typelem, r.rngsubtype]) u(oid)
        WHERE p.classid = 'pg_type'::regclass AND t.oid = p.objid
        UNION ALL
        SELECT 'pg_class'::regclass, t.typrelid, 0 FROM pg_type t
        WHERE p.classid = 'pg_type'::regclass AND t.oid = p.objid AND t.typrelid <> 0
        UNION ALL
        SELECT 'pg_constraint'::regclass, c.oid, 0 FROM pg_constraint c
        WHERE p.classid = 'pg_type'::regclass AND c.contypid = p.objid
        UNION ALL
        SELECT 'pg_proc'::regclass, f.oid, 0 FROM pg_type t LEFT JOIN pg_range r ON r.rngtypid = t.oid
        CROSS JOIN LATERAL unnest(ARRAY[t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout,
                                        r.rngcanonical, r.rngsubdiff]::oid[]) f(oid)
        WHERE p.classid = 'pg_type'::regclass AND t.oid = p.objid
        UNION ALL
        SELECT 'pg_proc'::regclass, c.castfunc, 0 FROM pg_cast c
        WHERE p.classid = 'pg_type'::regclass AND c.castsource = p.objid AND c.casttarget = 'text'::regtype
        UNION ALL
        SELECT 'pg_proc'::regclass, s.amproc::oid, 0 FROM pg_opclass o JOIN pg_amproc s ON s.amprocfamily = o.opcfamily
        WHERE p.classid = 'pg_type'::regclass AND o.opcintype = p.objid AND p.objid >= 16384
    ) n WHERE n.objid <> 0
)
SELECT DISTINCT p.view::regclass::text, f.oid::bigint,
    format('%%I.%%I(%%s)', s.nspname, f.proname, oidvectortypes(f.proargtypes)),
    quote_ident(pg_get_userbyid(f.proowner)), quote_ident(pg_get_userbyid(g.owner)),
    md5(concat_ws(' ', f.prosrc, f.probin, f.prosqlbody::text, f.proconfig::text, f.prolang, f.prosecdef, f.provolatile))
FROM part p JOIN given g USING (view)
JOIN pg_proc f ON p.classid = 'pg_proc'::regclass AND f.oid = p.objid
JOIN pg_namespace s ON s.oid = f.pronamespace
WHERE f.proowner <> g.owner AND f.proowner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
  AND NOT (SELECT rolsuper FROM pg_roles r WHERE r.oid = f.proowner)
ORDER BY 1, 3

-- name: named
-- A function by its name and argument types, with the MD5 of its current definition; no row if it does not exist.
SELECT f.oid::bigint, format('%%I.%%I(%%s)', s.nspname, f.proname, oidvectortypes(f.proargtypes)),
    md5(concat_ws(' ', f.prosrc, f.probin, f.prosqlbody::text, f.proconfig::text, f.prolang, f.prosecdef, f.provolatile))
FROM pg_proc f JOIN pg_namespace s ON s.oid = f.pronamespace
WHERE f.oid = to_regprocedure(%(name)s)
