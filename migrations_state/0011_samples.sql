-- The course of a run over time, for the page and the report: a row every 10 s, which is thinned out later.

CREATE TABLE confiture.sample (
    run_id      uuid NOT NULL REFERENCES confiture.run,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    epoch       bigint NOT NULL,
    state       text NOT NULL,
    rows_done   bigint NOT NULL,
    backlog     bigint,
    oldest      double precision,
    replica_lag double precision,
    throttled   text,
    PRIMARY KEY (run_id, at)
);
COMMENT ON COLUMN confiture.sample.backlog IS 'log rows that wait; NULL where they were not counted in the last two minutes';
