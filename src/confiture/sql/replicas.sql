-- name: connected
-- The receivers of WAL from this server, and how far behind their replay is. To a role that may not see others'
-- statistics the state is NULL. An archiver replays nothing: its position is NULL. A standby reports none of its own.
SELECT coalesce(nullif(application_name, ''), pid::text) AS name, state IS NULL AS hidden,
       extract(epoch FROM replay_lag)::float8 AS clock,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS behind
FROM pg_stat_replication WHERE NOT pg_is_in_recovery() AND (state IS NULL OR state IN ('streaming', 'catchup'))
