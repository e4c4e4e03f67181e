-- Which events of a run were announced, and to whom.
--
-- A notification is inserted before it is sent, so that no event is sent twice to a receiver. One that keeps the status
-- "sending" belongs to a process that ended before the outcome was known.

CREATE TABLE confiture.receiver (
    run_id      uuid NOT NULL REFERENCES confiture.run,
    name        text NOT NULL CHECK (name <> ''),
    after_event bigint NOT NULL,
    PRIMARY KEY (run_id, name)
);
COMMENT ON COLUMN confiture.receiver.after_event IS 'The last event that the receiver is not sent';

CREATE TABLE confiture.notification (
    run_id   uuid NOT NULL,
    receiver text NOT NULL,
    event_id bigint NOT NULL,
    status   text NOT NULL DEFAULT 'sending' CHECK (status IN ('sending', 'sent', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    reason   text,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    PRIMARY KEY (run_id, receiver, event_id),
    FOREIGN KEY (run_id, receiver) REFERENCES confiture.receiver,
    CHECK ((status = 'sending') = (ended_at IS NULL)),
    CHECK ((status = 'failed') = (reason IS NOT NULL))
);
