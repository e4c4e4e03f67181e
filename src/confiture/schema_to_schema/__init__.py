"""The steps of a run, one a file: each brings the databases from one durable point to the next."""
