"""Integers as callers give them: of any type that says it is one, but no bool and no float."""

from __future__ import annotations

import operator
from typing import Any


def integer(name: str, value: Any) -> int:
    """Python's integer of any integer type, numpy's included, but of no bool and no float.

    Raises:
        TypeError: the value is no integer.

    >>> integer("seed", 3)
    3
    """
    try:
        if "bool" not in str(getattr(value, "dtype", type(value))):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"`{name}` must be an integer; got {value!r}.")
