ALTER TABLE "Invoice" VALIDATE CONSTRAINT invoice_total_is_no_debt;
