-- Why and since when a runner holds its copy back; NULL while it does not.

ALTER TABLE confiture.runner
    ADD COLUMN throttled_reason text,
    ADD COLUMN throttled_since  timestamptz,
    ADD CONSTRAINT throttled CHECK ((throttled_reason IS NULL) = (throttled_since IS NULL));

CREATE INDEX request_of_run ON confiture.request (run_id, kind, id);
