-- The facts of the page that status does not print (status/details_reader.py).

-- name: events
-- The newest events, with the number of all; an older journal has no roles. The values of rows that an event may have are not read.
SELECT at, kind, actor, to_state, to_jsonb(e) ->> 'role' AS role,
       detail - ARRAY['key', 'message', 'query', 'place'] AS detail, count(*) OVER ()::int AS in_all
FROM confiture.event e WHERE run_id = %(run)s ORDER BY id DESC LIMIT %(most)s

-- name: compared
-- Each table of the plan with the sums of its parts in the last verification.
SELECT format('%%I.%%I', t.target_schema, t.target_table) AS target, coalesce(u.rows, 0)::bigint AS rows,
       coalesce(u.target_rows, 0)::bigint AS target_rows, t.rows_done AS of_all, coalesce(u.equal, true) AS equal, u.compared_at,
       ARRAY(SELECT jsonb_array_elements_text(t.plan -> 'kept')) AS not_compared
FROM confiture.table_plan t
LEFT JOIN (
    SELECT subject, sum(source_rows) AS rows, sum(target_rows) AS target_rows, bool_and(equal) AS equal, max(at) AS compared_at
    FROM confiture.verified_unit WHERE run_id = %(run)s AND verification = %(number)s AND check_name = 'rows' GROUP BY subject
) u ON u.subject = format('%%I.%%I', t.target_schema, t.target_table)
WHERE t.run_id = %(run)s ORDER BY t.number

-- name: checks
-- The other checks of the last verification.
SELECT check_name AS name, bool_and(equal) AS equal, count(*)::int AS subjects FROM confiture.verified_unit
WHERE run_id = %(run)s AND verification = %(number)s AND check_name <> 'rows' GROUP BY check_name ORDER BY check_name

-- name: differences
-- The differences of the last verification, without the values of rows.
SELECT subject, kind, ARRAY(SELECT jsonb_object_keys(key)) AS key, column_name FROM confiture.difference
WHERE run_id = %(run)s AND verification = %(number)s ORDER BY id LIMIT %(most)s

-- name: differing_values
-- The same with the values.
SELECT subject, kind, ARRAY(SELECT jsonb_object_keys(key)) AS key, column_name, key AS key_values, source_value, target_value
FROM confiture.difference WHERE run_id = %(run)s AND verification = %(number)s ORDER BY id LIMIT %(most)s

-- name: verification
-- The number of the last attempt that status reports.
SELECT number FROM confiture.verification
WHERE run_id = %(run)s AND (purpose = 'verify' OR purpose = 'cutover' AND verdict IS NOT NULL) ORDER BY number DESC LIMIT 1

-- name: blocking
-- The sessions of the target that block the runner. A role sees the application and the statement of the roles that it has.
SELECT DISTINCT a.pid, coalesce(a.usename, '')::text AS role, coalesce(a.application_name, '')::text AS application,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds,
       CASE WHEN a.backend_start IS NOT NULL THEN coalesce(a.query, '') ELSE '' END AS query
FROM confiture.runner r, jsonb_array_elements(r.target_backends) b
JOIN pg_stat_activity w ON w.pid = (b ->> 0)::int AND extract(epoch FROM w.backend_start)::text = b ->> 1
JOIN pg_stat_activity a ON a.pid = ANY (pg_blocking_pids(w.pid))
WHERE r.run_id = %(run)s AND r.ended_at IS NULL AND w.wait_event_type = 'Lock'
ORDER BY 1

-- name: rehearsal_blockers
-- The sessions that would have blocked the lock of the last rehearsal. Their statements are not recorded.
SELECT (b ->> 'pid')::int AS pid, coalesce(b ->> 'user', '') AS role, coalesce(b ->> 'application_name', '') AS application,
       coalesce(b ->> 'state', '') AS state, (b ->> 'seconds')::float8 AS seconds
FROM (SELECT detail FROM confiture.event WHERE run_id = %(run)s AND kind = 'rehearsed' ORDER BY id DESC LIMIT 1) e,
     jsonb_array_elements(e.detail -> 'blockers') b

-- name: plan
-- The plan with some of its tables, by the names of their targets.
SELECT jsonb_build_object('recode', r.plan -> 'recode', 'tables', ARRAY(
           SELECT t FROM jsonb_array_elements(r.plan -> 'tables') WITH ORDINALITY w(t, n)
           WHERE format('%%I.%%I', t -> 'target' ->> 'schema', t -> 'target' ->> 'name') = ANY (%(names)s) ORDER BY n)) AS plan
FROM confiture.run r WHERE r.id = %(run)s
