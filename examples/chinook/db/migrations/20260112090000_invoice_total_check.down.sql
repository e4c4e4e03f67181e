ALTER TABLE "Invoice" DROP CONSTRAINT invoice_total_is_no_debt;
