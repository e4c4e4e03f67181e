-- name: register
-- From which event on a receiver is sent the events of a run: those of the command that named it first, or later. The first
-- command of a run has created it before.
INSERT INTO confiture.receiver (run_id, name, after_event)
SELECT %(run)s, w.name, (
    SELECT coalesce(max(e.id), 0) FROM confiture.event e
    WHERE e.run_id = %(run)s AND e.epoch < %(epoch)s
      AND EXISTS (SELECT FROM confiture.runner r WHERE r.run_id = e.run_id AND r.epoch < %(epoch)s))
FROM unnest(%(names)s::text[]) w(name)
ON CONFLICT DO NOTHING

-- name: due
-- The events that a receiver is still to be sent, the oldest first. Those that are too old are not sent any more.
SELECT e.id, e.kind, e.at, e.detail
FROM confiture.receiver r JOIN confiture.event e ON e.run_id = r.run_id AND e.id > r.after_event
WHERE r.run_id = %(run)s AND r.name = %(name)s AND e.kind = ANY (%(kinds)s)
  AND e.at > clock_timestamp() - make_interval(secs => %(age)s)
  AND NOT EXISTS (SELECT FROM confiture.notification n
                  WHERE (n.run_id, n.receiver, n.event_id) = (e.run_id, r.name, e.id))
ORDER BY e.id

-- name: claim
-- The right to send one event to one receiver: the key of the row exists once, whichever process inserts it.
INSERT INTO confiture.notification (run_id, receiver, event_id) VALUES (%(run)s, %(name)s, %(event)s)
ON CONFLICT DO NOTHING RETURNING event_id

-- name: close
-- The outcome of a notification.
UPDATE confiture.notification
SET status = %(status)s, attempts = %(attempts)s, reason = %(reason)s, ended_at = clock_timestamp()
WHERE run_id = %(run)s AND receiver = %(name)s AND event_id = %(event)s
