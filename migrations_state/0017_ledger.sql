-- The ledger of incremental migrations: the last execution of each one, and the progress of its statements.

-- The journal's own steps have a checksum as well. It is NULL for a step that an older version has applied.
ALTER TABLE confiture.migration ADD COLUMN checksum text;

CREATE TABLE confiture.ledger (
    version       bigint PRIMARY KEY CHECK (version BETWEEN 10000101000000 AND 99991231235959),
    name          text NOT NULL CHECK (name <> ''),
    direction     text NOT NULL CHECK (direction IN ('up', 'down')),
    up_checksum   text NOT NULL,
    down_checksum text,
    out_of_order  boolean NOT NULL DEFAULT false,
    baseline      boolean NOT NULL DEFAULT false,
    run_id        uuid NOT NULL REFERENCES confiture.run,
    role          text NOT NULL DEFAULT session_user,
    actor         text NOT NULL,
    tool_version  text NOT NULL,
    begun_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at       timestamptz,
    seconds       double precision CHECK (seconds >= 0),
    CHECK (NOT baseline OR (direction = 'up' AND done_at IS NOT NULL))
);
COMMENT ON COLUMN confiture.ledger.done_at IS 'NULL while not all statements of the direction are done';
-- A second migration is not begun before the first is done, so that it is known where a command continues.
CREATE UNIQUE INDEX one_unfinished ON confiture.ledger ((done_at IS NULL)) WHERE done_at IS NULL;

CREATE TABLE confiture.ledger_statement (
    version    bigint NOT NULL REFERENCES confiture.ledger ON DELETE CASCADE,
    number     integer NOT NULL CHECK (number > 0),
    digest     text NOT NULL,
    begun_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at    timestamptz,
    seconds    double precision CHECK (seconds >= 0),
    resolution text,
    PRIMARY KEY (version, number)
);
COMMENT ON COLUMN confiture.ledger_statement.resolution IS 'How it was found out after a crash whether the statement was done';
