ALTER TABLE "Customer" DROP CONSTRAINT IF EXISTS customer_email_key;
