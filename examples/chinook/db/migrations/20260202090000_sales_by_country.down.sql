DROP VIEW sales_by_country;
