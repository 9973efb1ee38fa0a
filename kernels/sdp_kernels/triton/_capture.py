"""A sequence of launches, recorded as a CUDA graph and replayed: 1 to 2 us a launch instead of 10 to 20 of Python.

Numbers that change between replays (a sweep's number, a temperature, omega) must lie in device tensors that the
sequence reads: arguments of a kernel are recorded as they were. Tensors that it allocates while it is recorded
belong to the graph; what must survive is allocated before.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import triton

FEWEST_RUNS = 8  # worth a recording, which waits for the device and frees memory: milliseconds


class Captured:
    """One sequence of launches on one device.

    The first call runs it (which compiles its kernels), the second records it, and from then on it is replayed. To
    record it torch waits for the device and gives back the memory that it holds in reserve, once.
    In the interpreter, and on devices that record nothing, it is run at every call. The sequence is handed over at
    each call and not kept, so that tensors may be held weakly by whoever keeps a `Captured` for them; it must be the
    same one with the same tensors each time.

    Args:
        device: of the tensors.
        runs: how many are expected; below `FEWEST_RUNS` nothing is recorded.

    >>> count = torch.zeros(1)
    >>> sweep = Captured(count.device)
    >>> for _ in range(3):
    ...     sweep.run(lambda: count.add_(1))
    >>> int(count)
    3
    """

    def __init__(self, device: torch.device, runs: float = math.inf) -> None:
        is_compiled = device.type == "cuda" and not triton.knobs.runtime.interpret
        self._records = is_compiled and runs >= FEWEST_RUNS
        self._device = device
        self._is_warm = False
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, launches: Callable[[], object]) -> None:
        """Has the effect of `launches()`, in the order of the current stream."""
        if not self._records or not self._is_warm:
            launches()
            self._is_warm = True
            return
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream(self._device)
            # Other threads may go on calling CUDA.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                launches()
            self._graph = graph
        self._graph.replay()
