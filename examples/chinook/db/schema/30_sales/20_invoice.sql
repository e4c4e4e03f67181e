CREATE TABLE sales.invoice (
    invoice_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id         integer NOT NULL REFERENCES sales.customer,
    issued_at           timestamptz NOT NULL,
    billing_street      text,
    billing_city        text,
    billing_region      text,
    billing_country     text,
    billing_postal_code text,
    total_cents         bigint NOT NULL CONSTRAINT invoice_total_check CHECK (total_cents >= 0),
    size                sales.invoice_size NOT NULL,
    issued_year         integer GENERATED ALWAYS AS
        (extract(year FROM issued_at AT TIME ZONE 'UTC')::integer) STORED,
    CONSTRAINT invoice_size_check CHECK ((size = 'large') = (total_cents >= 1000))
);
COMMENT ON TABLE sales.invoice IS 'A sale; the billing address is what it was on that day';
COMMENT ON COLUMN sales.invoice.total_cents IS 'US cents';
CREATE INDEX invoice_customer_idx ON sales.invoice (customer_id, issued_at DESC);
CREATE INDEX invoice_year_idx ON sales.invoice (issued_year);

CREATE TABLE sales.invoice_item (
    invoice_item_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    invoice_id       bigint NOT NULL REFERENCES sales.invoice ON DELETE CASCADE,
    track_id         integer NOT NULL REFERENCES music.track,
    quantity         smallint NOT NULL CONSTRAINT invoice_item_quantity_check CHECK (quantity > 0),
    unit_price_cents integer NOT NULL CONSTRAINT invoice_item_price_check CHECK (unit_price_cents >= 0),
    amount_cents     integer GENERATED ALWAYS AS (unit_price_cents * quantity) STORED,
    CONSTRAINT invoice_item_track_key UNIQUE (invoice_id, track_id)
);
COMMENT ON TABLE sales.invoice_item IS 'One line of an invoice';
CREATE INDEX invoice_item_track_idx ON sales.invoice_item (track_id);

CREATE TABLE sales.refund (
    refund_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    invoice_id   bigint NOT NULL REFERENCES sales.invoice,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0)
);
COMMENT ON TABLE sales.refund IS 'New in this design: the old one had no refunds';
