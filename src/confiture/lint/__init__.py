"""``migrate lint``: judges the statements of migrations by the locks they take and the work they do under them.

``script`` reads a file, ``seen`` keeps what earlier statements and the catalog of a database have established,
``rules`` judge one statement each, and ``check`` combines them. Only ``facts_reader`` does I/O.
The parser is the package postgast, which the extra ``lint`` requires: only the command imports this package.
"""
