CREATE TABLE staff.employee (
    employee_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    manager_id  integer,
    full_name   text NOT NULL,
    first_name  text NOT NULL,
    last_name   text NOT NULL,
    job_title   text,
    born_on     date,
    hired_on    date,
    street      text,
    city        text,
    region      text,
    country     text,
    postal_code text,
    phone       text CONSTRAINT employee_phone_check CHECK (phone ~ '^[+]?[0-9]+$'),
    email       text,
    -- Deferred, so that a whole team may be handed over in one transaction in any order.
    CONSTRAINT employee_manager_fkey FOREIGN KEY (manager_id) REFERENCES staff.employee
        DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT employee_manager_check CHECK (manager_id <> employee_id),
    CONSTRAINT employee_hired_check CHECK (hired_on > born_on)
);
COMMENT ON TABLE staff.employee IS 'The employees; manager_id is null for the general manager';
COMMENT ON COLUMN staff.employee.phone IS 'Digits only, with a leading + where the country is known';
CREATE INDEX employee_manager_idx ON staff.employee (manager_id);
