-- name: replica_lag
-- Seconds by which the slowest standby is behind in replaying, and how many cannot be seen without pg_monitor.
-- https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW
SELECT coalesce(extract(epoch FROM max(replay_lag)), 0)::float8, count(*) FILTER (WHERE state IS NULL)
FROM pg_stat_replication WHERE state IS NULL OR state = 'streaming' AND application_name <> 'pg_basebackup'
