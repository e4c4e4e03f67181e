-- name: functions
-- Every function that the expression of the probe view calls, with its volatility and kind.
WITH rule AS (
    SELECT r.ev_action::text AS tree FROM pg_rewrite r WHERE r.ev_class = 'pg_temp.confiture_probe'::regclass
), called AS (
    SELECT m[1]::oid AS oid FROM rule, regexp_matches(tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') m
    UNION
    SELECT o.oprcode::oid FROM rule, regexp_matches(tree, ':opno (\d+)', 'g') m JOIN pg_operator o ON o.oid = m[1]::oid
)
SELECT p.proname, n.nspname, p.provolatile::text, p.prokind::text, p.proretset, pg_get_function_arguments(p.oid)
FROM called JOIN pg_proc p USING (oid) JOIN pg_namespace n ON n.oid = p.pronamespace

-- name: shape
-- Whether the expression of the probe view has a subquery, a value function, nextval() or a whole-row reference.
SELECT r.ev_action::text LIKE '%:hasSubLinks true%' AS sublinks,
       r.ev_action::text LIKE '%{SQLVALUEFUNCTION%' AS value_function,
       r.ev_action::text LIKE '%{NEXTVALUEEXPR%' AS next_value,
       r.ev_action::text ~ '\{VAR :varno \d+ :varattno 0 ' AS whole_row
FROM pg_rewrite r WHERE r.ev_class = 'pg_temp.confiture_probe'::regclass

-- name: reads
-- The columns of the source table that the expression reads.
SELECT d.refobjsubid, a.attname
FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
WHERE r.ev_class = 'pg_temp.confiture_probe'::regclass AND d.refobjid = %(table)s::oid
