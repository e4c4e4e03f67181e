"""Masking of personal values: the mask file, the SQL expression of each rule, the columns that look personal.

A value is masked by the source in the SELECT that reads it, so that no clear text leaves the source.
"""
