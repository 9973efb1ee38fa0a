"""The heads on which the derandomisation lemma is shown: functions of z in R^3, to be made small."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import sdp

K = 3


def lemma_heads() -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> g(z), float64 (n, 3) -> (n,)."""
    return {
        "tanh, depth 2": sdp.MLP((K, 6, 6), "tanh", seed=1, loss="mse", target=1.0, dtype=torch.float64),
        "softplus, depth 3": sdp.MLP(
            (K, 5, 5, 5), "softplus", seed=2, loss="mse", target=1.0, dtype=torch.float64
        ),
        "double wells": lambda z: ((z**2 - 1) ** 2).sum(-1),
    }
