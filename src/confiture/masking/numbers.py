"""The SQL expressions that mask integers, numbers and dates. No I/O."""

from __future__ import annotations

from psycopg import sql

from confiture.catalog_model import Column
from confiture.masking.families import Family, family, precision_and_scale
from confiture.masking.model import Rule
from confiture.sql import template

#: Rounds of the permutation. Four make a pseudorandom permutation that is secure against chosen inputs in both
#: directions (Luby and Rackoff, 1988).
ROUNDS = 4
#: Of a wide integer that is below 2^53, only the bits that a JSON number holds exactly are permuted.
JSON_BITS = 53
#: The default of ``percent``, and of ``days``.
PERCENT, DAYS = 10.0, 30
_BIGINT = sql.SQL("bigint")
_RANGES = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
#: Above these, a floating-point number is only decreased.
_LARGE = {"float4": "1e37", "float8": "1e307"}


def permuted(reference: sql.Composable, bits: int, name: str) -> sql.Composable:
    """A permutation of the integers with so many bits, which negative numbers keep apart from the others.

    :param bits: those of the narrowest column of its foreign keys: 15, 31 or 63.
    :param name: the type of the column. A value that is wider than the narrowest column cannot be masked and becomes
        NULL: no row of that column's table has it.
    """
    if bits < _RANGES[name].bit_length() - 1:
        wide = sql.SQL("CASE WHEN {} BETWEEN {} AND {} THEN {} END")
        return wide.format(reference, sql.Literal(-(2**bits)), sql.Literal(2**bits - 1), _permutation(reference, bits))
    if bits <= JSON_BITS:
        return _permutation(reference, bits)
    limits = sql.Literal(-(2**JSON_BITS)), sql.Literal(2**JSON_BITS - 1)
    return sql.SQL("CASE WHEN {} BETWEEN {} AND {} THEN {} ELSE {} END").format(
        reference, *limits, _permutation(reference, JSON_BITS), _permutation(reference, bits)
    )


def _permutation(reference: sql.Composable, bits: int) -> sql.Composed:
    half = (bits - 1) // 2
    mask = _number(2**half - 1, _BIGINT)
    rounds: sql.Composable = _block("halves", value=reference, half=sql.Literal(half), mask=mask)
    for number in range(ROUNDS):
        # The number is above the bits of the half, and differs for each width and round.
        labelled = _number((bits * ROUNDS + number) << 32, _BIGINT)
        rounds = _block("round", before=rounds, number=labelled, mask=mask)
    flip = _number(2 ** (2 * half), _BIGINT)
    return _block("integer", rounds=rounds, half=sql.Literal(half), flip=flip, above=flip)


def noisy(rule: Rule, column: Column, reference: sql.Composable, short: sql.Composable) -> sql.Composable:
    """The number with a relative change of at most ``percent``, with the same sign and scale."""
    fraction = sql.SQL(repr((rule.percent or PERCENT) / 100))
    kind, name = family(column), column.base_name
    if kind is Family.INTEGER:
        exact = sql.SQL("numeric" if name == "int8" else "double precision")
        share = _block("share", short=short, type=exact)
        cast = sql.SQL("{}::{}").format(reference, exact)
        limits = {"least": _number(-_RANGES[name], exact), "most": _number(_RANGES[name] - 1, exact)}
        return _block("noisy_integer", column=cast, fraction=fraction, share=share, type=_type(name), **limits)
    if kind is Family.FLOAT:
        share = _block("share", short=short, type=sql.SQL("double precision"))
        most = sql.SQL(_LARGE[name])
        return _block("noisy_float", column=reference, fraction=fraction, share=share, most=most, type=_type(name))
    return _noisy_numeric(column, reference, fraction, _block("share", short=short, type=sql.SQL("numeric")))


def _noisy_numeric(
    column: Column, reference: sql.Composable, fraction: sql.Composable, share: sql.Composable
) -> sql.Composable:
    value = sql.SQL("{}::numeric").format(reference)
    limits = precision_and_scale(column)
    scale = sql.SQL("pg_catalog.scale({})").format(value) if limits is None else sql.Literal(limits[1])
    bounded: sql.Composable = _block("noisy_scaled", column=value, fraction=fraction, share=share, scale=scale)
    if limits is not None:
        precision, digits = limits
        largest = (10**precision - 1) * 10**-digits if digits < 0 else _decimal(10**precision - 1, digits)
        bounded = _block("within", expression=bounded, most=sql.SQL(f"{largest}::numeric"))
    return _block("noisy_numeric", column=value, bounded=bounded)


def _decimal(digits: int, scale: int) -> str:
    """The digits with a point before the last ``scale`` of them."""
    text = str(digits).rjust(scale + 1, "0")
    return f"{text[: len(text) - scale]}.{text[len(text) - scale :]}" if scale else text


def shifted(rule: Rule, is_date: bool, reference: sql.Composable, short: sql.Composable) -> sql.Composed:
    """The date with a shift of at most ``days``, which is the same for all dates with the same value of ``by``."""
    days = rule.days or DAYS
    shifts = [day for day in range(-days, days + 1) if day]
    listed = sql.Literal("{" + ",".join(map(str, shifts)) + "}")
    shift = _block("shift", short=short, shifts=listed, length=sql.Literal(len(shifts)))
    return _block("shifted_date" if is_date else "shifted_time", column=reference, shift=shift)


def _block(name: str, **holes: sql.Composable) -> sql.Composed:
    return template("masking.sql", name).format(**holes)


def _number(value: int, type_: sql.Composable) -> sql.Composed:
    return sql.SQL("{}::{}").format(sql.Literal(str(value)), type_)


def _type(name: str) -> sql.SQL:
    return sql.SQL(f"pg_catalog.{name}")
