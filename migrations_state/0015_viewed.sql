-- What a role sees that may watch a run and may not see a value of a row, and what a role may do that may steer one.

-- The kinds of events of which such a role sees the detail, without the values of the keys that may contain values of rows.
CREATE TABLE confiture.viewable_event (
    kind        text PRIMARY KEY,
    hidden_keys text[] NOT NULL
);

CREATE VIEW confiture.viewed_run AS
SELECT id, state, state_since, started_at, epoch, source_name, source_conninfo, source_identity, target_name, target_identity,
       options, fdw, mapping, mapping_file, plan, plan_hash, writes_served_by, cutover_phase,
       CASE WHEN blocked_reason IS NOT NULL
            THEN 'the reason is hidden from this role, because it may contain values of rows' END AS blocked_reason,
       tool_version, blocked_command, phase_since, reads_phase, reads_since, reads_limit
FROM confiture.run;

-- The kind of an error, without its text.
CREATE VIEW confiture.viewed_runner AS
SELECT run_id, epoch, host, pid, command, tool_version, target_backends, source_backends, started_at, heartbeat_at, ended_at,
       CASE WHEN ended_why IN ('finished', 'taken over') OR ended_why LIKE 'Refused: the verification is stale%' THEN ended_why
            ELSE split_part(ended_why, ':', 1) || ': the text is hidden from this role' END AS ended_why,
       throttled_reason, throttled_since, role
FROM confiture.runner;

CREATE VIEW confiture.viewed_event AS
SELECT e.id, e.run_id, e.at, e.epoch, e.kind, e.actor, e.from_state, e.to_state,
       CASE WHEN v.kind IS NULL THEN '{}'
            ELSE (SELECT coalesce(jsonb_object_agg(key, CASE WHEN key = ANY (v.hidden_keys) AND jsonb_typeof(value) <> 'null'
                                                             THEN '"hidden from this role"' ELSE value END), '{}')
                  FROM jsonb_each(e.detail)) END AS detail,
       e.xact, e.role
FROM confiture.event e LEFT JOIN confiture.viewable_event v USING (kind);

CREATE VIEW confiture.viewed_table_plan AS
SELECT run_id, number, target_schema, target_table, source_schema, source_table, plan, estimate, phase, NULL::jsonb AS cursor_key,
       next_chunk, fingerprint, sealed, rows_done, started_at, finished_at
FROM confiture.table_plan;

CREATE VIEW confiture.viewed_chunk AS
SELECT run_id, table_number, number, NULL::jsonb AS lower_key, NULL::jsonb AS upper_key, status, attempts, rows, seconds, epoch, done_at,
       CASE WHEN error IS NOT NULL THEN jsonb_build_object(
           'message', 'the text is hidden from this role, because it may contain values of rows',
           'sqlstate', error -> 'sqlstate') END AS error
FROM confiture.chunk;

-- The hash of a part that is a single row would reveal its value to a guess.
CREATE VIEW confiture.viewed_verified_unit AS
SELECT run_id, verification, check_name, subject, unit, source_rows, target_rows, '{}'::jsonb AS hashes, equal, at
FROM confiture.verified_unit;

-- The names of the key's columns without their values.
CREATE VIEW confiture.viewed_difference AS
SELECT id, run_id, verification, check_name, subject, kind,
       (SELECT jsonb_object_agg(name, NULL) FROM jsonb_object_keys(key) name) AS key,
       column_name, NULL::text AS source_value, NULL::text AS target_value
FROM confiture.difference;

-- A role that does not own the journal may record the requests of an operator, and nothing that a runner records.
CREATE FUNCTION confiture.check_event() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.kind NOT IN ('pause', 'resume', 'throttle', 'approved') OR NEW.from_state IS NOT NULL OR NEW.to_state IS NOT NULL)
        AND NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')
    THEN
        RAISE EXCEPTION 'role % may not record an event of kind %', current_user, NEW.kind
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_event BEFORE INSERT ON confiture.event
    FOR EACH ROW EXECUTE FUNCTION confiture.check_event();

-- Approvals of a cutover. The server names the role, and the snapshot in which the approver looked at the run.
CREATE TABLE confiture.approval (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id       uuid NOT NULL REFERENCES confiture.run,
    plan_hash    text NOT NULL,
    verification integer NOT NULL,
    role         text NOT NULL DEFAULT session_user,
    actor        text NOT NULL,
    note         text,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen         pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    FOREIGN KEY (run_id, verification) REFERENCES confiture.verification (run_id, number)
);
COMMENT ON COLUMN confiture.approval.seen IS 'What happened in a transaction that this snapshot does not see, the approver did not know';

CREATE FUNCTION confiture.check_approval() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.role := session_user;
    NEW.at := clock_timestamp();
    NEW.seen := pg_current_snapshot();
    IF EXISTS (SELECT FROM confiture.viewed_runner WHERE run_id = NEW.run_id AND role = NEW.role) THEN
        RAISE EXCEPTION 'role % runs the migration, so that it may not approve it', NEW.role
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_approval BEFORE INSERT ON confiture.approval
    FOR EACH ROW EXECUTE FUNCTION confiture.check_approval();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON confiture.approval
    FOR EACH ROW EXECUTE FUNCTION confiture.append_only();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON confiture.approval
    FOR EACH STATEMENT EXECUTE FUNCTION confiture.append_only();
