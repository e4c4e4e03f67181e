-- name: backend_start
-- When this session's server process started, as text that compares exactly.
SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()

-- name: alive
-- Which of the recorded server processes still run.
SELECT a.pid FROM pg_stat_activity a
JOIN unnest(%(pids)s::int[], %(starts)s::text[]) w(pid, started)
  ON w.pid = a.pid AND w.started::timestamptz = a.backend_start

-- name: terminate
-- End the recorded server processes that still run.
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
JOIN unnest(%(pids)s::int[], %(starts)s::text[]) w(pid, started)
  ON w.pid = a.pid AND w.started::timestamptz = a.backend_start
