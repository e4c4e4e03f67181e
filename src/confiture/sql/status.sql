-- name: now
-- The server's clock and version, and whether there is a journal.
SELECT clock_timestamp(), current_setting('server_version'),
       to_regclass('confiture.run') IS NOT NULL, to_regclass('confiture.migration') IS NOT NULL

-- name: runs
-- Every run that moves a database into this target: the one that is not over first, then the newest. The columns that an older journal
-- lacks are read through jsonb.
SELECT r.id, r.state, r.state_since, r.started_at, r.source_name, r.source_conninfo, r.source_identity,
       r.target_name, r.blocked_reason,
       to_jsonb(r) ->> 'blocked_command' AS blocked_command, r.cutover_phase, r.plan IS NOT NULL AS planned,
       coalesce(extract(epoch FROM clock_timestamp() - (to_jsonb(r) ->> 'phase_since')::timestamptz), 0)::float8
           AS phase_seconds,
       coalesce((r.options->>'capture')::bool, false) AS captured, (SELECT string_agg(name, ' and ') FROM jsonb_array_elements_text(r.options -> 'poolers') name) AS held,
       extract(epoch FROM clock_timestamp() - r.started_at)::float8 AS age,
       extract(epoch FROM clock_timestamp() - coalesce(
           (SELECT c.at FROM confiture.catchup c WHERE c.run_id = r.id), r.started_at))::float8 AS idle_seconds,
       EXISTS (SELECT FROM confiture.step s WHERE s.run_id = r.id AND s.phase = 'setup' AND s.name = 'foreign server'
                   AND s.status = 'done') AS setup_done,
       (SELECT s.phase FROM confiture.step s WHERE s.run_id = r.id AND s.phase IN ('abort', 'cleanup') LIMIT 1) AS ending,
       (SELECT CASE WHEN e.kind = 'rollback' THEN e.at END FROM confiture.event e
        WHERE e.run_id = r.id AND e.kind IN ('cutover', 'rollback') AND e.to_state IS NOT NULL
        ORDER BY e.id DESC LIMIT 1) AS rolled_back_at,
       (SELECT string_agg(format('%I: %s', t -> 'target' ->> 'name', t ->> 'rollback_problem'), '; ')
        FROM jsonb_array_elements(r.plan -> 'tables') t WHERE t ->> 'rollback_problem' IS NOT NULL) AS no_rollback,
       CASE WHEN r.state = 'cutover' AND (r.options->>'capture')::bool THEN ARRAY(
           SELECT format('%I.%I', v ->> 'schema', v ->> 'name')
           FROM jsonb_array_elements(r.plan -> 'materialized_views') WITH ORDINALITY w(v, n)
           WHERE NOT EXISTS (SELECT FROM confiture.step s WHERE (s.run_id, s.phase, s.status) = (r.id, 'refresh', 'done')
                             AND s.name = concat_ws('.', v ->> 'schema', v ->> 'name')) ORDER BY n)
           WHEN r.state NOT IN ('cleaned', 'aborted') AND to_jsonb(r) ->> 'reads_phase' IS NOT NULL THEN ARRAY(
           SELECT format('%I.%I', v ->> 'schema', v ->> 'name')
           FROM jsonb_array_elements(r.plan -> 'materialized_views') WITH ORDINALITY w(v, n) ORDER BY n) END AS stale_views
FROM confiture.run r WHERE coalesce(to_jsonb(r) ->> 'medium', 'schema-to-schema') = 'schema-to-schema' ORDER BY r.state IN ('cleaned', 'aborted'), r.state_since DESC

-- name: media
-- The media of the runs of this target. An older journal has only moves.
SELECT DISTINCT coalesce(to_jsonb(r) ->> 'medium', 'schema-to-schema') AS medium FROM confiture.run r

