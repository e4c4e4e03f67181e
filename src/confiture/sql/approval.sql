-- The approval of a cutover (journal/approvals.py).

-- name: required
-- Whether the run began with the requirement. Nothing withdraws it, and the history keeps it.
SELECT EXISTS (SELECT FROM confiture.event WHERE run_id = %(run)s AND kind = 'approval required')

-- name: standing
-- The newest approval that is valid, else the newest with the reason for which it is void; no row before the first. An event that
-- the approver's snapshot does not see happened later, or at the same time: the approver did not know it.
SELECT a.role, a.at, a.note, a.plan_hash, a.verification, v.void FROM confiture.approval a
JOIN confiture.run r ON r.id = a.run_id
CROSS JOIN LATERAL (SELECT CASE
    WHEN a.plan_hash IS DISTINCT FROM r.plan_hash THEN 'the run has another plan since'
    WHEN EXISTS (SELECT FROM confiture.runner x WHERE (x.run_id, x.role) = (a.run_id, a.role))
        THEN 'its role has also run the migration'
    WHEN EXISTS (SELECT FROM confiture.event e WHERE e.run_id = a.run_id AND NOT pg_visible_in_snapshot(e.xact, a.seen)
                 AND e.kind IN ('planned', 'replanned', 'table restarted', 'rollback'))
        THEN 'the run was planned, copied or cut over again since'
    WHEN EXISTS (SELECT FROM confiture.event e WHERE e.run_id = a.run_id AND NOT pg_visible_in_snapshot(e.xact, a.seen)
                 AND e.kind IN ('differences', 'reopen', 'repair'))
        OR EXISTS (SELECT FROM confiture.difference d WHERE d.run_id = a.run_id AND d.verification > a.verification)
        THEN 'a difference was found since' END) v(void)
WHERE a.run_id = %(run)s ORDER BY v.void IS NOT NULL, a.id DESC LIMIT 1

-- name: runs_it
-- The role of this session, and whether it has run the migration.
SELECT session_user::text, EXISTS (SELECT FROM confiture.runner WHERE run_id = %(run)s AND role = session_user)

-- name: record
-- The trigger sets the role, the time and the snapshot.
INSERT INTO confiture.approval (run_id, plan_hash, verification, actor, note)
VALUES (%(run)s, %(plan_hash)s, %(verification)s, %(actor)s, %(note)s)
