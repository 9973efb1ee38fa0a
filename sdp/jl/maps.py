"""The linear maps of `sdp embed`: named by few numbers, or learned and kept as a matrix, applied block by block.

They are the operations of `sdp_kernels` and no more: the same kind, seed and shape give the map of the estimators in
`sdp.jl.transforms`, and a row's image depends on that row alone, so that any cutting of a stream into blocks gives the
same bytes. Blocks stay numpy's, so that importing this costs numba, but neither torch with its 190 MB nor scikit-learn
with its 130.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sdp.jl.blocks import Block, SparseBlock, as_read
from sdp_kernels import hadamard, projection
from sdp_kernels.gaussian import SEEDS

KINDS = ("sparse", "gaussian", "rademacher", "srht", "learned")
NONZEROS = 8  # entries a feature of the sparse map, where k allows so many


@dataclass(frozen=True, eq=False)
class Map:
    """A linear map of R^n_features into R^n_components.

    Attributes:
        kind: one of `KINDS`.
        n_features, n_components: its shape.
        seed: of the random kinds; 0 of a learned map, whose seed went into its matrix.
        matrix: float32 or float64 (n_components, n_features) of a learned map; None otherwise.
    """

    kind: str
    n_features: int
    n_components: int
    seed: int = 0
    matrix: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(KINDS)}; got {self.kind!r}.")
        numbers: dict[str, object] = vars(self)
        for name in ("seed", "n_features", "n_components"):
            if isinstance(numbers[name], bool) or not isinstance(numbers[name], Integral):
                raise TypeError(f"`{name}` must be an integer; got {numbers[name]!r}.")
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"`seed` must lie in [0, 2^63); got {self.seed}.")
        if self.n_features < 1:
            raise ValueError("the rows have no columns; there is nothing to embed.")
        most = hadamard.padded(self.n_features) if self.kind == "srht" else projection.COMPONENTS - 1
        if not 1 <= self.n_components <= most:
            raise ValueError(
                f"`n_components` must lie in [1, {most}] for kind {self.kind!r} and {self.n_features} columns; "
                f"got {self.n_components}."
            )
        if self.kind == "learned":
            shape = None if self.matrix is None else self.matrix.shape
            if shape != (self.n_components, self.n_features):
                raise ValueError(
                    f"a learned map of {self.n_features} columns needs a matrix of shape "
                    f"({self.n_components}, {self.n_features}); got {shape}."
                )

    @property
    def n_nonzeros(self) -> int | None:
        """Entries a feature of the sparse kind; None of the others."""
        return min(NONZEROS, self.n_components) if self.kind == "sparse" else None

    def output_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """What rows of this dtype become: float64 stays, all else is float32."""
        return np.dtype("<f8") if as_read(dtype) == np.float64 else np.dtype("<f4")

    def apply(self, block: Block) -> NDArray[Any]:
        """Images of the rows of a block, (n, n_components), float64 of float64 rows and float32 of others.

        The bits do not depend on blocks or threads; of a learned map, for one build of BLAS on one kind of processor.
        """
        k, seed = self.n_components, self.seed
        if self.kind == "learned":
            return self._multiply(block)
        rows = _rows(block)
        if self.kind == "sparse":
            return projection.blocked(rows, k, min(NONZEROS, k), seed=seed)
        if self.kind == "gaussian":
            return projection.gaussian(rows, k, seed=seed)
        if self.kind == "rademacher":
            return projection.rademacher(rows, k, seed=seed)
        return hadamard.srht(rows, k, seed=seed)

    def _multiply(self, block: Block) -> NDArray[Any]:
        """Row by row, on one thread: BLAS may sum in an order that depends on how many rows or threads there are."""
        assert self.matrix is not None
        if isinstance(block, SparseBlock):
            from scipy.sparse import csr_array

            arrays = (block.values, block.indices, block.indptr)
            block = csr_array(arrays, shape=(len(block), self.n_features)).toarray()
        dtype = self.output_dtype(block.dtype)
        matrix = self.matrix.astype(dtype, copy=False)
        image = np.empty((len(block), self.n_components), dtype)
        with threadpool_limits(1, user_api="blas"):
            for row, source in zip(image, block.astype(dtype, copy=False), strict=True):
                np.matmul(matrix, source, out=row)
        return image


def _rows(block: Block) -> projection.Arrays:
    if isinstance(block, SparseBlock):
        return projection.SparseArrays(block.indptr, block.indices, block.values, block.n_features)
    return block
