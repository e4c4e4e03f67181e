"""The catalog of a whole database as ordered values, and the differences between two of them.

``model`` has the values and ``describe`` reads them. ``compare`` finds the differences without a database.
"""
