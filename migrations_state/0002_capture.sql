-- Catch-up: numbered passes, and the keys brought over since a verification looked at their rows.

CREATE TABLE confiture.catchup (
    run_id     uuid PRIMARY KEY REFERENCES confiture.run,
    pass       bigint NOT NULL DEFAULT 0,
    keys       bigint NOT NULL DEFAULT 0,
    rows       bigint NOT NULL DEFAULT 0,
    backlog    bigint,
    oldest     double precision,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE confiture.touched (
    run_id       uuid NOT NULL REFERENCES confiture.run,
    table_number integer NOT NULL,
    key          jsonb NOT NULL,
    PRIMARY KEY (run_id, table_number, key)
);

CREATE FUNCTION confiture.check_catchup() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.pass < OLD.pass THEN
        RAISE EXCEPTION 'the passes of run % would fall from % to %', OLD.run_id, OLD.pass, NEW.pass;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_catchup BEFORE UPDATE ON confiture.catchup
    FOR EACH ROW EXECUTE FUNCTION confiture.check_catchup();
