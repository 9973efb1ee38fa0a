"""Numbers as a person reads them, rounded to the safe side: cuts down, bounds up."""

from __future__ import annotations

import decimal
import math

UNKNOWN = "-"
SIGNIFICANT_DIGITS = 9
_MOST_DIGITS = 15  # of an integer; beyond it a float64 may not be the integer it shows

_DOWN = decimal.Context(prec=SIGNIFICANT_DIGITS, rounding=decimal.ROUND_FLOOR)
_UP = decimal.Context(prec=SIGNIFICANT_DIGITS, rounding=decimal.ROUND_CEILING)


def cut_in_words(value: float) -> str:
    """A cut value: integers whole, others rounded down; "-" while there is none.

    >>> cut_in_words(1449544.0), cut_in_words(2 / 3), cut_in_words(-math.inf)
    ('1,449,544', '0.666666666', '-')
    """
    return _in_words(value, _DOWN)


def bound_in_words(value: float) -> str:
    """An upper bound: integers whole, others rounded up, so that what is shown is a bound too.

    >>> bound_in_words(1449544.0), bound_in_words(2 / 3), bound_in_words(math.inf)
    ('1,449,544', '0.666666667', '-')
    """
    return _in_words(value, _UP)


def share_in_words(share: float) -> str:
    """A share in percent with three significant digits.

    >>> share_in_words(0.0345678), share_in_words(0.0), share_in_words(math.inf)
    ('3.46%', '0%', '-')
    """
    return f"{100 * share:.3g}%" if math.isfinite(share) else UNKNOWN


def _in_words(value: float, context: decimal.Context) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    if value == math.floor(value) and abs(value) < 10**_MOST_DIGITS:
        return f"{value + 0.0:,.0f}"  # + 0.0 turns -0 into 0
    return f"{context.create_decimal_from_float(value):,}"
