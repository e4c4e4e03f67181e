-- The facts that a forecast is made from (schema_to_schema/forecast.py).

-- name: widths
-- The statistics of each column of some tables. A partitioned table that was not analyzed itself has those of its largest
-- partition that was. The view is read once: for each table again, it would take as long as there are tables.
WITH stats AS MATERIALIZED (
    SELECT schemaname, tablename, inherited, attname, avg_width, null_frac, n_distinct FROM pg_stats
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
), candidate AS MATERIALIZED (
    SELECT t.root, t.level, c.relpages AS pages, n.nspname AS schemaname, c.relname AS tablename,
           c.relkind = 'p' AS inherited
    FROM (SELECT r.oid AS root, r.oid, 0 AS level FROM unnest(%(tables)s::oid[]) r(oid)
          UNION ALL SELECT r.oid, p.relid, 1 FROM unnest(%(tables)s::oid[]) r(oid), pg_partition_tree(r.oid) p
          WHERE p.isleaf AND p.relid <> r.oid) t
    JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
), best AS MATERIALIZED (
    SELECT DISTINCT ON (root) root, schemaname, tablename, inherited
    FROM candidate JOIN (SELECT DISTINCT schemaname, tablename, inherited FROM stats) known
        USING (schemaname, tablename, inherited)
    ORDER BY root, level, pages DESC
)
SELECT root::bigint AS table_oid, attname AS name, avg_width::float8 AS bytes, null_frac::float8 AS null_share,
       n_distinct::float8 AS distinct
FROM best JOIN stats USING (schemaname, tablename, inherited)

-- name: written
-- The rows of some tables that were written, since when the server counts them (NULL: not known), and its clock.
SELECT coalesce(sum(pg_stat_get_tuples_inserted(t.relid) + pg_stat_get_tuples_updated(t.relid)
                    + pg_stat_get_tuples_deleted(t.relid)), 0)::bigint AS rows,
       (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()) AS since, clock_timestamp() AS now
FROM unnest(%(tables)s::oid[]) r(oid)
CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree(r.oid) WHERE isleaf UNION SELECT r.oid) t

-- name: wal
-- The settings that decide how much WAL the server keeps, in bytes, and the size of its WAL, if the role can read it.
SELECT pg_size_bytes(current_setting('max_wal_size')) AS max_size,
       pg_size_bytes(current_setting('wal_keep_size')) AS keep,
       nullif(current_setting('max_slot_wal_keep_size'), '-1') IS NOT NULL AS limited,
       pg_size_bytes(current_setting('max_slot_wal_keep_size')) AS slot_keep,
       (SELECT count(*)::int FROM pg_replication_slots WHERE NOT active) AS idle_slots,
       current_setting('archive_mode') <> 'off' AS archived,
       has_function_privilege('pg_ls_waldir()', 'EXECUTE') AS visible

-- name: wal_present
-- The size of the WAL.
SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()

-- name: copied
-- The seconds for a row of each source table, in the newest run of the journal that has copied a thousand rows of it.
SELECT DISTINCT ON (t.source_schema, t.source_table) t.source_schema, t.source_table,
       sum(c.seconds) / sum(c.rows) AS seconds
FROM confiture.table_plan t
JOIN confiture.run r ON r.id = t.run_id
JOIN confiture.chunk c ON (c.run_id, c.table_number) = (t.run_id, t.number) AND c.status = 'done'
GROUP BY t.source_schema, t.source_table, r.id, r.started_at HAVING sum(c.rows) >= 1000
ORDER BY t.source_schema, t.source_table, r.started_at DESC

-- name: compared
-- The seconds for a row in the newest verification that compared every row, a thousand at least.
SELECT extract(epoch FROM v.ended_at - v.started_at)::float8 / sum(u.source_rows)::float8 AS seconds
FROM confiture.verification v
JOIN confiture.verified_unit u ON (u.run_id, u.verification) = (v.run_id, v.number) AND u.check_name = 'rows'
WHERE v.verdict IS NOT NULL AND v.purpose = 'verify'
GROUP BY v.run_id, v.number, v.started_at, v.ended_at HAVING sum(u.source_rows) >= 1000
ORDER BY v.started_at DESC LIMIT 1

-- name: rehearsed
-- The write pause that the last complete rehearsal of a cutover expected.
SELECT (detail ->> 'seconds')::float8 AS seconds FROM confiture.event
WHERE kind = 'rehearsed' AND detail ->> 'command' = 'cutover' AND (detail ->> 'complete')::bool
ORDER BY id DESC LIMIT 1

-- name: place
-- The data directory (NULL where the role cannot read it), the tablespace of the database if it has its own, when the
-- server was started, and its identity.
SELECT (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
       nullif(pg_tablespace_location((SELECT dattablespace FROM pg_database WHERE datname = current_database())), ''),
       extract(epoch FROM pg_postmaster_start_time())::float8,
       (SELECT system_identifier::text FROM pg_control_system())

-- name: grown
-- The forecast that was recorded with a run, and how far the run has come.
SELECT e.at, (f.disk #>> '{rows,bytes}')::bigint + (f.disk #>> '{indexes,bytes}')::bigint AS expected,
       (f.disk #>> '{sorting,bytes}')::bigint AS sorting, (f.disk #>> '{wal,bytes}')::bigint AS wal,
       (f.disk #>> '{free,bytes}')::bigint AS free, f.seconds::float8 AS total_seconds, f.copy_seconds::float8 AS copy_seconds,
       pg_database_size(current_database()) - (e.detail ->> 'database_bytes')::bigint AS used,
       coalesce(t.done::float8 / nullif(greatest(t.total, t.done), 0), 0) AS share,
       coalesce(extract(epoch FROM clock_timestamp() - t.began), 0)::float8 AS seconds, coalesce(t.built, false) AS built
FROM confiture.event e
CROSS JOIN LATERAL (
    SELECT e.detail #> '{forecast,target_disk}', e.detail #>> '{forecast,seconds}', e.detail #>> '{forecast,copy,seconds}'
) f(disk, seconds, copy_seconds)
CROSS JOIN LATERAL (
    -- The estimate of a table is of all its rows. How many of them a condition selects is known when they are copied.
    SELECT CASE WHEN bool_and(copied OR p.plan ->> 'where' IS NULL) THEN sum(p.rows_done) ELSE 0 END AS done,
           sum(CASE WHEN copied THEN p.rows_done ELSE p.estimate END) AS total, min(p.started_at) AS began,
           bool_and(p.phase = 'finished') AS built
    FROM confiture.table_plan p CROSS JOIN LATERAL (SELECT p.phase IN ('copied', 'finished')) c(copied)
    WHERE p.run_id = e.run_id) t
WHERE e.run_id = %(run)s AND e.kind = 'forecast recorded' ORDER BY e.id DESC LIMIT 1

-- name: warn
-- Record that the disk will be full, once for each run, and only by the runner that holds the run.
INSERT INTO confiture.event (run_id, epoch, kind, actor, detail)
SELECT r.id, r.epoch, 'forecast', %(actor)s, %(detail)s::jsonb FROM confiture.run r
WHERE r.id = %(run)s AND r.epoch = %(epoch)s
  AND NOT EXISTS (SELECT FROM confiture.event e WHERE e.run_id = r.id AND e.kind = 'forecast')
