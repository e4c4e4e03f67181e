-- confiture: no-transaction
CREATE UNIQUE INDEX CONCURRENTLY customer_email_key ON "Customer" ("Email");
ALTER TABLE "Customer" ADD CONSTRAINT customer_email_key UNIQUE USING INDEX customer_email_key;