-- name: reads
-- Where reads are redirected, how far the target is behind the source, at most, and the tables that no pass keeps up to date. Read
-- through jsonb, because an older journal does not have the columns.
SELECT to_jsonb(r) ->> 'reads_phase' AS phase, (to_jsonb(r) ->> 'reads_since')::timestamptz AS since,
       (to_jsonb(r) ->> 'reads_limit')::float8 AS max_staleness_seconds,
       (SELECT extract(epoch FROM clock_timestamp() - (to_jsonb(c) ->> 'fresh_at')::timestamptz)::float8
        FROM confiture.catchup c WHERE c.run_id = r.id) AS staleness_seconds,
       ARRAY(SELECT format('%%I.%%I', t -> 'target' ->> 'schema', t -> 'target' ->> 'name')
             FROM jsonb_array_elements(r.plan -> 'tables') WITH ORDINALITY w(t, n)
             WHERE (t ->> 'recopied')::bool ORDER BY n) AS not_kept
FROM confiture.run r WHERE r.id = %(run)s

-- name: runner
-- The process that runs the run, or ran it last. It is gone when none of its recorded server processes runs any more: a pid is
-- always shown, when it started only to those who may see it. A standby does not see the primary's processes.
SELECT r.host, r.pid, r.tool_version, r.command, r.heartbeat_at, r.ended_at, r.ended_why,
       extract(epoch FROM clock_timestamp() - r.heartbeat_at)::float8 AS silent,
       extract(epoch FROM clock_timestamp() - coalesce(r.ended_at, r.heartbeat_at))::float8 AS absent,
       NOT pg_is_in_recovery() AND jsonb_array_length(r.target_backends) > 0 AND NOT EXISTS (
           SELECT FROM jsonb_array_elements(r.target_backends) b JOIN pg_stat_activity a ON a.pid = (b ->> 0)::int
           WHERE coalesce(extract(epoch FROM a.backend_start)::text = b ->> 1, true)) AS gone,
       (SELECT count(*)::int FROM confiture.event e WHERE e.run_id = r.run_id AND e.kind = 'takeover') AS restarts,
       (SELECT max(at) FROM confiture.event e WHERE e.run_id = r.run_id AND e.kind = 'takeover') AS last_restart
FROM confiture.runner r WHERE r.run_id = %(run)s ORDER BY r.epoch DESC LIMIT 1

-- name: paused
-- For how many seconds and since when the run is to pause; no row when it is not.
SELECT extract(epoch FROM clock_timestamp() - at)::float8, at FROM (
    SELECT kind, at FROM confiture.request WHERE run_id = %(run)s AND kind IN ('pause', 'resume')
    ORDER BY id DESC LIMIT 1) last_word
WHERE kind = 'pause'

-- name: throttle
-- The reason for which the last runner waits, since when and for how many seconds; all NULL when it does not wait. Read through
-- jsonb, because an older journal does not have the columns.
SELECT w.reason, w.since, extract(epoch FROM clock_timestamp() - w.since)::float8 AS seconds
FROM confiture.runner r, LATERAL (
    SELECT to_jsonb(r) ->> 'throttled_reason', (to_jsonb(r) ->> 'throttled_since')::timestamptz) w(reason, since)
WHERE r.run_id = %(run)s ORDER BY r.epoch DESC LIMIT 1

-- name: limits
-- The limits that operators set last.
SELECT detail FROM confiture.request WHERE run_id = %(run)s AND kind = 'throttle' ORDER BY id DESC LIMIT 1

-- name: tables
-- The tables of the plan and what their chunks say; recent is what was copied in the last ten minutes.
SELECT format('%%I.%%I', t.source_schema, t.source_table) AS source,
       format('%%I.%%I', t.target_schema, t.target_table) AS target,
       t.plan ->> 'strategy' AS strategy, t.estimate, t.rows_done, t.phase, t.sealed,
       (SELECT string_agg(k ->> 'source', ', ' ORDER BY n)
        FROM jsonb_array_elements(t.plan -> 'key') WITH ORDINALITY w(k, n)) AS key,
       (SELECT c.upper_key FROM confiture.chunk c WHERE (c.run_id, c.table_number) = (t.run_id, t.number)
            AND c.status = 'done' ORDER BY c.number DESC LIMIT 1) AS checkpoint,
       (SELECT c.error ->> 'message' FROM confiture.chunk c WHERE (c.run_id, c.table_number) = (t.run_id, t.number)
            AND c.status = 'failed' ORDER BY c.number LIMIT 1) AS last_error,
       s.attempts, s.failed, coalesce(s.recent, 0) AS recent, s.first_recent
