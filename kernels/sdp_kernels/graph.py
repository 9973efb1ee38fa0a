"""Operations on a weighted undirected graph, stored as the compressed rows of its adjacency matrix A.

    adjacency_product    (A X)_i = sum_j w_ij x_j
    laplacian_product    (Lap X)_i = deg_i x_i - (A X)_i,   deg_i = sum_j w_ij
    chebyshev_steps      P <- 2 B X - P,   B = Diag(diagonal) + (the entries of the rows)
    rounded_chebyshev_step   the same with B = I + R (A + Diag(diagonal)) R, whose product reads X in float32
    mixing_sweeps        v_i <- normalize(-(1 + omega) g_i / |g_i| - omega v_i),   g_i = sum_j w_ij v_j
    fields               |g_i| and g_i . v_i
    gains                s_i sum_j w_ij s_j: what the cut value gains when vertex i changes sides

Every operation reads each stored entry once: bytes = 2m (8 + c size) for c columns, gather-bound.

All tensors lie on one device, save `class_ptr`, which is on the CPU for every engine: it says which launches follow
one another. The Triton engine plans the rows of a graph once (a sort of n keys) and keeps the plan, weakly, for the
very tensors `csr.indptr` and `class_ptr`: pass the same ones each time, not fresh views of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdp_kernels._engine import twin


class CSR(NamedTuple):
    """Compressed rows of a symmetric matrix without diagonal: both directions of every edge are stored.

    Attributes:
        indptr: int64 (n + 1,), row i is entries indptr[i] to indptr[i + 1].
        indices: int32 (2m,), column of each entry, rising within a row.
        weights: float32 (2m,), weight of each entry; float64 where an operation says so.
    """

    indptr: Tensor
    indices: Tensor
    weights: Tensor

    @property
    def n_vertices(self) -> int:
        """Number of rows."""
        return self.indptr.numel() - 1


def check_csr(csr: CSR, weights_dtype: torch.dtype = torch.float32) -> None:
    """Refuse arrays whose dtypes or shapes are not those of `CSR`; their contents are trusted.

    Raises:
        TypeError, ValueError: naming the array.
    """
    expected = (("indptr", torch.int64), ("indices", torch.int32), ("weights", weights_dtype))
    for name, dtype in expected:
        tensor = getattr(csr, name)
        if tensor.dtype != dtype:
            raise TypeError(f"`csr.{name}` must be {dtype}; got {tensor.dtype}.")
        if tensor.ndim != 1 or not tensor.is_contiguous():
            raise ValueError(f"`csr.{name}` must be a contiguous vector; got shape {tuple(tensor.shape)}.")
    if csr.indptr.numel() == 0:
        raise ValueError("`csr.indptr` must have n + 1 entries; got none.")
    if csr.indices.numel() != csr.weights.numel():
        raise ValueError(
            f"`csr.indices` and `csr.weights` must have equal length; "
            f"got {csr.indices.numel()} and {csr.weights.numel()}."
        )


def check_rows(name: str, matrix: Tensor, csr: CSR, dtypes: tuple[torch.dtype, ...]) -> None:
    """Refuse a matrix that is not contiguous (n, c) of one of the dtypes.

    Raises:
        TypeError, ValueError: naming the matrix.
    """
    if matrix.dtype not in dtypes:
        raise TypeError(f"`{name}` must be {' or '.join(map(str, dtypes))}; got {matrix.dtype}.")
    if matrix.ndim != 2 or matrix.shape[0] != csr.n_vertices:
        raise ValueError(f"`{name}` must have shape ({csr.n_vertices}, c); got {tuple(matrix.shape)}.")
    if not matrix.is_contiguous():
        raise ValueError(f"`{name}` must be contiguous (row-major); got strides {matrix.stride()}.")


def check_class_ptr(class_ptr: Tensor, csr: CSR) -> None:
    """Refuse colour classes that do not run from 0 to the number of vertices.

    Raises:
        TypeError, ValueError: naming `class_ptr`.
    """
    if class_ptr.dtype != torch.int64:
        raise TypeError(f"`class_ptr` must be torch.int64; got {class_ptr.dtype}.")
    if class_ptr.device.type != "cpu":
        raise ValueError(f"`class_ptr` must lie on the CPU for every engine; got {class_ptr.device}.")
    n = csr.n_vertices
    is_vector = class_ptr.ndim == 1 and class_ptr.numel() > 0
    # A class that ends beyond n would send the kernels out of their arrays.
    if not is_vector or class_ptr[0] != 0 or class_ptr[-1] != n or bool((class_ptr.diff() < 0).any()):
        raise ValueError(f"`class_ptr` must be a vector that rises from 0 to {n}, the number of vertices.")


def _check_vector(name: str, vector: Tensor, length: int, dtype: torch.dtype) -> None:
    if vector.dtype != dtype:
        raise TypeError(f"`{name}` must be {dtype}; got {vector.dtype}.")
    if vector.shape != (length,) or not vector.is_contiguous():
        raise ValueError(f"`{name}` must be contiguous with shape ({length},); got {tuple(vector.shape)}.")


def adjacency_product(csr: CSR, X: Tensor) -> Tensor:
    """A X, the product of the adjacency matrix with a block of columns.

    Args:
        csr: the graph; weights float32 or float64, the dtype of X.
        X: float32 or float64 (n, c), contiguous.

    Returns:
        (n, c), the dtype of X; each row is summed in the order of its entries.

    Raises:
        TypeError, ValueError: another dtype or shape.

    Complexity: O(m c).

    >>> path = CSR(torch.tensor([0, 1, 2]), torch.tensor([1, 0], dtype=torch.int32), torch.ones(2))
    >>> adjacency_product(path, torch.tensor([[3.0], [5.0]])).tolist()
    [[5.0], [3.0]]
    """
    check_rows("X", X, csr, (torch.float32, torch.float64))
    check_csr(csr, X.dtype)
    product: Tensor = twin("graph", csr.indptr, X).adjacency_product(csr, X)
    return product


def laplacian_product(csr: CSR, X: Tensor) -> Tensor:
    """Lap X with Lap = Diag(A 1) - A, in the dtype of X; arguments and errors as `adjacency_product`.

    The maximum cut of a partition s in {-1, +1} is s . Lap s / 4.
    """
    degrees = adjacency_product(csr, X.new_ones((csr.n_vertices, 1)))
    return degrees * X - adjacency_product(csr, X)


def chebyshev_step(csr: CSR, diagonal: Tensor, X: Tensor, previous: Tensor) -> Tensor:
    """One step of the three-term recurrence, in place: previous <- 2 B X - previous.

    B is symmetric, with this diagonal and the rows' entries off it. T_k(B) X_0 follows from T_0 = X_0 and
    T_1 = B X_0, which is the step with `previous` = 0, halved.

    Args:
        csr: off-diagonal entries of B; weights float64.
        diagonal: float64 (n,).
        X: float64 (n, c), contiguous.
        previous: float64 (n, c), contiguous; overwritten.

    Returns:
        float64 (c,), sum of squares of each column of the new `previous`.

    Raises:
        TypeError, ValueError: another dtype or shape.

    Complexity: O(m c). Source: Rutishauser's recurrence; see `sdp.maxcut.bound` for what it proves.
    """
    _check_chebyshev(csr, diagonal, X, previous)
    squares: Tensor = twin("graph", csr.indptr, X).chebyshev_step(csr, diagonal, X, previous)
    return squares


def chebyshev_steps(csr: CSR, diagonal: Tensor, X: Tensor, previous: Tensor, n_steps: int) -> Tensor:
    """Several steps of the recurrence, in place: X and `previous` take turns.

    The first step is `chebyshev_step(csr, diagonal, X, previous)`, the second one has X and `previous` exchanged, and
    so on: after an even number of steps the newest block is X, after an odd number `previous`. On a GPU pairs of
    steps are recorded at the second one with the same tensors, which waits for the device, and replayed from then on
    without waiting.

    Args:
        csr: as `chebyshev_step`; so are `diagonal`, X and `previous`, both overwritten.
        diagonal: float64 (n,).
        X: float64 (n, c), contiguous.
        previous: float64 (n, c), contiguous.
        n_steps: number of steps.

    Returns:
        float64 (n_steps, c), sum of squares of each column of the block that each step made.

    Raises:
        TypeError, ValueError: another dtype, shape or number of steps.

    Complexity: O(n_steps m c).
    """
    _check_chebyshev(csr, diagonal, X, previous)
    if n_steps < 0:
        raise ValueError(f"`n_steps` must be at least 0; got {n_steps}.")
    squares: Tensor = twin("graph", csr.indptr, X).chebyshev_steps(csr, diagonal, X, previous, n_steps)
    return squares


def _check_chebyshev(csr: CSR, diagonal: Tensor, X: Tensor, previous: Tensor) -> None:
    check_csr(csr, torch.float64)
    check_rows("X", X, csr, (torch.float64,))
    check_rows("previous", previous, csr, (torch.float64,))
    _check_vector("diagonal", diagonal, csr.n_vertices, torch.float64)
    if X.shape != previous.shape:
        raise ValueError(
            f"`X` and `previous` must share a shape; got {tuple(X.shape)}, {tuple(previous.shape)}."
        )


def offers_rounded_steps(csr: CSR) -> bool:
    """Whether the engine of these tensors has `rounded_chebyshev_step`: so far the CPU's alone."""
    return hasattr(twin("graph", csr.indptr), "rounded_chebyshev_step")


