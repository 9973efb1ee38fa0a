"""Tensors inside larger buffers whose other entries must survive a kernel.

The interpreter checks no bounds: a store outside a tensor lands in whatever lies there. Here a canary does, before,
after, and between the rows of a strided tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

ZONE = 512  # entries before and after: more than any tile's overhang in one row

_CANARIES = {
    torch.float16: float("nan"),
    torch.float32: float("nan"),
    torch.float64: float("nan"),
    torch.int32: -0x35014542,
    torch.int8: 77,
}


class Guarded:
    """A tensor, filled with canaries too, and the zone around it.

    Attributes:
        tensor: what the kernel gets; `strides` default to contiguous ones.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, strides: tuple[int, ...] | None = None
    ) -> None:
        steps = strides or torch.empty(shape, device="meta").stride()
        reach = 1 + sum((size - 1) * step for size, step in zip(shape, steps, strict=True))
        self.canary = _CANARIES[dtype]
        self._buffer = torch.full((max(reach, 0) + 2 * ZONE,), self.canary, dtype=dtype)
        self.tensor = self._buffer.as_strided(shape, steps, ZONE)
        self._is_outside = torch.ones_like(self._buffer, dtype=torch.bool)
        self._is_outside.as_strided(shape, steps, ZONE).fill_(False)

    def check(self) -> Tensor:
        """The tensor, after a kernel that must have written all of it and nothing else.

        Raises:
            AssertionError: a canary is gone, or one is left in the tensor.
        """
        self.check_outside()
        assert not self._are_canaries(self.tensor).any(), "not written everywhere"
        return self.tensor

    def check_outside(self) -> None:
        """After a kernel that may have written any part of the tensor, such as scratch, and nothing else.

        Raises:
            AssertionError: a canary is gone.
        """
        assert self._are_canaries(self._buffer[self._is_outside]).all(), "written outside of the tensor"

    def _are_canaries(self, values: Tensor) -> Tensor:
        return values.isnan() if values.is_floating_point() else values == self.canary
