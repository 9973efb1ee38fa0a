"""What every peer hands back."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Answer:
    """A partition found by a peer, and what it cost.

    Attributes:
        partition: uint8 (n,), sides 0 and 1; the benchmark computes the cut value from it itself.
        seconds: what the peer is charged: its search, without its set-up.
        setup_seconds: building the peer's own structures, calibrating its run length.
        details: what a reader may want to know, such as the number of sweeps.
    """

    partition: npt.NDArray[np.uint8]
    seconds: float
    setup_seconds: float
    details: dict[str, Any] = field(default_factory=dict)


def sides(spins: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """uint8 sides 0 and 1 from spins -1 and +1."""
    return (np.asarray(spins) > 0).astype(np.uint8)


class Stopwatch:
    """Seconds since it was made, or since the last lap."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, and a new lap."""
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        return elapsed