def rounded_chebyshev_step(
    csr: CSR,
    diagonal: Tensor,
    root: Tensor,
    factor: float,
    X: tuple[Tensor, Tensor],
    previous: tuple[Tensor, Tensor],
) -> Tensor:
    """One step of the recurrence with B = I + (factor/2) R (A + Diag(diagonal)) R, in place, R = Diag(root).

        P <- 2 X - P + factor root * ((A + Diag(diagonal)) Z),   Z = float32(root * X)

    Only the product reads the rounded Z, in rows of half the length; X, P and all sums are float64. Since B - I
    multiplies what rounding loses, a direction in which B is 1 + x feels it by the factor x alone.

    Args:
        csr: the graph; weights float32.
        diagonal: float64 (n,).
        root: float64 (n,).
        factor: twice that of B.
        X: float64 (n, c), and float32 (n, c), root * X rounded.
        previous: float64 (n, c), and float32 (n, c); both overwritten, the second by root * (the new first) rounded.

    Returns:
        float64 (c,), sum of squares of each column of the new `previous[0]`.

    Raises:
        TypeError, ValueError: another dtype or shape, or an engine without it (`offers_rounded_steps`).

    Complexity: O(m c), 2m (8 + 4 c) bytes gathered. Source: `chebyshev_step`; what rounding costs a certificate is
    derived in `sdp.maxcut.recurrence`.

    >>> path = CSR(torch.tensor([0, 1, 2]), torch.tensor([1, 0], dtype=torch.int32), torch.ones(2))
    >>> zeros, ones = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    >>> X, previous = (torch.eye(2).double(), torch.eye(2)), (torch.zeros(2, 2).double(), torch.zeros(2, 2))
    >>> rounded_chebyshev_step(path, zeros, ones, -1.0, X, previous)  # 2 X - A X
    tensor([5., 5.], dtype=torch.float64)
    >>> previous[0]
    tensor([[ 2., -1.],
            [-1.,  2.]], dtype=torch.float64)
    """
    check_csr(csr)
    for name, (block, rounded) in (("X", X), ("previous", previous)):
        check_rows(f"{name}[0]", block, csr, (torch.float64,))
        check_rows(f"{name}[1]", rounded, csr, (torch.float32,))
    if len({block.shape for block in (*X, *previous)}) > 1:
        raise ValueError(
            f"`X` and `previous` must share a shape; got {', '.join(str(tuple(b.shape)) for b in (*X, *previous))}."
        )
    _check_vector("diagonal", diagonal, csr.n_vertices, torch.float64)
    _check_vector("root", root, csr.n_vertices, torch.float64)
    step = getattr(twin("graph", csr.indptr, diagonal, root, *X, *previous), "rounded_chebyshev_step", None)
    if step is None:
        raise ValueError("`rounded_chebyshev_step` is the CPU engine's alone; use `chebyshev_step`.")
    squares: Tensor = step(csr, diagonal, root, factor, X, previous)
    return squares


