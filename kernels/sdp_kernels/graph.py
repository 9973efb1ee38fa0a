"""Operations on a weighted undirected graph, stored as the compressed rows of its adjacency matrix A."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class CSR(NamedTuple):
    """Compressed rows of a symmetric matrix without diagonal: both directions of every edge are stored.

    Attributes:
        indptr: int64 (n + 1,), row i is entries indptr[i] to indptr[i + 1].
        indices: int32 (2m,), column of each entry, rising within a row.
        weights: float32 (2m,), weight of each entry.
    """

    indptr: Tensor
    indices: Tensor
    weights: Tensor

    @property
    def n_vertices(self) -> int:
        """Number of rows."""
        return self.indptr.numel() - 1
