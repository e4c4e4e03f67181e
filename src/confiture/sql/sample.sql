-- name: take
-- The run at this moment, unless another process holds it, or one has taken a sample within the last second. The lag is that of
-- the target's standbys, of those that the role may see. A standby that has replayed everything has no lag.
INSERT INTO confiture.sample (run_id, epoch, state, rows_done, backlog, oldest, replica_lag, throttled)
SELECT r.id, r.epoch, r.state,
       (SELECT coalesce(sum(t.rows_done), 0) FROM confiture.table_plan t WHERE t.run_id = r.id),
       c.backlog, c.oldest,
       (SELECT max(coalesce(extract(epoch FROM p.replay_lag), 0))::float8 FROM pg_catalog.pg_stat_replication p
        WHERE p.state IN ('streaming', 'catchup') AND p.replay_lsn IS NOT NULL),
       w.throttled_reason
FROM confiture.run r
JOIN confiture.runner w ON (w.run_id, w.epoch) = (r.id, r.epoch) AND w.ended_at IS NULL
LEFT JOIN confiture.catchup c ON c.run_id = r.id AND c.at > clock_timestamp() - interval '2 minutes'
WHERE (r.id, r.epoch) = (%(run)s, %(epoch)s) AND NOT EXISTS (
    SELECT FROM confiture.sample s
    WHERE s.run_id = r.id AND s.epoch <> r.epoch AND s.at > clock_timestamp() - interval '1 second')

-- name: thin
-- Keep one sample a minute of those that are older than an hour, one in ten minutes after a day; and one of each state, throttled or
-- not, in such a time.
DELETE FROM confiture.sample s USING (
    SELECT t.at, row_number() OVER (
        PARTITION BY date_bin(CASE WHEN t.at < w.now - interval '1 day' THEN interval '10 minutes'
                                   ELSE interval '1 minute' END, t.at, timestamptz '2000-01-01 00:00Z'),
                     t.at < w.now - interval '1 day', t.state, t.throttled IS NULL
        ORDER BY t.at) AS n
    FROM (SELECT clock_timestamp()) w(now), confiture.sample t
    WHERE t.run_id = %(run)s AND t.at < w.now - interval '1 hour'
) o WHERE s.run_id = %(run)s AND s.at = o.at AND o.n > 1
