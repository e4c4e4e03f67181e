CREATE TABLE tb_user (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    login_name   text NOT NULL UNIQUE,
    name         text NOT NULL,
    display_name text NOT NULL,
    metadata     jsonb,
    created_at   timestamptz NOT NULL
);
