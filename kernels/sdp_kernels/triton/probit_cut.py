"""Triton twin of `sdp_kernels.probit_cut`: the same operations in float32, with complements beside the covariances.

    second_moments     gathers V once     8 bytes an entry written     probit_cut_rows.py
    law_value, law_derivatives            24 bytes an entry read       probit_cut_law.py
    hessian_product    gathers X once     8 bytes an entry read        probit_cut_rows.py

All sums run in a fixed order, without atomics; a value is the float64 sum of its rows. One kernel over entries gives
value and derivatives together. Fusing it into the gather of V as well would save the second one, but every lane that
holds a part of v_j would repeat the edge's 200 instructions: at r = 32 eight lanes, more than the gather costs.

Measured against float64 (tests/kernels/triton/test_probit_cut.py), for beta from 1 to 50, edges at every angle down to
0 and means from 0 to 30: values within 3e-8 sum |w|, gradients within 6e-6 of their largest entry; promised are 1e-7
and 1e-5, and what `sdp_kernels.probit_cut` says of graphs whose edges are all nearly parallel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from sdp_kernels.triton._rows import GROUP, RowPlan, row_plan
from sdp_kernels.triton.probit_cut_law import (
    SUMS,
    _law_heavy_kernel,
    _law_kernel,
    _scaled_law_kernel,
    _standardise_kernel,
    _total_kernel,
)
from sdp_kernels.triton.probit_cut_rows import (
    VERTEX,
    _lengths_kernel,
    _moments_kernel,
    _product_kernel,
)

if TYPE_CHECKING:
    from sdp_kernels.graph import CSR
    from sdp_kernels.probit_cut import Derivatives, Law

DTYPES = (torch.float32, torch.float64)  # of laws and means that it takes; float64 is rounded

WARPS = 4  # of 32 lanes
MAX_COLUMNS = 64  # of a tile; a part of the result: it says how a row of V is summed
TILE = 1024  # numbers of a tile of V: 8 a thread
PRODUCT_TILE = 512  # 4 a thread: 16 bytes
# On NVIDIA. Without a limit ptxas saves registers by waiting for each of a pass's four gathers before the next.
MOMENTS_REGISTERS, PRODUCT_REGISTERS = 96, 64
LONG_REGISTERS = 160  # moments of rows longer than a tile, whose further columns are gathered beside
LAW_TILE = 128  # entries: one a thread
BLOCK = 1024
TILE_INTERPRETED = 1 << 14  # a program of the interpreter costs 45 us whatever its size
TOTAL_LANES, TOTAL_STEPS = 1024, 8  # parts of the result: they say how rows are summed


def second_moments(csr: CSR, V: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Covariances float32 (2m,), variances float32 (n,), complements float32 (2m,) on the CSR entries."""
    V = V.float().contiguous() if V.shape[1] else V.new_zeros(len(V), 1, dtype=torch.float32)
    n, rank = V.shape
    nnz = csr.indices.numel()
    covariances, variances, complements = V.new_empty(nnz), V.new_empty(n), V.new_empty(nnz)
    if not n:
        return covariances, variances, complements
    plan = row_plan(csr.indptr)
    columns = _columns(rank)
    items = _tile(TILE, plan.starts.numel(), columns)
    vertices = V.new_empty(n, VERTEX)
    _lengths_kernel[(triton.cdiv(n, items),)](
        V, variances, vertices, n, beta**-2, R=rank, ROWS=items, COLUMNS=columns, **options()
    )
    if nnz:
        _moments_kernel[(triton.cdiv(plan.starts.numel(), items),)](
            plan.starts, plan.counts, plan.targets, _slot_rows(plan), csr.indices, V, vertices, covariances,
            complements, plan.starts.numel(), R=rank, ITEMS=items, COLUMNS=columns,
            **options(MOMENTS_REGISTERS if rank <= columns else LONG_REGISTERS),
        )  # fmt: skip
    return covariances, variances, complements


