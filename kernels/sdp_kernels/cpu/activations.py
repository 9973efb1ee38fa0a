"""CPU twin of `sdp_kernels.activations.evaluate`: the torch formulas, whose loops are vectorised already."""

from __future__ import annotations

from torch import Tensor

from sdp_kernels.activations import derivatives


def evaluate(name: str, x: Tensor, order: int, iota: float) -> tuple[Tensor, ...]:
    """As the public `evaluate`."""
    return derivatives(name, x.detach(), order, iota)
