-- name: runs
-- Every run of this target, the newest first. The journal of an older version has moves only.
SELECT r.id, coalesce(to_jsonb(r) ->> 'medium', 'schema-to-schema') AS medium, r.state, r.started_at, r.source_name, r.target_name
FROM confiture.run r ORDER BY r.started_at DESC

-- name: events
-- The history of a run. The journal of an older version has no roles, so that they are read through jsonb.
SELECT e.at, e.kind, e.actor, to_jsonb(e) ->> 'role' AS role, e.from_state, e.to_state, e.detail
FROM confiture.event e WHERE e.run_id = %(run)s ORDER BY e.id
