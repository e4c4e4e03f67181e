-- Every row compared again while the application writes: rounds that confirm a verification.

CREATE TABLE confiture.verification_round (
    run_id       uuid NOT NULL,
    number       integer NOT NULL,
    verification integer NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at     timestamptz,
    table_number integer,
    unit         integer,
    PRIMARY KEY (run_id, number),
    FOREIGN KEY (run_id, verification) REFERENCES confiture.verification (run_id, number),
    CHECK ((table_number IS NULL) = (unit IS NULL))
);
COMMENT ON COLUMN confiture.verification_round.unit IS 'of table_number: the last part compared; NULL before the first';

CREATE UNIQUE INDEX one_round ON confiture.verification_round (run_id) WHERE ended_at IS NULL;

-- When the last complete verification of a run began: every row has been compared since, and nothing that differed is left.
CREATE VIEW confiture.complete_verification AS
SELECT v.run_id, max(greatest(v.started_at, r.started_at)) AS began_at
FROM confiture.verification v
JOIN confiture.run ON run.id = v.run_id AND run.state <> 'migrating'
LEFT JOIN confiture.verification_round r
    ON (r.run_id, r.verification) = (v.run_id, v.number) AND r.ended_at IS NOT NULL
WHERE v.purpose = 'verify' AND v.verdict = 'equal'
GROUP BY v.run_id;
