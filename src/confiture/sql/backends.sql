-- name: alive
-- Which of the recorded server processes still run.
SELECT a.pid FROM pg_stat_activity a
JOIN unnest(%(pids)s::int[], %(starts)s::text[]) w(pid, started)
  ON w.pid = a.pid AND w.started = extract(epoch FROM a.backend_start)::text

-- name: terminate
-- End the recorded server processes that still run.
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
JOIN unnest(%(pids)s::int[], %(starts)s::text[]) w(pid, started)
  ON w.pid = a.pid AND w.started = extract(epoch FROM a.backend_start)::text
