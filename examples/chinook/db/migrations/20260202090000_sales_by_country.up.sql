CREATE VIEW sales_by_country AS
SELECT "BillingCountry" AS country, count(*) AS invoices, sum("Total") AS total FROM "Invoice" GROUP BY "BillingCountry";
