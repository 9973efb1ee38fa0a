"""The pseudo-inverse of a map that is never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

FEATURES_AT_ONCE = 1024


def pseudo_inverse(Y: Tensor, entries: Callable[[int, int], Tensor], n_features: int) -> Tensor:
    """Rows of least length that a map sends nearest to these: Y ((A A^T)^+ A).

    Args:
        Y: (n, k) float32 or float64.
        entries: gives columns [first, last) of A, transposed: float64 (last - first, k).
        n_features: D, the number of columns of A (k, D).

    Returns:
        float64 (n, D).

    Complexity: O(D k^2 + k^3 + n D k), with float64 (k, k) and (FEATURES_AT_ONCE, k) beside the result. The Gram matrix
    squares A's condition: directions below 1e-12 of its largest eigenvalue count as zero.
    """
    k = Y.shape[1]
    gram = torch.zeros((k, k), dtype=torch.float64)
    for _, columns in _slices(entries, n_features):
        gram += columns.T @ columns
    coefficients = Y.to("cpu", torch.float64) @ torch.linalg.pinv(gram, rtol=1e-12, hermitian=True)
    full = torch.empty((len(Y), n_features), dtype=torch.float64)
    for first, columns in _slices(entries, n_features):
        full[:, first : first + len(columns)] = coefficients @ columns.T
    return full.to(Y.device)


def _slices(entries: Callable[[int, int], Tensor], n_features: int) -> Iterator[tuple[int, Tensor]]:
    for first in range(0, n_features, FEATURES_AT_ONCE):
        yield first, entries(first, min(first + FEATURES_AT_ONCE, n_features))