def mixing_sweep(csr: CSR, class_ptr: Tensor, V: Tensor, omega: float) -> None:
    """One sweep of `mixing_sweeps`, in place."""
    mixing_sweeps(csr, class_ptr, V, omega, 1)


def mixing_sweeps(
    csr: CSR, class_ptr: Tensor, V: Tensor, omega: float, n_sweeps: int, changes: Tensor | None = None
) -> None:
    """Over-relaxed sweeps of the mixing method over all rows of V, in place, class by class.

        g_i = sum_j w_ij v_j,   v_i <- normalize(-(1 + omega) g_i / |g_i| - omega v_i)

    omega = 0 is exact coordinate minimisation of the energy sum_{i<j} w_ij v_i . v_j; rows with g_i = 0 stay.
    Vertices of one class must not be neighbours: then the order inside a class, and so the number of threads,
    does not matter. On a GPU the launches of a sweep are recorded at the second one with the same tensors, which
    waits for the device, and replayed from then on without waiting.

    Args:
        csr: the graph.
        class_ptr: int64 (n_classes + 1,), on the CPU; class c is the vertices class_ptr[c] to class_ptr[c + 1].
        V: float32 or float16 (n, r), unit rows, contiguous; r a multiple of 4 (of 8 in float16) is fastest.
            Arithmetic is float32; float16 rows are rounded to nearest even when they are stored, so they are unit
            to 5e-4. On the CPU float16 is for comparison: it works on a float32 copy.
        omega: over-relaxation, in [0, 1).
        n_sweeps: number of sweeps.
        changes: float64 (n_sweeps,), contiguous, on V's device: receives what each sweep added to the energy,
            sum_i g_i . (new v_i - old v_i), rows in float32. None does not compute it.

    Raises:
        TypeError, ValueError: another dtype, shape, omega or number of sweeps.

    Complexity: O(n_sweeps m r). Source: Wang, Chang and Kolter, "The mixing method" (2017); the over-relaxed form
    and its colouring are measured in benchmarks/README.md.

    >>> path = CSR(torch.tensor([0, 1, 2]), torch.tensor([1, 0], dtype=torch.int32), torch.ones(2))
    >>> V = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    >>> mixing_sweeps(path, torch.tensor([0, 1, 2]), V, omega=0.0, n_sweeps=1)
    >>> bool((V[0] == -V[1]).all())
    True
    """
    check_csr(csr)
    check_rows("V", V, csr, (torch.float32, torch.float16))
    check_class_ptr(class_ptr, csr)
    if not 0 <= omega < 1:
        raise ValueError(f"`omega` must lie in [0, 1); got {omega}.")
    if n_sweeps < 0:
        raise ValueError(f"`n_sweeps` must be at least 0; got {n_sweeps}.")
    if changes is not None:
        _check_vector("changes", changes, n_sweeps, torch.float64)
    twin("graph", csr.indptr, V, *([] if changes is None else [changes])).mixing_sweeps(
        csr, class_ptr, V, omega, n_sweeps, changes
    )


