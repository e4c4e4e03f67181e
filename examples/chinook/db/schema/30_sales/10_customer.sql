CREATE TABLE sales.customer (
    customer_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    support_rep_id integer REFERENCES staff.employee ON DELETE SET NULL,
    full_name      text NOT NULL,
    first_name     varchar(40) NOT NULL,
    last_name      varchar(40) NOT NULL,
    is_business    boolean NOT NULL,
    phone          text CONSTRAINT customer_phone_check CHECK (phone ~ '^[+]?[0-9]+$'),
    fax            text,
    email          text NOT NULL CONSTRAINT customer_email_check CHECK (email LIKE '%_@_%'),
    email_domain   text GENERATED ALWAYS AS (lower(split_part(email, '@', 2))) STORED,
    revision       integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE sales.customer IS 'The customers; customer_address holds their addresses';
COMMENT ON COLUMN sales.customer.revision IS 'How often the row was written since the new database serves';
CREATE UNIQUE INDEX customer_email_idx ON sales.customer (lower(email));
CREATE INDEX customer_support_rep_idx ON sales.customer (support_rep_id);

CREATE TABLE sales.customer_address (
    customer_id integer PRIMARY KEY REFERENCES sales.customer ON DELETE CASCADE,
    street      text,
    city        text,
    region      text,
    country     text NOT NULL,
    postal_code text
);
COMMENT ON TABLE sales.customer_address IS 'The half of the old table "Customer" that is erased on request';
CREATE INDEX customer_address_country_idx ON sales.customer_address (country, city);

CREATE TABLE sales.customer_company (
    customer_id integer PRIMARY KEY REFERENCES sales.customer ON DELETE CASCADE,
    name        text NOT NULL
);
COMMENT ON TABLE sales.customer_company IS 'Business customers only';
