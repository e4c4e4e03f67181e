-- The facts of a report for a change request that the page does not have (status/sign_off_reader.py).

-- name: run
-- The plan, the mapping and the version that set the run up.
SELECT plan, plan_hash, mapping, mapping_file, tool_version FROM confiture.run WHERE id = %(run)s

-- name: verification
-- The last verification that status reports.
SELECT number FROM confiture.verification
WHERE run_id = %(run)s AND (purpose = 'verify' OR purpose = 'cutover' AND verdict IS NOT NULL) ORDER BY number DESC LIMIT 1

-- name: forecast
-- The forecast that setup has recorded, with the size of the target's database then and now.
SELECT detail -> 'forecast' AS forecast, (detail ->> 'database_bytes')::bigint AS before, pg_database_size(current_database()) AS now
FROM confiture.event WHERE run_id = %(run)s AND kind = 'forecast recorded' ORDER BY id DESC LIMIT 1

-- name: repairs
-- The repairs, the oldest first.
SELECT at, actor, detail ->> 'table' AS "table", (detail ->> 'keys')::bigint AS rows FROM confiture.event
WHERE run_id = %(run)s AND kind = 'repair' ORDER BY id
