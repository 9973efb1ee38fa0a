"""What `maxcut` refuses, in one sentence each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from sdp.maxcut.solve import maxcut
from tests.maxcut.sound import MIDDLE

MOST_THREADS = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "time 0": ({"time_limit": 0}, ValueError, "`time_limit` must be a positive number of seconds; got 0."),
    "time negative": (
        {"time_limit": -1.5},
        ValueError,
        "`time_limit` must be a positive number of seconds; got -1.5.",
    ),
    "time NaN": (
        {"time_limit": math.nan},
        ValueError,
        "`time_limit` must be a positive number of seconds; got nan.",
    ),
    "time for ever": (
        {"time_limit": math.inf},
        ValueError,
        "`time_limit` may be infinite only with `max_rounds`, `target_gap` or `target_cut`.",
    ),
    "time in words": ({"time_limit": "60"}, TypeError, "`time_limit` must be a number; got str."),
    "no time": ({"time_limit": None}, TypeError, "`time_limit` must be a number; got NoneType."),
    "gap negative": (
        {"target_gap": -0.1},
        ValueError,
        "`target_gap` must be finite and at least 0; got -0.1.",
    ),
    "gap NaN": ({"target_gap": math.nan}, ValueError, "`target_gap` must be finite and at least 0; got nan."),
    "gap in words": ({"target_gap": "1%"}, TypeError, "`target_gap` must be a number; got str."),
    "cut infinite": ({"target_cut": math.inf}, ValueError, "`target_cut` must be finite; got inf."),
    "cut complex": ({"target_cut": 1j}, TypeError, "`target_cut` must be a number; got complex."),
    "seed negative": ({"seed": -1}, ValueError, "`seed` must lie in [0, 2^31); got -1."),
    "seed large": ({"seed": 2**31}, ValueError, "`seed` must lie in [0, 2^31); got 2147483648."),
    "seed fraction": ({"seed": 1.0}, TypeError, "`seed` must be an integer; got float."),
    "seed boolean": ({"seed": True}, TypeError, "`seed` must be an integer; got bool."),
    "method": (
        {"method": "magic"},
        ValueError,
        "`method` must be one of auto, hyperplanes, sosp, homotopy, conditional, anneal; got 'magic'.",
    ),
    "method None": (
        {"method": None},
        ValueError,
        "`method` must be one of auto, hyperplanes, sosp, homotopy, conditional, anneal; got None.",
    ),
    "delta 0": ({"delta": 0}, ValueError, "`delta` must lie in (0, 1); got 0."),
    "delta 1": ({"delta": 1.0}, ValueError, "`delta` must lie in (0, 1); got 1.0."),
    "delta NaN": ({"delta": math.nan}, ValueError, "`delta` must lie in (0, 1); got nan."),
    "share zero": ({"bound_share": 0.0}, ValueError, "`bound_share` must lie in (0, 1); got 0.0."),
    "share nan": ({"bound_share": math.nan}, ValueError, "`bound_share` must lie in (0, 1); got nan."),
    "share text": ({"bound_share": "all"}, TypeError, "`bound_share` must be a number; got str."),
    "rounds negative": ({"max_rounds": -1}, ValueError, "`max_rounds` must be at least 0; got -1."),
    "rounds fraction": ({"max_rounds": 1.5}, TypeError, "`max_rounds` must be an integer; got float."),
    "threads 0": (
        {"threads": 0},
        ValueError,
        f"`threads` must lie in 1 to {MOST_THREADS}, the threads of this machine; got 0.",
    ),
    "threads many": (
        {"threads": 10**6},
        ValueError,
        f"`threads` must lie in 1 to {MOST_THREADS}, the threads of this machine; got 1000000.",
    ),
    "threads fraction": ({"threads": 1.0}, TypeError, "`threads` must be an integer; got float."),
    "device": ({"device": "tpu"}, ValueError, "`device` must be one of auto, cpu, cuda; got 'tpu'."),
    "device None": ({"device": None}, ValueError, "`device` must be one of auto, cpu, cuda; got None."),
    "callback": ({"callback": 3}, TypeError, "`callback` must be callable; got int."),
    "warm start short": (
        {"warm_start": [0, 1]},
        ValueError,
        "`warm_start`: partition must have shape (300,); got (2,).",
    ),
    "warm start of words": (
        {"warm_start": ["left"] * 300},
        TypeError,
        "`warm_start` must hold 0 and 1, -1 and +1 or booleans; got <U4.",
    ),
}


@pytest.mark.parametrize(("keywords", "error", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals(keywords: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        maxcut(MIDDLE, **keywords)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: maxcut(3), TypeError, "a graph must be a Graph, a path"),
        (lambda: maxcut(np.ones((3, 3))), TypeError, "a graph must be a Graph, a path"),
        (lambda: maxcut("/nowhere/graph.txt"), OSError, "nowhere"),
        (
            lambda: maxcut(MIDDLE, warm_start=[2] * 300),
            ValueError,
            "`warm_start`: partition must hold 0 and 1",
        ),
        (
            lambda: maxcut(MIDDLE, warm_start=[math.nan] * 300),
            ValueError,
            "`warm_start`: partition must hold 0",
        ),
    ],
    ids=["a number", "a dense matrix", "no file", "warm start of twos", "warm start of NaN"],
)
def test_other_refusals(make: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)
