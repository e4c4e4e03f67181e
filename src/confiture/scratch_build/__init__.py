"""Builds the DDL where no application uses the result, and describes what it builds.

``beside`` and ``embedded_server`` provide an empty database on the server of the compared one or on a server of this
machine, and drop it afterwards. ``describe_ddl`` runs the DDL there in a transaction that is rolled back. ``place``
chooses between them.
"""
