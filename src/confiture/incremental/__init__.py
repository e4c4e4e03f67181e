"""Incremental migrations as files: their names, their order, and what they and the ledger together call for.

Nothing here connects to a database. ``confiture.migrations`` runs the files, ``confiture.journal.ledger`` has the
ledger, and the control schema of the journal is ordered by the same code.
"""