FROM confiture.table_plan t
LEFT JOIN (
    SELECT table_number, max(attempts) AS attempts, count(*) FILTER (WHERE status = 'failed')::int AS failed,
           sum(rows) FILTER (WHERE recent)::bigint AS recent,
           min(done_at - make_interval(secs => coalesce(seconds, 0))) FILTER (WHERE recent) AS first_recent
    FROM confiture.chunk, LATERAL (SELECT done_at > clock_timestamp() - interval '10 minutes') w(recent)
    WHERE run_id = %(run)s GROUP BY table_number
) s ON s.table_number = t.number
WHERE t.run_id = %(run)s ORDER BY t.number

-- name: rebuilding
-- Indexes and constraints the load took off, by table: how many, and how many are back.
SELECT format('%%I.%%I', schema_name, table_name) AS target,
       count(*) FILTER (WHERE status <> 'off')::int AS back, count(*)::int AS taken
FROM confiture.deferred_object WHERE run_id = %(run)s AND kind IN ('index', 'constraint') GROUP BY 1

-- name: building
-- The index builds of the runner and how far each is. An index that is not committed has no name in the catalogs, so that
-- its name is read from the statement. A role sees the sessions of the roles that it has; the others report nothing.
SELECT substring(a.query FROM '(?:^CREATE (?:UNIQUE )?INDEX|ADD CONSTRAINT) ("(?:[^"]|"")+"|[^ ]+) ') AS name,
       format('%%I.%%I', n.nspname, c.relname) AS "table", split_part(p.phase, ': ', -1) AS phase,
       coalesce(a.xact_start, clock_timestamp()) AS began,
       least(CASE WHEN p.phase LIKE '%%: scanning table' THEN 100.0 * p.blocks_done / nullif(p.blocks_total, 0)
                  WHEN p.phase LIKE '%%: loading tuples in tree' THEN 100.0 * p.tuples_done / nullif(p.tuples_total, 0)
             END, 100)::float8 AS percent
FROM confiture.runner r, jsonb_array_elements(r.target_backends) b
JOIN pg_stat_activity a ON a.pid = (b ->> 0)::int AND extract(epoch FROM a.backend_start)::text = b ->> 1
JOIN pg_stat_progress_create_index p ON p.pid = a.pid AND p.datid = a.datid
JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.run_id = %(run)s AND r.ended_at IS NULL AND a.datname = current_database()
ORDER BY a.query_start, a.pid

-- name: verification
-- The last attempt, but for a repetition under the cutover's lock that was interrupted; stale when rows were copied, the
-- plan was changed or this server was started after its verdict, or a command was refused because of it, as the source's
-- server had been restarted. With the tables in which rows differ.
SELECT v.number, v.verdict, v.ended_at AS checked_at,
       v.ended_at IS NOT NULL AND (v.plan_hash IS DISTINCT FROM r.plan_hash OR EXISTS (
           SELECT FROM confiture.chunk c WHERE c.run_id = r.id AND c.done_at > v.ended_at)
           OR NOT pg_is_in_recovery() AND v.ended_at < pg_postmaster_start_time()
           OR EXISTS (SELECT FROM confiture.runner x WHERE x.run_id = v.run_id AND x.ended_at > v.ended_at
                          AND x.ended_why LIKE 'Refused: the verification is stale%%')) AS stale,
       (SELECT count(*)::int FROM confiture.difference d
        WHERE (d.run_id, d.verification) = (v.run_id, v.number)) AS differences,
       (SELECT array_agg(DISTINCT u.subject ORDER BY u.subject) FROM confiture.verified_unit u
        WHERE (u.run_id, u.verification) = (v.run_id, v.number) AND u.check_name = 'rows' AND NOT u.equal) AS differing,
       c.began_at AS last_complete_at,
       extract(epoch FROM clock_timestamp() - c.began_at)::float8 AS last_complete_seconds
