-- Checked for new rows now; those that exist are checked by the next migration, without blocking writers.
ALTER TABLE "Invoice" ADD CONSTRAINT invoice_total_is_no_debt CHECK ("Total" >= 0) NOT VALID;