def scaled_moments(csr: CSR, moments: Law, beta: float, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `second_moments`, of scale V, from the law of V."""
    covariances, variances, complements = _floats(moments)
    noise, square = beta**-2, scale**2
    scaled_variances = torch.add((variances - noise).clamp_(min=0.0) * square, noise)
    scaled_covariances, scaled_complements = torch.empty_like(covariances), torch.empty_like(covariances)
    if complements is None:
        complements = _plain_complements(csr, covariances, variances)
    if csr.indices.numel():
        plan = row_plan(csr.indptr)
        items = _tile(LAW_TILE, plan.starts.numel(), GROUP)
        _scaled_law_kernel[(triton.cdiv(plan.starts.numel(), items),)](
            plan.starts, plan.counts, plan.targets, _slot_rows(plan), csr.indices, covariances, complements,
            variances, scaled_covariances, scaled_complements, plan.starts.numel(), square, noise,
            ITEMS=items, **options(),
        )  # fmt: skip
    return scaled_covariances, scaled_variances, scaled_complements


def law_value(csr: CSR, moments: Law, mean: Tensor) -> float:
    """As the public `law_value`."""
    values, _ = _law(csr, moments, mean, is_value=True, is_derivative=False)
    return _total(values)


def law_derivatives(csr: CSR, moments: Law, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the public `law_derivatives`, float32."""
    _, derivatives = _law(csr, moments, mean, is_value=False, is_derivative=True)
    return derivatives


def law_value_and_derivatives(
    csr: CSR, moments: Law, mean: Tensor
) -> tuple[float, tuple[Tensor, Tensor, Tensor]]:
    """As the public `law_value_and_derivatives`, in one pass."""
    values, derivatives = _law(csr, moments, mean, is_value=True, is_derivative=True)
    return _total(values), derivatives


def hessian_product(csr: CSR, derivatives: Derivatives, X: Tensor) -> Tensor:
    """As the public `hessian_product`, summed in float32."""
    rows = X.float().contiguous()
    product = torch.empty_like(rows)
    if not product.numel():
        return product.to(X.dtype)
    plan = row_plan(csr.indptr)
    n_columns = rows.shape[1]
    entries, diagonal = derivatives.entries.float(), derivatives.diagonal.float()
    sums = rows.new_empty(plan.n_slots, n_columns)
    columns = _columns(n_columns)
    launches = [(False, plan.starts.numel(), (plan.starts, plan.counts, plan.targets))]
    if plan.n_slots:
        launches.append((True, plan.heavy_rows.numel(), (plan.heavy_slots, plan.counts, plan.heavy_rows)))
    for is_heavy, n_items, lists in launches:
        items = 1 if is_heavy else _tile(PRODUCT_TILE, n_items, columns)
        _product_kernel[(triton.cdiv(n_items, items), triton.cdiv(n_columns, columns))](
            *lists, csr.indices, entries, diagonal, rows, product, sums, n_items,
            R=n_columns, ITEMS=items, COLUMNS=columns, HEAVY=is_heavy,
            **({"num_warps": 1} if is_heavy else options(PRODUCT_REGISTERS)),
        )  # fmt: skip
    return product.to(X.dtype)


def _law(
    csr: CSR, moments: Law, mean: Tensor, *, is_value: bool, is_derivative: bool
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Values of the rows (n,), and gradient, entries and diagonal; what is not asked for is left unwritten."""
    covariances, variances, complements = _floats(moments)
    n, nnz = variances.numel(), covariances.numel()
    values, gradient, diagonal = (variances.new_empty(n) for _ in range(3))
    entries = variances.new_empty(nnz)
    if not n:
        return values, (gradient, entries, diagonal)
    vertices = variances.new_empty(n, 2)
    block = _tile(BLOCK, n, 1)
    _standardise_kernel[(triton.cdiv(n, block),)](
        mean.float().contiguous(), variances, vertices, n, BLOCK=block, **options()
    )
    plan = row_plan(csr.indptr)
    sums = variances.new_empty(plan.n_slots, SUMS)
    items = _tile(LAW_TILE, plan.starts.numel(), GROUP)
    asked = {"VALUE": is_value, "DERIVATIVES": is_derivative}
    _law_kernel[(triton.cdiv(plan.starts.numel(), items),)](
        plan.starts, plan.counts, plan.targets, _slot_rows(plan), csr.indices, csr.weights, covariances,
        covariances if complements is None else complements, vertices, entries, gradient, diagonal, values, sums,
        plan.starts.numel(), ITEMS=items, COMPLEMENTS=complements is not None, **asked, **options(),
    )  # fmt: skip
    n_heavy = plan.heavy_rows.numel()
    if n_heavy:
        _law_heavy_kernel[(n_heavy,)](
            plan.heavy_rows,
            plan.heavy_slots,
            vertices,
            sums,
            gradient,
            diagonal,
            values,
            **asked,
            num_warps=1,
        )
    return values, (gradient, entries, diagonal)


def _total(values: Tensor) -> float:
    """Sum in float64, by a tree whose shape the number of values alone decides; waits for the device."""
    while values.numel() > 1 or values.dtype != torch.float64:
        n_programs = triton.cdiv(values.numel(), TOTAL_LANES * TOTAL_STEPS)
        partial = values.new_zeros(max(n_programs, 1), dtype=torch.float64)
        if n_programs:
            _total_kernel[(n_programs,)](
                values, partial, values.numel(), LANES=TOTAL_LANES, STEPS=TOTAL_STEPS, **options()
            )
        values = partial
    return float(values[0])


def _floats(moments: Law) -> tuple[Tensor, Tensor, Tensor | None]:
    """The law in float32, contiguous."""
    complements = moments.complements
    return (
        moments.covariances.float().contiguous(),
        moments.variances.float().contiguous(),
        None if complements is None else complements.float().contiguous(),
    )


def options(registers: int | None = None) -> dict[str, int]:
    """Of a launch, with this limit of registers on NVIDIA: 128 threads on every target."""
    if torch.version.hip is not None:
        return {"num_warps": WARPS // 2}  # of 64 lanes
    if registers is None or triton.knobs.runtime.interpret:
        return {"num_warps": WARPS}
    return {"num_warps": WARPS, "maxnreg": registers}


def _columns(n_columns: int) -> int:
    """Columns of a tile, a function of the shape alone."""
    return min(MAX_COLUMNS, 1 << max(n_columns - 1, 0).bit_length())


def _tile(size: int, n_rows: int, columns: int) -> int:
    """Rows of a tile of `size` numbers; no number of any result depends on it."""
    if triton.knobs.runtime.interpret:
        size = min(TILE_INTERPRETED, columns * triton.next_power_of_2(n_rows))
    return max(1, size // columns)


def _slot_rows(plan: RowPlan) -> Tensor:
    """The row of each slot, int32 (n_slots,); any pointer where there are none."""
    if not plan.n_slots:
        return plan.targets
    return torch.repeat_interleave(plan.heavy_rows, plan.heavy_slots.diff(), output_size=plan.n_slots)


def _plain_complements(csr: CSR, covariances: Tensor, variances: Tensor) -> Tensor:
    """1 - r^2 as float32 covariances tell it."""
    deviations = variances.sqrt()
    rows = torch.repeat_interleave(deviations, csr.indptr.diff(), output_size=csr.indices.numel())
    sizes = covariances.abs() / (rows * deviations[csr.indices])
    return ((1.0 - sizes) * (1.0 + sizes)).clamp_(min=0.0)