FROM confiture.verification v JOIN confiture.run r ON r.id = v.run_id
LEFT JOIN confiture.complete_verification c ON c.run_id = v.run_id
WHERE v.run_id = %(run)s AND (v.purpose = 'verify' OR v.purpose = 'cutover' AND v.verdict IS NOT NULL)
ORDER BY v.number DESC LIMIT 1

-- name: errors
-- The errors of the last 24 hours, the newest first: facts of their own, and otherwise the end of a command.
SELECT at, kind, text FROM (
    SELECT e.at, e.kind, coalesce(
        CASE e.kind WHEN 'bad row' THEN format('%%s: %%s', e.detail ->> 'table', e.detail ->> 'message')
                    WHEN 'blocked' THEN e.detail ->> 'reason'
                    WHEN 'notification failed' THEN format('%%s: %%s', e.detail ->> 'receiver', e.detail ->> 'reason')
                    ELSE 'the runner was gone; resumed by ' || (e.detail ->> 'command') END, e.kind) AS text
    FROM confiture.event e
    WHERE e.run_id = %(run)s AND e.kind IN ('bad row', 'blocked', 'takeover', 'notification failed')
      AND NOT (e.kind = 'blocked' AND EXISTS (
          SELECT FROM confiture.event b WHERE (b.run_id, b.epoch, b.kind) = (e.run_id, e.epoch, 'bad row')))
    UNION ALL
    SELECT r.ended_at, 'ended', format('%%s: %%s', r.command, r.ended_why) FROM confiture.runner r
    WHERE r.run_id = %(run)s AND r.ended_why NOT IN ('finished', 'taken over') AND NOT EXISTS (
        SELECT FROM confiture.event b
        WHERE (b.run_id, b.epoch) = (r.run_id, r.epoch) AND b.kind IN ('bad row', 'blocked'))
) w WHERE at > clock_timestamp() - interval '24 hours' ORDER BY at DESC

-- name: locks
-- Sessions of the target that wait for a lock of the runner's, and how many of the runner's wait for others.
WITH ours AS (
    SELECT a.pid, a.wait_event_type FROM confiture.runner r, jsonb_array_elements(r.target_backends) b
    JOIN pg_stat_activity a ON a.pid = (b ->> 0)::int AND extract(epoch FROM a.backend_start)::text = b ->> 1
    WHERE r.run_id = %(run)s AND r.ended_at IS NULL
)
SELECT (SELECT count(*)::int FROM pg_stat_activity a WHERE a.wait_event_type = 'Lock'
            AND a.pid NOT IN (SELECT pid FROM ours)
            AND pg_blocking_pids(a.pid) && ARRAY(SELECT pid FROM ours)) AS waiting_for_us,
       (SELECT count(*)::int FROM ours WHERE wait_event_type = 'Lock') AS we_wait

-- name: changes
-- Passes of catch-up, and how far behind the source the target was when last measured.
SELECT c."pass" AS passes, c.rows AS applied, c.backlog, c.oldest AS oldest_seconds FROM confiture.catchup c WHERE c.run_id = %(run)s

-- name: compared
-- For each table of a verification: rows of the source that were compared, and differences.
SELECT subject, sum(rows)::bigint AS rows, sum(differences)::int AS differences FROM (
    SELECT subject, sum(source_rows) AS rows, 0 AS differences FROM confiture.verified_unit
    WHERE run_id = %(run)s AND verification = %(number)s AND check_name = 'rows' GROUP BY 1
    UNION ALL
    SELECT subject, 0, count(*) FROM confiture.difference
    WHERE run_id = %(run)s AND verification = %(number)s AND check_name = 'rows' GROUP BY 1) w
GROUP BY 1

-- name: pauses
-- The last rehearsal, and the write pause of the last cutover or rollback.
SELECT DISTINCT ON (kind) kind, at, detail FROM confiture.event
WHERE run_id = %(run)s AND kind IN ('rehearsed', 'write pause') ORDER BY kind, id DESC
