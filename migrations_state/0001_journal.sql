-- The control schema: the durable memory of a run. What the database can enforce, it enforces.

CREATE SCHEMA confiture;
-- Whatever default privileges say.
REVOKE ALL ON SCHEMA confiture FROM PUBLIC;
COMMENT ON SCHEMA confiture IS 'The journal of confiture: what was done, and what is to be done next';

CREATE TABLE confiture.migration (
    version      integer PRIMARY KEY,
    name         text NOT NULL,
    tool_version text NOT NULL,
    applied_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE confiture.state_edge (
    from_state text NOT NULL,
    to_state   text NOT NULL,
    fired_by   text NOT NULL,
    PRIMARY KEY (from_state, to_state)
);

CREATE TABLE confiture.run (
    id               uuid PRIMARY KEY,
    state            text NOT NULL
        CHECK (state IN ('setup', 'migrating', 'verified', 'cutover', 'cleaned', 'aborted')),
    state_since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    epoch            bigint NOT NULL CHECK (epoch > 0),
    source_name      text NOT NULL,
    source_conninfo  text NOT NULL CHECK (source_conninfo !~* 'password\s*='),
    source_identity  jsonb NOT NULL,
    target_name      text NOT NULL,
    target_identity  jsonb NOT NULL,
    options          jsonb NOT NULL DEFAULT '{}',
    fdw              jsonb,
    mapping          text,
    mapping_file     text,
    plan             jsonb,
    plan_hash        text,
    ddl_digest       text,
    writes_served_by text NOT NULL DEFAULT 'source' CHECK (writes_served_by IN ('source', 'target', 'nobody')),
    cutover_phase    text,
    blocked_reason   text,
    tool_version     text NOT NULL,
    CHECK ((plan IS NULL) = (plan_hash IS NULL)),
    CHECK (state IN ('setup', 'aborted') OR plan IS NOT NULL)
);
COMMENT ON COLUMN confiture.run.state IS 'The last durable milestone; a failure is blocked_reason, not a state';
CREATE UNIQUE INDEX one_live_run ON confiture.run ((true)) WHERE state NOT IN ('cleaned', 'aborted');

CREATE TABLE confiture.event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id     uuid NOT NULL REFERENCES confiture.run,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    epoch      bigint NOT NULL,
    kind       text NOT NULL,
    actor      text NOT NULL,
    from_state text,
    to_state   text,
    detail     jsonb NOT NULL DEFAULT '{}',
    xact       xid8 NOT NULL DEFAULT pg_current_xact_id(),
    FOREIGN KEY (from_state, to_state) REFERENCES confiture.state_edge
);
CREATE INDEX ON confiture.event (run_id, at);

CREATE TABLE confiture.runner (
    run_id          uuid NOT NULL REFERENCES confiture.run,
    epoch           bigint NOT NULL,
    host            text NOT NULL,
    pid             integer NOT NULL,
    command         text NOT NULL,
    tool_version    text NOT NULL,
    target_backends jsonb NOT NULL DEFAULT '[]',
    source_backends jsonb NOT NULL DEFAULT '[]',
    started_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz,
    ended_why       text,
    PRIMARY KEY (run_id, epoch),
    CHECK ((ended_at IS NULL) = (ended_why IS NULL))
);
CREATE UNIQUE INDEX one_live_runner ON confiture.runner (run_id) WHERE ended_at IS NULL;

CREATE TABLE confiture.step (
    run_id   uuid NOT NULL REFERENCES confiture.run,
    phase    text NOT NULL,
    name     text NOT NULL,
    status   text NOT NULL CHECK (status IN ('begun', 'done')),
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at  timestamptz,
    detail   jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (run_id, phase, name),
    CHECK ((status = 'done') = (done_at IS NOT NULL))
);

CREATE TABLE confiture.built_object (
    run_id     uuid NOT NULL REFERENCES confiture.run,
    number     integer NOT NULL,
    kind       text NOT NULL,
    identity   text NOT NULL,
    PRIMARY KEY (run_id, number)
);
COMMENT ON TABLE confiture.built_object IS 'What setup built in the target, for abort to drop';

CREATE TABLE confiture.deferred_object (
    run_id       uuid NOT NULL REFERENCES confiture.run,
    kind         text NOT NULL CHECK (kind IN ('index', 'constraint', 'foreign_key', 'trigger')),
    schema_name  text NOT NULL,
    table_name   text NOT NULL,
    name         text NOT NULL,
    definition   text NOT NULL,
    interim      text,
    comment      text,
    detail       jsonb NOT NULL DEFAULT '{}',
    status       text NOT NULL DEFAULT 'off' CHECK (status IN ('off', 'interim', 'back')),
    PRIMARY KEY (run_id, kind, schema_name, table_name, name)
);

