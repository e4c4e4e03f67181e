CREATE TABLE tb_account (
    id      bigint PRIMARY KEY,
    company text NOT NULL
);
