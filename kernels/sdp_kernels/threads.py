"""How many threads torch may use, where the same bits for any number of them come first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: where it cuts a tensor for two, tanh and matrix products round some entries differently.

    For small products it is also the faster way: a second thread that must be woken costs more than it brings.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
