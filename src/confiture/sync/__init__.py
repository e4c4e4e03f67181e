"""Production data sync: the rows of one database in another one, chosen and masked, with every foreign key valid."""
