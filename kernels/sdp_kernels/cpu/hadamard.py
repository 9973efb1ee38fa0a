"""numba twin of `sdp_kernels.hadamard`; the loops are `_butterflies`."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from sdp_kernels.cpu import _butterflies
from sdp_kernels.cpu._blocks import threads_worth
from sdp_kernels.cpu._vectors import RUN
from sdp_kernels.cpu.gaussian import rademacher
from sdp_kernels.cpu.projection import _arrays, row_chunks

WORK_A_LEVEL = 2  # entries of a sampled row that cost what one number costs at one level of a transform


def fwht(X: Tensor, out: Tensor) -> None:
    """Writes out (n, N) = X H, rows filled up with zeros to N; X may be `out`."""
    target, n = out.numpy(), out.shape[1]
    with threads_worth(out.numel() * max(1, n.bit_length())):
        for start, rows in row_chunks(X, out.dtype):
            _butterflies.whole(rows, n, _butterflies.padded_length(n), target[start : start + len(rows)])


def srht(X: Tensor, n: int, samples: Tensor, out: Tensor, seed: int, purpose: int, scale: float) -> None:
    """Writes out (rows, k) = scale times entries `samples` of H D x, x filled up with zeros to n."""
    target = out.numpy()
    places = samples.numpy()
    if n >= RUN:
        places = places + _butterflies.PAD * (places // RUN)
    signs = _signs(X.shape[1], seed, purpose, target)
    with threads_worth(X.shape[0] * n * max(1, n.bit_length())):
        for start, rows in row_chunks(X, out.dtype):
            factor = target.dtype.type(scale)
            block = target[start : start + len(rows)]
            _butterflies.sampled(rows, n, _butterflies.padded_length(n), signs, places, block, factor)


def srht_of_rows(
    rows: tuple[Tensor, Tensor, Tensor],
    n_features: int,
    n: int,
    samples: Tensor,
    out: Tensor,
    seed: int,
    purpose: int,
    scale: float,
) -> None:
    """As `srht` for sparse rows: a row of few entries sums columns of H, others are transformed."""
    target = out.numpy()
    csr = _arrays(rows, target.dtype)
    work = WORK_A_LEVEL * n * max(1, n.bit_length())
    if n > 1 << 32:  # positions of columns of H are 32-bit words there
        work = 0
    signs = _signs(n_features, seed, purpose, target)
    with threads_worth(len(csr[1]) * out.shape[1]):
        length = _butterflies.padded_length(n)
        _butterflies.sampled_sparse(
            *csr, n, length, signs, samples.numpy(), work, target, target.dtype.type(scale)
        )


def _signs(n: int, seed: int, purpose: int, like: NDArray[Any]) -> NDArray[Any]:
    signs = torch.empty((1, n), dtype=torch.int8)
    rademacher(signs, seed, purpose, 0, 0)
    row: NDArray[Any] = signs.numpy()[0].astype(like.dtype)
    return row