CREATE TABLE confiture.table_plan (
    run_id       uuid NOT NULL REFERENCES confiture.run,
    number       integer NOT NULL,
    target_schema text NOT NULL,
    target_table text NOT NULL,
    source_schema text NOT NULL,
    source_table text NOT NULL,
    plan         jsonb NOT NULL,
    estimate     bigint NOT NULL,
    phase        text NOT NULL DEFAULT 'planned' CHECK (phase IN ('planned', 'copying', 'copied', 'finished')),
    cursor_key   jsonb,
    next_chunk   integer NOT NULL DEFAULT 1,
    fingerprint  jsonb,
    sealed       boolean NOT NULL DEFAULT false,
    rows_done    bigint NOT NULL DEFAULT 0,
    started_at   timestamptz,
    finished_at  timestamptz,
    PRIMARY KEY (run_id, number),
    UNIQUE (run_id, target_schema, target_table)
);

CREATE TABLE confiture.chunk (
    run_id       uuid NOT NULL,
    table_number integer NOT NULL,
    number       integer NOT NULL,
    lower_key    jsonb,
    upper_key    jsonb,
    status       text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'failed')),
    attempts     integer NOT NULL DEFAULT 0,
    rows         bigint,
    seconds      double precision,
    epoch        bigint,
    done_at      timestamptz,
    error        jsonb,
    PRIMARY KEY (run_id, table_number, number),
    FOREIGN KEY (run_id, table_number) REFERENCES confiture.table_plan (run_id, number),
    CHECK ((status = 'done') = (rows IS NOT NULL)),
    CHECK (status <> 'done' OR epoch IS NOT NULL)
);
CREATE INDEX ON confiture.chunk (run_id, table_number, number) WHERE status <> 'done';

CREATE TABLE confiture.verification (
    run_id     uuid NOT NULL REFERENCES confiture.run,
    number     integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    epoch      bigint NOT NULL,
    plan_hash  text NOT NULL,
    purpose    text NOT NULL CHECK (purpose IN ('verify', 'cutover')),
    servers    jsonb NOT NULL DEFAULT '{}',
    verdict    text CHECK (verdict IN ('equal', 'different')),
    PRIMARY KEY (run_id, number),
    CHECK ((ended_at IS NULL) = (verdict IS NULL))
);

CREATE TABLE confiture.verified_unit (
    run_id       uuid NOT NULL,
    verification integer NOT NULL,
    check_name   text NOT NULL,
    subject      text NOT NULL,
    unit         integer NOT NULL DEFAULT 0,
    source_rows  bigint,
    target_rows  bigint,
    hashes       jsonb NOT NULL DEFAULT '{}',
    equal        boolean NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, verification, check_name, subject, unit),
    FOREIGN KEY (run_id, verification) REFERENCES confiture.verification (run_id, number)
);

CREATE TABLE confiture.difference (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id       uuid NOT NULL,
    verification integer NOT NULL,
    check_name   text NOT NULL,
    subject      text NOT NULL,
    kind         text NOT NULL,
    key          jsonb,
    column_name  text,
    source_value text,
    target_value text,
    FOREIGN KEY (run_id, verification) REFERENCES confiture.verification (run_id, number)
);

CREATE TABLE confiture.request (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id    uuid NOT NULL REFERENCES confiture.run,
    kind      text NOT NULL CHECK (kind IN ('pause', 'resume', 'throttle', 'abort')),
    detail    jsonb NOT NULL DEFAULT '{}',
    actor     text NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at   timestamptz
);

-- A transition needs its edge and its event, written in the same transaction; the epoch never falls.
CREATE FUNCTION confiture.check_run() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'setup' THEN
            RAISE EXCEPTION 'run % may not begin in state %', NEW.id, NEW.state;
        END IF;
    ELSIF NEW.epoch < OLD.epoch THEN
        RAISE EXCEPTION 'the epoch of run % would fall from % to %', OLD.id, OLD.epoch, NEW.epoch;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_run BEFORE INSERT OR UPDATE ON confiture.run
    FOR EACH ROW EXECUTE FUNCTION confiture.check_run();

CREATE FUNCTION confiture.check_transition() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM confiture.event e
        JOIN confiture.state_edge s USING (from_state, to_state)
        WHERE e.run_id = NEW.id AND e.from_state = OLD.state AND e.to_state = NEW.state
          AND e.xact = pg_current_xact_id()
    ) THEN
        RAISE EXCEPTION 'run % may not go from % to % without its event', NEW.id, OLD.state, NEW.state;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER check_transition AFTER UPDATE OF state ON confiture.run
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION confiture.check_transition();

CREATE FUNCTION confiture.check_chunk() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.status = 'done' AND NEW.status <> 'done' THEN
        RAISE EXCEPTION 'chunk % of table % is done and stays done', OLD.number, OLD.table_number;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_chunk BEFORE UPDATE ON confiture.chunk FOR EACH ROW EXECUTE FUNCTION confiture.check_chunk();

CREATE FUNCTION confiture.append_only() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON confiture.event
    FOR EACH ROW EXECUTE FUNCTION confiture.append_only();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON confiture.event
    FOR EACH STATEMENT EXECUTE FUNCTION confiture.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON confiture.difference
    FOR EACH ROW EXECUTE FUNCTION confiture.append_only();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON confiture.difference
    FOR EACH STATEMENT EXECUTE FUNCTION confiture.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON confiture.verified_unit
    FOR EACH ROW EXECUTE FUNCTION confiture.append_only();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON confiture.verified_unit
    FOR EACH STATEMENT EXECUTE FUNCTION confiture.append_only();
