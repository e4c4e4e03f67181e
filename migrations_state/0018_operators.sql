-- What an operator writes, the server checks: every command reads it, and no command may fail or be misled by it.

-- Whether a request is complete: limits of the copy as `throttle` stores them, and nothing else.
CREATE FUNCTION confiture.check_request() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(NEW.detail) <> 'object' OR NEW.actor ~ '[[:cntrl:]]' OR EXISTS (
        SELECT FROM jsonb_each(CASE WHEN jsonb_typeof(NEW.detail) = 'object' THEN NEW.detail ELSE '{}' END)
        WHERE NEW.kind <> 'throttle' OR CASE
            WHEN jsonb_typeof(value) = 'null' THEN key NOT IN ('max_rate', 'max_backlog', 'max_replica_lag')
            WHEN jsonb_typeof(value) <> 'number' THEN true
            WHEN key IN ('max_rate', 'max_backlog') THEN value::text !~ '^[1-9][0-9]{0,12}$'
            WHEN key = 'max_replica_lag' THEN value::numeric NOT BETWEEN 0.001 AND 1e12
            ELSE true END)
    THEN
        RAISE EXCEPTION 'a request of kind % may not have the detail %, or actor %', NEW.kind, left(NEW.detail::text, 200),
            quote_literal(left(NEW.actor, 200)) USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_request BEFORE INSERT ON confiture.request
    FOR EACH ROW EXECUTE FUNCTION confiture.check_request();

-- A role that does not own the journal records its own request or approval as an event, and nothing else.
CREATE OR REPLACE FUNCTION confiture.check_event() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN NEW;
    END IF;
    IF NEW.kind NOT IN ('pause', 'resume', 'throttle', 'approved') OR NEW.from_state IS NOT NULL OR NEW.to_state IS NOT NULL THEN
        RAISE EXCEPTION 'role % may not record an event of kind %', current_user, NEW.kind
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT EXISTS (SELECT FROM confiture.viewed_run WHERE id = NEW.run_id AND NEW.epoch BETWEEN 1 AND epoch) OR NOT EXISTS (
        SELECT FROM confiture.request WHERE (run_id, kind, actor, detail) = (NEW.run_id, NEW.kind, NEW.actor, NEW.detail)
        UNION ALL
        SELECT FROM confiture.approval WHERE NEW.kind = 'approved' AND (run_id, role, actor) = (NEW.run_id, session_user, NEW.actor)
            AND NEW.detail = jsonb_build_object('plan', plan_hash, 'verification', verification, 'note', note))
    THEN
        RAISE EXCEPTION 'role % may not record an event of kind % without its request or approval', current_user, NEW.kind
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

-- An approval is of a verification that found no difference in the plan that is approved.
CREATE OR REPLACE FUNCTION confiture.check_approval() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.role := session_user;
    NEW.at := clock_timestamp();
    NEW.seen := pg_current_snapshot();
    IF EXISTS (SELECT FROM confiture.viewed_runner WHERE run_id = NEW.run_id AND role = NEW.role) THEN
        RAISE EXCEPTION 'role % runs the migration, so that it may not approve it', NEW.role
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NEW.actor ~ '[[:cntrl:]]' OR NOT EXISTS (
        SELECT FROM confiture.verification
        WHERE (run_id, number, plan_hash, purpose, verdict) = (NEW.run_id, NEW.verification, NEW.plan_hash, 'verify', 'equal'))
    THEN
        RAISE EXCEPTION 'verification % has not found both sides equal by plan %, or the actor % is no name', NEW.verification,
            left(NEW.plan_hash, 64), quote_literal(left(NEW.actor, 200)) USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