def fields(csr: CSR, V: Tensor) -> tuple[Tensor, Tensor]:
    """Length of the field at each vertex and its product with the vertex's own row.

    Args:
        csr: the graph.
        V: float32 or float16 (n, r), contiguous.

    Returns:
        float64 (n,) |g_i| and float64 (n,) g_i . v_i, with g_i = sum_j w_ij v_j. The CPU engine sums in float64;
        on a GPU the row is summed in float32, a relative error of about 2^-24 (entries + r) / 2 of the sum of
        absolute terms at most. As a dual vector any |g_i| is valid; only values feel the difference.

    Raises:
        TypeError, ValueError: another dtype or shape.

    Complexity: O(m r).
    """
    check_csr(csr)
    check_rows("V", V, csr, (torch.float32, torch.float16))
    lengths: Tensor
    products: Tensor
    lengths, products = twin("graph", csr.indptr, V).fields(csr, V)
    return lengths, products


def gains(csr: CSR, signs: Tensor) -> Tensor:
    """What the cut value gains when one vertex changes sides: s_i sum_j w_ij s_j, for every vertex.

    Args:
        csr: the graph.
        signs: int8 (R, n) in {-1, +1}, one replica a row, contiguous.

    Returns:
        float32 (R, n), in units of edge weight; exact where weights are integers with sums below 2^24.

    Raises:
        TypeError, ValueError: another dtype or shape.

    Complexity: O(R m).

    >>> path = CSR(torch.tensor([0, 1, 2]), torch.tensor([1, 0], dtype=torch.int32), torch.ones(2))
    >>> gains(path, torch.tensor([[1, 1], [1, -1]], dtype=torch.int8)).tolist()
    [[1.0, 1.0], [-1.0, -1.0]]
    """
    check_csr(csr)
    check_replicas("signs", signs, csr, torch.int8)
    gained: Tensor = twin("graph", csr.indptr, signs).gains(csr, signs)
    return gained


def check_replicas(name: str, tensor: Tensor, csr: CSR, dtype: torch.dtype) -> None:
    """Refuse a tensor that is not contiguous (R, n) of this dtype.

    Raises:
        TypeError, ValueError: naming the tensor.
    """
    if tensor.dtype != dtype:
        raise TypeError(f"`{name}` must be {dtype}; got {tensor.dtype}.")
    if tensor.ndim != 2 or tensor.shape[1] != csr.n_vertices or not tensor.is_contiguous():
        raise ValueError(
            f"`{name}` must be contiguous with shape (R, {csr.n_vertices}); got {tuple(tensor.shape)}."
        )
